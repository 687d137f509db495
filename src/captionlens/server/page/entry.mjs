// One photograph on the page: its picture, its caption, and what can be asked about it.

import { Alternatives } from "./alternatives.mjs";
import { Problem, ask } from "./api.mjs";
import { Boxing } from "./boxing.mjs";
import { announce, button } from "./controls.mjs";
import { element } from "./elements.mjs";
import { Examination } from "./examination.mjs";
import { controls, picture, toolbar, wordButton } from "./parts.mjs";
import { another, instead, query, within } from "./questions.mjs";
import { say, text } from "./strings.mjs";
import { decoding } from "./settings.mjs";
import { TakeAlong } from "./takealong.mjs";
import { Words } from "./words.mjs";

let count = 0;

export class Entry {
  // `changed(entry)` is called whenever it begins or ends to wait, `removed(entry)` when the person takes it away.
  constructor(file, { limits, changed, removed }) {
    Object.assign(this, { file, limits, changed, removed });
    this.current = null; // what is shown: { question, answer, checked }
    this.before = []; // what was shown earlier, for Back
    this.last = null; // what was asked last, for another try
    this.asking = null; // an AbortController
    this.build(`e${count++}`);
  }

  build(id) {
    const { name } = this.file;
    this.address = URL.createObjectURL(this.file);
    this.image = element("img", { src: this.address, alt: "", draggable: false });
    this.image.addEventListener("error", () => this.cannotShow());
    this.picture = picture(this.image);
    this.title = element("h2", { className: "name", id, textContent: name, tabIndex: -1 });
    const remove = button("button remove", "remove", () => this.remove());
    say(remove, () => text("removeLong", { name }), "aria-label");
    this.note = element("p", { className: "note" });
    this.sure = element("p", { className: "sure" });
    this.where = say(element("p", { className: "where", hidden: true }), "onlyBox");
    this.error = element("p", { className: "error", hidden: true });
    this.retry = button("button retry", "retry", () => this.ask(this.last));
    this.retry.hidden = true;
    const panel = element("div", { className: "alternatives", id: `${id}-others`, hidden: true });
    this.others = new Alternatives(panel, {
      chosen: (index, word) => this.ask(instead(this.current.question, this.words.words, index, word), index),
      left: (index) => {
        this.words.hold(null);
        this.words.focus(index);
      },
    });
    this.examination = new Examination(this.file);
    this.boxing = new Boxing(this.picture, {
      begun: () => this.words.hold(null),
      asked: (region) => this.ask(within(this.current.question, region)),
    });
    this.whole = button("button whole", "whole", () => this.ask(within(this.current.question, null)));
    this.back = button("button back", "back", () => this.goBack());
    this.another = button("button another", "another", () => this.ask(another(this.current.question)));
    this.takeAlong = new TakeAlong(this.file, () => this.current);
    const buttons = [this.boxing.button, this.whole, this.back, this.another, this.takeAlong.buttons];
    this.actions = element("div", { className: "actions", hidden: true }, ...buttons);

    const top = element("div", { className: "top" }, this.title, remove);
    const caption = [toolbar(say), this.sure, this.where, this.error, this.retry, controls(), panel];
    const below = [this.examination.told, this.actions, this.boxing.bar, this.takeAlong.told];
    const beside = element("div", { className: "text" }, top, this.note, caption, below);
    this.element = element("article", { className: "entry" }, this.picture, beside);
    this.element.setAttribute("aria-labelledby", id);
    const heldChanged = (index) => this.others.show(this.words.words, index);
    this.words = new Words(this.element, { say, state: "aria-expanded", heldChanged });
  }

  get busy() {
    return this.asking !== null;
  }

  // A caption by the settings, of the part of the photograph that was asked about last.
  caption() {
    return this.ask({ search: decoding(), prefix: "", region: this.current?.question.region ?? null });
  }

