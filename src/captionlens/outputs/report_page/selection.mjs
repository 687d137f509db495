// Which photographs are listed, and in which order: the form above the list.

import { element } from "./elements.mjs";

const PAUSE = 150; // milliseconds without typing before the search
const KINDS = [
  ["all", "All"],
  ["unsure", "Not sure"],
  ["withheld", "Withheld"],
  ["failed", "Failed"],
  ["corrected", "Corrected"],
];

const NO_FOLDER = "/"; // the value that stands for photographs in none

const liesIn = (folder, wanted) => {
  if (wanted === NO_FOLDER) return !folder;
  return !wanted || `${folder}/`.startsWith(`${wanted}/`);
};

const count = (number) => number.toLocaleString("en");

// Without case and accents.
const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

const collator = new Intl.Collator("en", { numeric: true });
const last = (sureness, otherwise) => sureness ?? otherwise; // what failed comes last in either direction
const ORDERS = {
  given: (one, other) => one.number - other.number,
  name: (one, other) => collator.compare(one.path, other.path),
  least: (one, other) => last(one.sureness, 2) - last(other.sureness, 2),
  most: (one, other) => last(other.sureness, -1) - last(one.sureness, -1),
};

export class Selection {
  constructor(form, { records, folders, corrections, changed }) {
    Object.assign(this, { form, records, corrections });
    const texts = records.map(({ path, text = "", keywords = [], withheld }) =>
      folded([path, withheld ? "" : text, ...keywords].join("\n")),
    );
    this.texts = new Map(records.map((record, at) => [record, texts[at]]));
    this.fillFolders(folders);
    this.fillKinds();
    form.hidden = records.length < 2;
    form.addEventListener("submit", (event) => event.preventDefault());
    this.listen(changed);
  }

  listen(changed) {
    const { text } = this.form.elements;
    let pause = null;
    const apply = () => {
      clearTimeout(pause);
      pause = null;
      changed();
    };
    text.addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(apply, PAUSE);
    });
    // Leaving the search field is a change, too. Were the list then made anew, the click that left it would be lost.
    this.form.addEventListener("change", ({ target }) => (target !== text || pause !== null) && apply());
  }

  // Every folder that has photographs, or folders with photographs in it.
  fillFolders(folders) {
    const counts = new Map();
    const add = (name) => counts.set(name, (counts.get(name) ?? 0) + 1);
    for (const { folder } of this.records) {
      if (!folder) add(NO_FOLDER);
      for (let end = folder.length; end > 0; end = folder.lastIndexOf("/", end - 1)) add(folder.slice(0, end));
    }
    const select = this.form.elements.folder;
    const names = [...counts.keys()].sort(collator.compare);
    select.replaceChildren(
      new Option(`All (${count(this.records.length)})`, ""),
      ...names.map((name) => new Option(`${name === NO_FOLDER ? "In no folder" : name} (${count(counts.get(name))})`, name)),
    );
    select.parentElement.hidden = folders.length < 2;
  }

  // Anew after every correction, as it shows how many there are of each kind.
  fillKinds() {
    const select = this.form.elements.kind;
    const chosen = select.value || "all";
    const options = KINDS.map(([kind, name]) => [kind, name, this.records.filter((one) => this.is(one, kind)).length])
      .filter(([kind, , there]) => there || kind === "all" || kind === chosen)
      .map(([kind, name, there]) => element("option", { value: kind, textContent: `${name} (${count(there)})` }));
    select.replaceChildren(...options);
    select.value = chosen;
  }

  is(record, kind) {
    if (kind === "corrected") return record.correctable && this.corrections.get(record.path) !== undefined;
    return kind === "all" || record.kind === kind;
  }

  // The records wanted, in order. A search wants all its words, anywhere in the path, the caption and its keywords.
  chosen() {
    const { text, order, kind, folder } = this.form.elements;
    const words = folded(text.value).split(/\s+/).filter(Boolean);
    const wanted = this.records.filter((record) => {
      if (!this.is(record, kind.value)) return false;
      if (!liesIn(record.folder, folder.value)) return false;
      if (!words.length) return true;
      const there = this.texts.get(record) + folded(this.corrections.get(record.path) ?? "");
      return words.every((word) => there.includes(word));
    });
    return wanted.sort(ORDERS[order.value]);
  }

  // How many of all are listed, in words.
  told(listed) {
    const all = this.records.length;
    const noun = all === 1 ? "photograph" : "photographs";
    return listed === all ? `${count(all)} ${noun}` : `${count(listed)} of ${count(all)} ${noun}`;
  }
}
