// The words of one caption: buttons in a toolbar, each of which lays its map over the photograph.

import { draw, fit } from "./heatmap.mjs";
import { sayInEnglish, sentence } from "./sentence.mjs";

const STEP = 900; // milliseconds a word when playing
const FADE = 180; // milliseconds from one map to the next
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Words {
  // `entry` holds a .picture with an img and a canvas, the toolbar .caption, the button .play and the output .told.
  // `say` is that of sentence.mjs, or of a page in several languages. `state` is the attribute that marks a held word:
  // aria-expanded where `heldChanged(index or null)` opens something.
  constructor(entry, { say = sayInEnglish, state = "aria-pressed", heldChanged = () => {} } = {}) {
    Object.assign(this, { say, state, heldChanged });
    for (const part of ["picture", "caption", "play", "told"]) this[part] = entry.querySelector(`.${part}`);
    this.canvas = this.picture.querySelector("canvas");
    this.words = []; // as sentence.mjs describes them
    this.buttons = []; // one a word
    this.held = null; // the number of the word that a click or a tap holds
    this.shown = null; // the number of the word whose map lies over the photograph
    this.map = null; // what is drawn
    this.timer = null; // while playing
    this.play.addEventListener("click", () => this.togglePlay());
  }

  // Takes the words of a caption, and a button for each.
  fill(words, buttons) {
    this.stop();
    this.show(null);
    this.words = words;
    this.buttons = buttons;
    this.held = null;
    buttons.forEach((button, index) => this.listen(button, index));
    this.caption.replaceChildren(...buttons);
    this.caption.hidden = this.play.hidden = !words.length;
    this.mark();
  }

  listen(button, index) {
    const quiet = () => this.timer === null;
    button.tabIndex = index ? -1 : 0;
    button.setAttribute(this.state, "false");
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && quiet() && this.show(index));
    button.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && quiet() && this.show(this.held));
    button.addEventListener("focus", () => quiet() && button.matches(":focus-visible") && this.show(index));
    button.addEventListener("blur", () => quiet() && this.show(this.held));
    button.addEventListener("click", () => this.hold(this.held === index ? null : index));
    button.addEventListener("keydown", (event) => this.walk(event, index));
  }

  // Marks the words that did not depend on the picture, once that is known.
  mark() {
    this.words.forEach((word, index) => {
      const unseen = word.depends_on_picture === false;
      this.buttons[index].classList.toggle("unseen", unseen);
      if (unseen) this.say(this.buttons[index], (strings) => strings.unseen, "title");
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
      button.setAttribute(this.state, String(at === index));
      if (index !== null) button.tabIndex = at === index ? 0 : -1;
    });
    this.show(index);
    this.heldChanged(index);
  }

  show(index) {
    const before = this.shown;
    this.shown = index;
    this.buttons.forEach((button, at) => button.classList.toggle("shown", at === index));
    this.picture.classList.toggle("marked", index !== null);
    this.tell();
    if (index !== null && index !== before) this.lay(this.words[index].attention, before !== null);
  }

  tell() {
    const word = this.words[this.shown];
    this.say(this.told, (strings) => (word ? sentence(word, strings) : ""));
  }

  // Lays a map over the photograph; it grows out of the one before where that is still seen.
  lay(map, seen) {
    const { naturalWidth, naturalHeight } = this.picture.querySelector("img");
    fit(this.canvas, naturalWidth || 4, naturalHeight || 3);
    cancelAnimationFrame(this.frame);
    delete this.canvas.dataset.drawn;
    const from = seen && !still.matches ? this.map : map;
    const shown = this.shown;
    const start = performance.now();
    const step = () => {
      const part = from === map ? 1 : Math.min(1, (performance.now() - start) / FADE);
      const between = (weight, row, column) => (1 - part) * from[row][column] + part * weight;
      this.map = map.map((weights, row) => weights.map((weight, column) => between(weight, row, column)));
      draw(this.canvas, this.map);
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
    this.say(this.play, (strings) => strings.stop);
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
    this.say(this.play, (strings) => strings.play);
  }
}
