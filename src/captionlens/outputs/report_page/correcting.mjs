// Correcting one caption: the sentence that a person wrote, and the form to write it in.

import { element } from "./elements.mjs";

const tidied = (text) => text.trim().replace(/\s+/g, " ");

export class Correcting {
  // `sentence` and `actions` are for the entry; the form opens in `actions`.
  constructor(record, corrections) {
    Object.assign(this, { record, corrections });
    this.text = element("b", { lang: "en" });
    this.sentence = element("p", { className: "corrected", hidden: true }, element("span", {}, "Corrected"), this.text);
    this.correct = this.button("Correct", () => this.open());
    this.undo = this.button("Undo correction", () => this.takeBack());
    this.buttons = element("div", { className: "actions" }, this.correct, this.undo);
    this.actions = element("div", {}, this.buttons);
    this.refresh();
  }

  button(name, clicked) {
    const made = element("button", { type: "button", className: "button", textContent: name });
    made.setAttribute("aria-label", `${name}: ${this.record.path}`);
    made.addEventListener("click", clicked);
    return made;
  }

  get correction() {
    return this.corrections.get(this.record.path);
  }

  refresh() {
    const { correction } = this;
    this.text.textContent = correction ?? "";
    this.sentence.hidden = this.undo.hidden = correction === undefined;
  }

  open() {
    const { record, correction } = this;
    const id = `edit-${record.number}`;
    this.field = element("textarea", { id, rows: 2, required: true, lang: "en" });
    this.field.value = correction ?? (record.withheld ? "" : record.text);
    this.field.addEventListener("keydown", (event) => this.key(event));
    const cancel = element("button", { type: "button", className: "button", textContent: "Cancel" });
    cancel.addEventListener("click", () => this.close());
    const save = element("button", { className: "button", textContent: "Save" });
    this.form = element(
      "form",
      { className: "editing" },
      element("label", { htmlFor: id }, `Caption of ${record.path}`),
      this.field,
      element("div", { className: "actions" }, save, cancel),
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.save();
    });
    this.actions.replaceChildren(this.form);
    this.field.focus();
    this.field.setSelectionRange(this.field.value.length, this.field.value.length);
  }

  // A caption is one line.
  key(event) {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      this.form.requestSubmit();
    } else if (event.key === "Escape") {
      this.close();
    }
  }

  // The captioner's own sentence is a correction only where it was in doubt.
  save() {
    const { record } = this;
    const text = tidied(this.field.value);
    this.corrections.set(record.path, record.kind === "sure" && text === record.text ? "" : text);
    this.close();
  }

  close() {
    this.actions.replaceChildren(this.buttons);
    this.correct.focus();
  }

  takeBack() {
    this.corrections.set(this.record.path, "");
    this.correct.focus();
  }
}
