// What can be taken along of one photograph: the sentence as alt text, the figure, and the service's answer.

import { Problem, ask } from "./api.mjs";
import { button } from "./controls.mjs";
import { element } from "./elements.mjs";
import { query } from "./questions.mjs";
import { say } from "./strings.mjs";

export class TakeAlong {
  // `shown()` is what is shown: { question, answer }.
  constructor(file, shown) {
    Object.assign(this, { file, shown });
    this.figure = button("button figure", "figure", () => this.downloadFigure());
    const json = button("button json", "json", () => this.downloadAnswer());
    say(this.figure, "figureLong", "title");
    say(json, "jsonLong", "title");
    this.buttons = [button("button copy", "copy", () => this.copy()), this.figure, json];
    this.told = element("output", { className: "copied" });
  }

  tell(make) {
    this.told.replaceChildren();
    say(this.told, make);
  }

  async copy() {
    const { caption } = this.shown().answer;
    try {
      await navigator.clipboard.writeText(caption);
      this.tell("copied");
    } catch {
      // Without a secure connection there is no clipboard: the person copies what is selected.
      const field = element("input", { readOnly: true, value: caption, lang: "en" });
      say(field, "copyByHand", "aria-label");
      this.tell("");
      this.told.replaceChildren(field);
      field.select();
      field.focus();
    }
  }

  async downloadFigure() {
    if (this.figure.getAttribute("aria-disabled") === "true") return;
    this.figure.setAttribute("aria-disabled", "true");
    this.tell("preparing");
    try {
      const { signal } = new AbortController();
      const question = query(this.shown().question);
      const picture = await ask("v1/caption/figure", this.file, question, { signal, read: "blob" });
      download(picture, `${this.stem()}-attention.png`);
      this.tell("");
    } catch (error) {
      this.tell(error instanceof Problem ? error.tell : () => error.message);
    }
    this.figure.removeAttribute("aria-disabled");
  }

  downloadAnswer() {
    const content = JSON.stringify(this.shown().answer, null, 1);
    download(new Blob([content], { type: "application/json" }), `${this.stem()}.json`);
  }

  stem() {
    return this.file.name.replace(/\.[^.]*$/, "") || "photograph";
  }
}

function download(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