  // Asks the service; `focus` is the number of a word of the answer to go to.
  async ask(question, focus = null) {
    this.asking?.abort();
    this.examination.abort();
    const controller = (this.asking = new AbortController());
    this.last = question;
    this.turn(this.current ? "asking" : "waiting");
    try {
      this.refuseLarge();
      const answer = await ask("v1/caption", this.file, query(question), {
        signal: controller.signal,
        started: () => say(this.note, "looking"),
      });
      if (this.current) this.before.push(this.current);
      this.asking = null;
      this.show({ question, answer, checked: false }, focus);
      announce(text("announced", { name: this.file.name, caption: answer.caption }));
    } catch (error) {
      if (controller.signal.aborted) return; // something else is asked by now, or the entry is gone
      this.asking = null;
      this.fail(error);
    }
    this.changed(this);
  }

  refuseLarge() {
    const most = this.limits.upload_bytes;
    if (most && this.file.size > most) throw new Problem(() => text("tooLarge", { most: Math.floor(most / 2 ** 20) }));
  }

  turn(state) {
    const busy = state === "waiting" || state === "asking";
    this.element.dataset.state = state;
    this.element.setAttribute("aria-busy", String(busy));
    this.element.classList.toggle("failed", state === "failed");
    say(this.note, busy ? "waiting" : "");
    if (document.activeElement === this.retry) this.title.focus();
    this.error.hidden = this.retry.hidden = true;
    if (busy) this.changed(this);
  }

  fail(error) {
    const tell = error instanceof Problem ? error.tell : () => error.message;
    this.turn(this.current ? "done" : "failed");
    const { name } = this.file;
    const full = () => (tell().startsWith(`${name}: `) ? tell() : `${name}: ${tell()}`);
    say(this.error, full);
    this.error.hidden = this.retry.hidden = false;
    if (!this.current && this.picture.classList.contains("unshown")) this.picture.hidden = true;
    if (this.current) this.boxing.close(this.current.question.region);
    announce(full());
  }

  show(current, focus = null) {
    this.current = current;
    const { answer, question } = current;
    this.turn("done");
    this.picture.hidden = false;
    this.image.alt = answer.caption;
    // Focus must not fall to the page when what has it goes.
    const focused = document.activeElement;
    const had = this.words.buttons.indexOf(focused);
    this.words.fill(answer.words, answer.words.map(wordButton));
    this.others.show(answer.words, null);
    this.tellSure(answer);
    this.where.hidden = !question.region;
    this.boxing.close(question.region);
    this.actions.hidden = false;
    this.whole.hidden = !question.region;
    this.back.hidden = !this.before.length;
    this.another.hidden = question.search.seed === undefined;
    this.examination.tell(answer.words);
    this.takeAlong.tell("");
    const last = answer.words.length - 1;
    const here = this.element.contains(focused) || focused === document.body;
    if (focus !== null && focus <= last && here) {
      this.words.hold(focus);
      this.words.focus(focus);
    } else if (had >= 0 && last >= 0) this.words.focus(Math.min(had, last));
    else if (this.element.contains(focused) && focused.closest("[hidden]")) this.boxing.button.focus();
  }

  tellSure({ words, confidence: share, unsure = false }) {
    if (!words.length) say(this.sure, "wordless");
    else if (share === undefined) say(this.sure, "");
    else say(this.sure, () => text(unsure ? "unsure" : "sure", { share }));
    this.sure.classList.toggle("unsure", unsure);
  }

  goBack() {
    this.asking?.abort();
    this.asking = null;
    this.examination.abort();
    this.show(this.before.pop());
    this.changed(this);
  }

  // Asks which words depend on the picture, and marks the others where they stand.
  async check() {
    const { current } = this;
    try {
      await this.examination.ask(current);
      if (this.current !== current) return;
      this.words.words = current.answer.words;
      this.words.mark();
    } finally {
      this.examination.tell(this.current.answer.words);
    }
  }

  cannotShow() {
    this.picture.classList.add("unshown");
    this.image.hidden = true;
    this.picture.append(say(element("p"), "unshown"));
    if (this.element.dataset.state === "failed") this.picture.hidden = true;
  }

  remove() {
    this.asking?.abort();
    this.examination.abort();
    this.words.stop();
    const beside = this.element.nextElementSibling ?? this.element.previousElementSibling;
    (beside?.querySelector(".remove") ?? document.getElementById("files")).focus();
    this.element.remove();
    URL.revokeObjectURL(this.address);
    this.removed(this);
  }
}
