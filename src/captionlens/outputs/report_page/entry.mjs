// One photograph in the list.

import { Correcting } from "./correcting.mjs";
import { element } from "./elements.mjs";
import { controls, picture, toolbar, wordButton } from "./parts.mjs";
import { wordsOf } from "./records.mjs";
import { percent, sayInEnglish } from "./sentence.mjs";
import { Words } from "./words.mjs";

const TALLEST = 22; // rem, as in style.css

export class Entry {
  constructor(record, corrections) {
    this.record = record;
    const id = `n${record.number}`;
    const name = element("h2", { className: "name", id, textContent: record.path, tabIndex: -1 });
    this.column = element("div", {}, name);
    this.element = element("article", { className: record.kind === "failed" ? "entry failed" : "entry" }, this.column);
    this.element.setAttribute("aria-labelledby", id);
    if (record.kind === "failed") this.column.append(element("p", { className: "error", textContent: record.error }));
    else this.build(corrections);
  }

  build(corrections) {
    const { image: src, width, height, keywords, correctable, nameless } = this.record;
    this.image = element("img", { loading: "lazy", decoding: "async", width, height, src });
    this.image.style.width = `min(${width}px, ${(TALLEST * width) / height}rem)`; // nothing moves when it is loaded
    this.element.prepend(picture(this.image));
    this.column.append(...this.doubt());
    if (correctable) {
      this.correcting = new Correcting(this.record, corrections);
      this.column.append(this.correcting.sentence);
    }
    this.addCaption();
    if (keywords) this.column.append(element("p", { className: "note", textContent: `Keywords: ${keywords.join(", ")}` }));
    this.column.append(correctable ? this.correcting.actions : element("p", { className: "note", textContent: nameless }));
    this.refresh();
  }

  // After a change of the corrections.
  refresh() {
    if (!this.image) return;
    this.correcting?.refresh();
    const { withheld, doubt, hedged, text } = this.record;
    this.image.alt = this.correcting?.correction ?? (withheld ? doubt : (hedged ?? text));
  }

  // How sure the captioner is of the caption.
  doubt() {
    const { doubt, withheld, confidence } = this.record;
    const share = confidence === undefined || (doubt && !withheld) ? "" : `${percent(confidence)} sure`;
    return [
      ...(share ? [element("p", { className: "sure", textContent: share })] : []),
      ...(doubt ? [element("p", { className: "doubt", textContent: doubt })] : []),
    ];
  }

  // The words with their maps; those of a withheld caption only once they are asked for.
  addCaption() {
    const made = wordsOf(this.record);
    if (!made.length) {
      this.column.append(element("p", { className: "told", textContent: "The caption has no words." }));
      return;
    }
    const show = (place) => {
      place.replaceWith(toolbar(sayInEnglish), controls());
      const words = new Words(this.element);
      words.fill(made, made.map(wordButton));
      return words;
    };
    const place = element("p");
    this.column.append(place);
    if (!this.record.withheld) {
      show(place);
      return;
    }
    const reveal = element("button", { type: "button", className: "button", textContent: "Show the withheld caption" });
    reveal.addEventListener("click", () => show(place).focus(0));
    place.append(reveal);
  }
}
