// What words.mjs wants in an entry.

import { element } from "./elements.mjs";
import { certainty } from "./sentence.mjs";

// The photograph, and the canvas over it.
export function picture(image) {
  const canvas = element("canvas", { className: "map" });
  canvas.setAttribute("aria-hidden", "true");
  return element("div", { className: "picture" }, image, canvas);
}

export function toolbar(say) {
  const made = element("div", { className: "caption", hidden: true });
  made.setAttribute("role", "toolbar");
  say(made, (strings) => strings.words, "aria-label");
  return made;
}

// The button that plays, and what is told of the word that is shown.
export function controls() {
  const play = element("button", { type: "button", className: "play", hidden: true });
  return element("div", { className: "controls" }, play, element("output", { className: "told" }));
}

// The surer the network, the thicker the line under the word.
export function wordButton(word, index) {
  const className = `word p${Math.min(4, Math.floor(certainty(word) * 5))}`;
  const text = element("span", { textContent: word.text, lang: "en" }); // captions are, whatever the page's language
  const made = element("button", { type: "button", className }, text);
  made.dataset.index = index;
  return made;
}
