// Brings the report's captions to life: what each button of the markup carries becomes a word as sentence.mjs describes it.

import { drawScale } from "./heatmap.mjs";
import { Words } from "./words.mjs";

const numbers = (text) => text.split(" ").map(Number);

// The map that a button carries: a byte a cell, and the peak as a multiple of the uniform weight.
function attention({ dataset: { map, peak } }, rows, columns) {
  const unit = Number(peak) / (255 * rows * columns);
  const weights = Array.from(atob(map), (letter) => letter.charCodeAt(0) * unit);
  return Array.from({ length: rows }, (_, row) => weights.slice(row * columns, (row + 1) * columns));
}

function word(button, rows, columns) {
  const made = {
    text: button.textContent,
    confidence: Number(button.dataset.certainty),
    get attention() {
      return attention(button, rows, columns); // only when it is shown: a report may have many thousands
    },
  };
  if ("examined" in button.dataset) {
    const [probability, blanked, control] = numbers(button.dataset.examined);
    made.faithfulness = { probability, blanked, control };
    made.depends_on_picture = !button.classList.contains("unseen");
  }
  return made;
}

drawScale(document.querySelector(".scale canvas"));
for (const caption of document.querySelectorAll(".caption")) {
  const { rows, columns } = caption.dataset;
  const buttons = [...caption.querySelectorAll(".word")];
  const words = buttons.map((button) => word(button, Number(rows), Number(columns)));
  new Words(caption.closest(".entry")).fill(words, buttons);
}
