// The words of one caption: buttons in a toolbar, each of which lays its map over the photograph.

import { element } from "./elements.mjs";
import { say, text } from "./strings.mjs";

const STEP = 900; // milliseconds a word when playing
const FADE = 180; // milliseconds from one map to the next
const still = matchMedia("(prefers-reduced-motion: reduce)");

// How sure the network is of a word: its confidence, or its probability where the model is not calibrated.
const certainty = (word) => word.confidence ?? word.probability;

export class Words {
  // `held(index or null)` is called when a word is held or let go.
  constructor(picture, toolbar, play, told, held) {
    Object.assign(this, { picture, toolbar, play, told, heldChanged: held });
    this.canvas = picture.querySelector("canvas");
    this.words = [];
    this.buttons = [];
    this.held = null; // the number of the word that a click or a tap holds
    this.shown = null; // the number of the word whose map lies over the photograph
    this.grid = null; // what is drawn
    this.timer = null;
    play.addEventListener("click", () => this.togglePlay());
  }

  fill(words) {
    this.stop();
    this.show(null);
    this.words = words;
    this.held = null;
    this.buttons = words.map((word, index) => this.button(word, index));
    this.toolbar.replaceChildren(...this.buttons);
    this.toolbar.hidden = this.play.hidden = !words.length;
    this.mark();
  }

  button(word, index) {
    const made = element("button", { type: "button", className: "word", tabIndex: index ? -1 : 0 });
    made.append(element("span", { textContent: word.text, lang: "en" }));
    made.dataset.index = index;
    made.classList.add(`p${Math.min(4, Math.floor(certainty(word) * 5))}`);
    made.setAttribute("aria-expanded", "false");
    const quiet = () => this.timer === null;
    made.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && quiet() && this.show(index));
    made.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && quiet() && this.show(this.held));
    made.addEventListener("focus", () => quiet() && made.matches(":focus-visible") && this.show(index));
    made.addEventListener("blur", () => quiet() && this.show(this.held));
    made.addEventListener("click", () => this.hold(this.held === index ? null : index));
    made.addEventListener("keydown", (event) => this.walk(event, index));
    return made;
  }

  // Marks the words that did not depend on the picture, once that is known.
  mark() {
    this.words.forEach((word, index) => {
      const unseen = word.depends_on_picture === false;
      this.buttons[index].classList.toggle("unseen", unseen);
      if (unseen) say(this.buttons[index], "unseen", "title");
    });
    this.tell();
  }

  walk(event, index) {
    const last = this.words.length - 1;
    const to = { ArrowRight: Math.min(index + 1, last), ArrowLeft: Math.max(index - 1, 0), Home: 0, End: last };
    if (event.key in to) {
      event.preventDefault();
      this.stop();
      this.focus(to[event.key]);
    } else if (event.key === "Escape") {
      this.hold(null);
      this.show(null);
    }
  }

  focus(index) {
    this.buttons.forEach((button, at) => (button.tabIndex = at === index ? 0 : -1));
    this.buttons[index].focus();
  }

  hold(index) {
    this.stop();
    this.held = index;
    this.buttons.forEach((button, at) => {
      button.setAttribute("aria-expanded", String(at === index));
      if (index !== null) button.tabIndex = at === index ? 0 : -1;
    });
    this.show(index);
    this.heldChanged(index);
  }

  show(index) {
    const before = this.shown;
    this.shown = index;
    this.buttons.forEach((button, at) => button.classList.toggle("shown", at === index));
    const map = this.words[index]?.attention;
    this.picture.classList.toggle("marked", Boolean(map));
    this.tell();
    if (map && index !== before) this.draw(map, before !== null);
  }

  tell() {
    const word = this.words[this.shown];
    say(this.told, word ? () => told(word) : "");
  }

  // Lays a map over the photograph; it grows out of the one before where that is still seen.
  draw(map, seen) {
    const image = this.picture.querySelector("img");
    const rows = map.length;
    const columns = map[0].length;
    const to = Float32Array.from(map.flat(), (weight) => weight * rows * columns);
    const from = seen && !still.matches && this.grid?.length === to.length ? this.grid : to;
    heatmap.fit(this.canvas, image.naturalWidth || 4, image.naturalHeight || 3);
    cancelAnimationFrame(this.frame);
    delete this.canvas.dataset.drawn;
    const shown = this.shown;
    const start = performance.now();
    const step = () => {
      const part = from === to ? 1 : Math.min(1, (performance.now() - start) / FADE);
      this.grid = to.map((weight, cell) => (1 - part) * from[cell] + part * weight);
      heatmap.draw(this.canvas, this.grid, rows, columns);
      if (part < 1) this.frame = requestAnimationFrame(step);
      else this.canvas.dataset.drawn = shown; // the word whose map it now is
    };
    step();
  }

  togglePlay() {
    if (this.timer !== null) {
      this.stop();
      this.show(this.held);
      return;
    }
    this.hold(null);
    say(this.play, "stop");
    let next = 0;
    const step = () => {
      if (next < this.words.length) return this.show(next++);
      this.stop();
      this.show(null);
    };
    this.timer = setInterval(step, STEP);
    step();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    say(this.play, "play");
  }
}

function told(word) {
  const map = word.attention;
  const where = map ? heatmap.whereabouts(map.flat(), map.length, map[0].length) : "all over";
  const facts = [text("told", { word: word.text, share: certainty(word), where })];
  if (word.faithfulness) facts.push(text("examined", word.faithfulness));
  if (word.depends_on_picture !== undefined) facts.push(text(word.depends_on_picture ? "seen" : "unseen"));
  return facts.join(" · ");
}
