"use strict";
// Lays the map of a word over its photograph: on hover, on focus, on a tap, and word by word on "Play".
// The maps are drawn as captionlens.attention.heatmap draws them; its constants stand on <body>.
(() => {
  const { palette, floor, opacity } = document.body.dataset;
  const colours = palette.match(/.{6}/g).map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const [faintest, strongest] = opacity.split(" ").map(Number);
  const LONGEST_SIDE = 240; // of the drawing in pixels; the browser stretches it over the photograph
  const STEP = 900; // milliseconds a word when playing

  function colour(value) {
    const place = value * (colours.length - 1);
    const low = Math.min(Math.floor(place), colours.length - 2);
    return colours[low].map((from, channel) => from + (place - low) * (colours[low + 1][channel] - from));
  }

  // Quadratic B-spline, mirrored at the edges: per pixel the three cells and their weights.
  function taps(cells, pixels) {
    return Array.from({ length: pixels }, (_, pixel) => {
      const place = ((pixel + 0.5) * cells) / pixels - 0.5;
      const nearest = Math.floor(place + 0.5);
      const offset = place - nearest;
      const clamp = (cell) => Math.min(Math.max(cell, 0), cells - 1);
      return [
        [clamp(nearest - 1), (0.5 - offset) ** 2 / 2],
        [clamp(nearest), 0.75 - offset ** 2],
        [clamp(nearest + 1), (0.5 + offset) ** 2 / 2],
      ];
    });
  }

  // Grid (rows x columns), as multiples of the uniform weight, to strengths in [0, 1] a pixel.
  function strengths(grid, rows, columns, width, height) {
    const across = taps(columns, width);
    const down = taps(rows, height);
    const wide = new Float32Array(rows * width);
    for (let row = 0; row < rows; row++)
      for (let x = 0; x < width; x++)
        for (const [cell, weight] of across[x]) wide[row * width + x] += weight * grid[row * columns + cell];
    const full = new Float32Array(height * width);
    for (let y = 0; y < height; y++)
      for (const [row, weight] of down[y])
        for (let x = 0; x < width; x++) full[y * width + x] += weight * wide[row * width + x];
    const scale = full.reduce((most, value) => Math.max(most, value), Number(floor));
    return full.map((value) => value / scale);
  }

  function draw(canvas, word, rows, columns) {
    const bytes = Uint8Array.from(atob(word.dataset.map), (letter) => letter.charCodeAt(0));
    const peak = Number(word.dataset.peak);
    const grid = Float32Array.from(bytes, (byte) => (byte / 255) * peak);
    const context = canvas.getContext("2d");
    const picture = context.createImageData(canvas.width, canvas.height);
    strengths(grid, rows, columns, canvas.width, canvas.height).forEach((value, pixel) => {
      const alpha = faintest + (strongest - faintest) * value ** 2;
      picture.data.set([...colour(value), 255 * alpha], 4 * pixel);
    });
    context.putImageData(picture, 0, 0);
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
      const width = Number(photograph.getAttribute("width"));
      const height = Number(photograph.getAttribute("height"));
      const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
      canvas.width = Math.max(1, Math.round(width * scale));
      canvas.height = Math.max(1, Math.round(height * scale));
      draw(canvas, word, rows, columns);
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

  const key = document.querySelector(".scale canvas");
  key.width = 64;
  key.height = 1;
  const pen = key.getContext("2d");
  for (let x = 0; x < key.width; x++) {
    pen.fillStyle = `rgb(${colour(x / (key.width - 1)).map(Math.round)})`;
    pen.fillRect(x, 0, 1, 1);
  }
  document.querySelectorAll(".entry").forEach(animate);
  document.addEventListener("entry", (event) => animate(event.target)); // of entries that a page adds later
})();
