// Captions that a person has written instead of the captioner's: kept by the browser, and exported as a table.

export class Corrections {
  // `changed()` is called after every change, in this window or in another one that shows the same report.
  constructor(identity, changed) {
    this.key = `captionlens.corrections.${identity}`;
    this.changed = changed;
    this.kept = true; // whether the browser keeps them
    this.texts = new Map(); // by path
    this.read();
    addEventListener("storage", (event) => {
      if (event.key !== this.key && event.key !== null) return; // null: everything was removed
      this.read();
      changed();
    });
  }

  get(path) {
    return this.texts.get(path);
  }

  // Without a text, the correction is taken back.
  set(path, text) {
    if (this.kept) this.read(); // another window may have written meanwhile
    if (text) this.texts.set(path, text);
    else this.texts.delete(path);
    this.write();
    this.changed();
  }

  read() {
    try {
      const stored = Object.entries(JSON.parse(localStorage.getItem(this.key) ?? "{}"));
      this.texts = new Map(stored.filter(([, text]) => typeof text === "string"));
    } catch (error) {
      if (!(error instanceof SyntaxError)) this.kept = false; // what is not JSON was not written by a report
    }
  }

  write() {
    try {
      localStorage.setItem(this.key, JSON.stringify(Object.fromEntries(this.texts)));
    } catch {
      this.kept = false; // storage is forbidden or full
    }
  }
}

// RFC 4180; spaces at the ends of a cell are quoted, too, as many programs cut them off otherwise.
const cell = (text) => (/[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

export function table(rows) {
  return [["image", "caption"], ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

export function download(text, name) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  Object.assign(document.createElement("a"), { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // the browser may still be asking where to save it
}
