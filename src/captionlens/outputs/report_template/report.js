"use strict";
// Lays the map of a word over its photograph: on hover, on focus, on a tap, and word by word on "Play".
// heatmap.js, which draws the maps, comes before.
(() => {
  const STEP = 900; // milliseconds a word when playing

  // The map that a word carries, as multiples of the uniform weight.
  function map(word) {
    const bytes = Uint8Array.from(atob(word.dataset.map), (letter) => letter.charCodeAt(0));
    return Float32Array.from(bytes, (byte) => (byte / 255) * Number(word.dataset.peak));
  }

  function animate(entry) {
    const words = [...entry.querySelectorAll(".word")];
    if (!words.length) return;
    const frame = entry.querySelector(".picture");
    const photograph = frame.querySelector("img");
    const canvas = frame.querySelector("canvas");
    const caption = entry.querySelector(".caption");
    const play = entry.querySelector(".play");
    const told = entry.querySelector(".told");
    const rows = Number(caption.dataset.rows);
    const columns = Number(caption.dataset.columns);
    let kept = null; // the word that a tap holds
    let timer = null;

    function show(word) {
      for (const other of words) {
        other.classList.toggle("shown", other === word);
        other.setAttribute("aria-pressed", String(other === word && other === kept));
      }
      frame.classList.toggle("marked", word !== null);
      told.textContent = word ? word.dataset.told : "";
      if (!word) return;
      heatmap.fit(canvas, Number(photograph.getAttribute("width")), Number(photograph.getAttribute("height")));
      heatmap.draw(canvas, map(word), rows, columns);
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    }

    function focus(index) {
      words.forEach((word, at) => (word.tabIndex = at === index ? 0 : -1));
      words[index].focus();
    }

    words.forEach((word, index) => {
      word.tabIndex = index === 0 ? 0 : -1;
      word.setAttribute("aria-pressed", "false");
      word.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse" && timer === null) show(word);
      });
      word.addEventListener("pointerleave", (event) => {
        if (event.pointerType === "mouse" && timer === null) show(kept);
      });
      word.addEventListener("focus", () => {
        if (timer === null && word.matches(":focus-visible")) show(word);
      });
      word.addEventListener("blur", () => {
        if (timer === null) show(kept);
      });
      word.addEventListener("click", () => {
        stop();
        kept = kept === word ? null : word;
        show(kept);
      });
      word.addEventListener("keydown", (event) => {
        const last = words.length - 1;
        const to = { ArrowRight: Math.min(index + 1, last), ArrowLeft: Math.max(index - 1, 0), Home: 0, End: last };
        if (event.key in to) {
          event.preventDefault();
          stop();
          focus(to[event.key]);
        } else if (event.key === "Escape") {
          stop();
          kept = null;
          show(null);
        }
      });
    });

    play.hidden = false;
    play.addEventListener("click", () => {
      if (timer !== null) {
        stop();
        show(kept);
        return;
      }
      let next = 0;
      kept = null;
      play.textContent = "Stop";
      const step = () => {
        if (next === words.length) {
          stop();
          show(null);
        } else {
          show(words[next++]);
        }
      };
      timer = setInterval(step, STEP);
      step();
    });
  }

  heatmap.drawScale(document.querySelector(".scale canvas"));
  document.querySelectorAll(".entry").forEach(animate);
  document.addEventListener("entry", (event) => animate(event.target)); // of entries that a page adds later
})();
