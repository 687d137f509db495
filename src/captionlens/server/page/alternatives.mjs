// The panel under a caption with the words that could stand in the place of one.

import { element } from "./elements.mjs";
import { say, text } from "./strings.mjs";

const MOST = 6;

export class Alternatives {
  // `chosen(index, word)` is called with the place and the other word, `left(index)` when the panel is left by key.
  constructor(panel, { chosen, left }) {
    Object.assign(this, { panel, chosen, left });
    this.index = null;
    this.title = element("h3", { id: `${panel.id}-title` });
    this.list = element("div", { className: "others" });
    panel.append(this.title, this.list);
    panel.setAttribute("role", "group");
    panel.setAttribute("aria-labelledby", this.title.id);
    panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.left(this.index);
    });
  }

  show(words, index) {
    this.index = index;
    this.panel.hidden = index === null;
    if (index === null) return;
    const { text: word, alternatives = [] } = words[index];
    say(this.title, () => text("instead", { word }));
    const others = alternatives.slice(0, MOST).map((other) => this.button(index, other));
    this.list.replaceChildren(...(others.length ? others : [say(element("p"), "noOthers")]));
  }

  button(index, { text: word, probability: share }) {
    const name = element("span", { textContent: word, lang: "en" });
    const chance = say(element("span", { className: "chance" }), () => text("chance", { share }));
    const made = element("button", { type: "button", className: "button" }, name, " ", chance);
    made.addEventListener("click", () => this.chosen(index, word));
    return made;
  }
}
