// Asking about a part of one photograph: the button that begins and ends it, the bar with its help, and the box.

import { Box } from "./box.mjs";
import { button } from "./controls.mjs";
import { element } from "./elements.mjs";
import { say } from "./strings.mjs";

const STEP = 0.05; // of the photograph's side, by button

export class Boxing {
  // `begun()` is called when it begins, `asked(region)` to ask about the box.
  constructor(picture, { begun, asked }) {
    Object.assign(this, { begun, asked });
    this.region = null; // of what is shown; it stays drawn
    const outline = element("div", { className: "box", hidden: true });
    outline.setAttribute("role", "application");
    picture.append(outline);
    const told = element("output", { className: "boxtold" });
    this.box = new Box(picture, outline, told, { asked: (region) => this.ask(region), left: () => this.leave() });
    this.button = button("button ask", "ask", () => (this.box.on ? this.leave() : this.enter()));
    this.button.setAttribute("aria-expanded", "false");
    this.bar = element(
      "div",
      { className: "boxing-bar", hidden: true },
      say(element("p"), "boxHelp"),
      told,
      button("button askbox", "askBox", () => this.ask(this.box.region)),
      button("button smaller", "smaller", () => this.box.grow(-STEP)),
      button("button larger", "larger", () => this.box.grow(STEP)),
    );
  }

  enter() {
    this.begun();
    this.turn(true);
    this.box.open();
  }

  // Ends it; the box of `region` stays drawn, null takes it away.
  close(region) {
    this.region = region;
    this.turn(false);
    this.box.close(region);
  }

  leave() {
    this.close(this.region);
    this.button.focus();
  }

  ask(region) {
    this.close(region); // drawn while the answer is on its way
    this.button.focus();
    this.asked(region);
  }

  turn(on) {
    this.bar.hidden = !on;
    say(this.button, on ? "leave" : "ask");
    this.button.setAttribute("aria-expanded", String(on));
  }
}
