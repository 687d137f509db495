// The box on one photograph: dragged, put where one taps, or moved by keys.

import { say, text } from "./strings.mjs";

const STEP = 0.05; // of the photograph's side, by key
const SMALLEST = 0.05;
const FIRST = [0.3, 0.3, 0.7, 0.7]; // left, top, right, bottom, as fractions

export class Box {
  // `asked(region)` is called to ask about the box, `left()` when the mode is left without.
  constructor(picture, box, told, { asked, left }) {
    Object.assign(this, { picture, box, told, asked, left });
    this.region = FIRST;
    this.on = false;
    this.start = null; // where a drag began
    picture.addEventListener("pointerdown", (event) => this.on && this.press(event));
    picture.addEventListener("pointermove", (event) => this.start && this.drag(event));
    picture.addEventListener("pointerup", (event) => this.start && this.release(event));
    picture.addEventListener("pointercancel", () => (this.start = null));
    box.addEventListener("keydown", (event) => this.on && this.key(event));
    say(box, () => text("box", this.sides()), "aria-label");
  }

  // Begins the mode, with the box where it last was.
  open() {
    this.on = true;
    this.picture.classList.add("boxing");
    this.box.tabIndex = 0;
    this.box.hidden = false;
    this.place(this.region);
    this.box.focus();
  }

  // Ends the mode; a region stays drawn, none takes the box away.
  close(region) {
    this.on = false;
    this.start = null;
    this.picture.classList.remove("boxing");
    this.box.removeAttribute("tabindex");
    this.box.hidden = !region;
    if (region) this.place(region);
    say(this.told, "");
  }

  sides() {
    const [left, top, right, bottom] = this.region;
    return { left, top, width: right - left, height: bottom - top };
  }

  place(region) {
    this.region = region;
    const sides = this.sides();
    for (const side in sides) this.box.style[side] = `${100 * sides[side]}%`;
    say(this.box, () => text("box", this.sides()), "aria-label");
    if (this.on) say(this.told, () => text("box", this.sides()));
  }

  // Moves the box and changes its size, and keeps it within the photograph.
  move(across, down, wider = 0, higher = 0) {
    const { left, top, width, height } = this.sides();
    const within = (value, least, most) => Math.min(Math.max(value, least), most);
    const newWidth = within(width + wider, SMALLEST, 1);
    const newHeight = within(height + higher, SMALLEST, 1);
    const newLeft = within(left + across, 0, 1 - newWidth);
    const newTop = within(top + down, 0, 1 - newHeight);
    this.place([newLeft, newTop, newLeft + newWidth, newTop + newHeight]);
  }

  grow(step) {
    this.move(-step, -step, 2 * step, 2 * step);
  }

  point(event) {
    const { left, top, width, height } = this.picture.getBoundingClientRect();
    const within = (value) => Math.min(Math.max(value, 0), 1);
    return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
  }

  press(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.start = this.point(event);
    this.picture.setPointerCapture(event.pointerId);
    this.box.focus({ preventScroll: true });
  }

  drawn(event) {
    const [fromX, fromY] = this.start;
    const [toX, toY] = this.point(event);
    return [Math.min(fromX, toX), Math.min(fromY, toY), Math.max(fromX, toX), Math.max(fromY, toY)];
  }

  large([left, top, right, bottom]) {
    return right - left >= SMALLEST && bottom - top >= SMALLEST;
  }

  drag(event) {
    const region = this.drawn(event);
    if (this.large(region)) this.place(region);
  }

  release(event) {
    const region = this.drawn(event);
    const [x, y] = this.point(event);
    this.start = null;
    if (this.large(region)) {
      this.place(region);
      this.asked(region);
    } else {
      // A tap: the box goes there, and a button or Enter asks.
      const { left, top, width, height } = this.sides();
      this.move(x - left - width / 2, y - top - height / 2);
    }
  }

  key(event) {
    const [across, down] =
      { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key] ?? [];
    if (across !== undefined) {
      if (event.shiftKey) this.move(0, 0, across, down);
      else this.move(across, down);
    } else if (event.key === "Enter") this.asked(this.region);
    else if (event.key === "Escape") this.left();
    else return;
    event.preventDefault();
  }
}
