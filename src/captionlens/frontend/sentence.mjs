// How sure the network is of a word and where it looked for it, in words: "dog · 91% sure · looked most at the upper left".
//
// A word is as the service's JSON has it: { text, probability, confidence, attention, faithfulness, depends_on_picture },
// the last two where it was examined, and confidence where the model is calibrated.

import { whereabouts } from "./heatmap.mjs";

export const percent = (share) => `${Math.round(100 * share)}%`;

// The texts of words in English. A page in another language has an object of its own with the same keys.
export const english = {
  words: "Words of the caption",
  play: "Play",
  stop: "Stop",
  told: ({ word, share, where }) =>
    `${word} · ${percent(share)} sure · looked ${where === "all over" ? "" : "most at the "}${where}`,
  examined: ({ probability, blanked, control }) =>
    `probability ${percent(probability)}, ${percent(blanked)} without what it looked at, ` +
    `${percent(control)} without as much elsewhere`,
  seen: "", // that a word depended on the picture goes without saying
  unseen: "did not depend on the picture",
};

// Puts a text into an element, or into one of its attributes: `make` makes it of the texts of a language.
export function sayInEnglish(element, make, attribute) {
  if (attribute) element.setAttribute(attribute, make(english));
  else element.textContent = make(english);
}

// How sure the network is of a word: its confidence, or its probability where the model is not calibrated.
export const certainty = (word) => word.confidence ?? word.probability;

export function sentence(word, strings) {
  const where = whereabouts(word.attention);
  const facts = [strings.told({ word: word.text, share: certainty(word), where })];
  if (word.faithfulness) {
    facts.push(strings.examined(word.faithfulness));
    facts.push(word.depends_on_picture ? strings.seen : strings.unseen);
  }
  return facts.filter(Boolean).join(" · ");
}
