// One photograph on the page: its picture, its caption, and what can be asked about it.

import { Alternatives } from "./alternatives.mjs";
import { Problem, ask } from "./api.mjs";
import { Box } from "./box.mjs";
import { announce, button, download, element } from "./elements.mjs";
import { say, text } from "./strings.mjs";
import { decoding } from "./settings.mjs";
import { Words } from "./words.mjs";

const ALTERNATIVES = 6;
const UNSURE = 0.35; // below this confidence the page says so
let count = 0;

// What the service is asked about a photograph: how to search, the words to begin with, and where to look.
function parameters({ search, prefix, region }) {
  const asked = { attention: true, alternatives: ALTERNATIVES, ...search };
  if (prefix) asked.prefix = prefix;
  if (region) asked.region = region.map((side) => side.toFixed(4)).join(",");
  return asked;
}

export class Entry {
  // `changed(entry)` is called whenever it begins or ends to wait, `removed(entry)` when the person takes it away.
  constructor(file, { limits, changed, removed }) {
    Object.assign(this, { file, limits, changed, removed });
    this.current = null; // what is shown: { question, answer, checked }
    this.before = []; // what was shown earlier, for Back
    this.last = null; // what was asked last, for another try
    this.asking = null; // AbortControllers of what is asked
    this.checking = null;
    this.build(`e${count++}`);
  }

  build(id) {
    const { name } = this.file;
    const hidden = { hidden: true };
    this.address = URL.createObjectURL(this.file);
    this.image = element("img", { src: this.address, alt: "", draggable: false });
    const canvas = element("canvas", { className: "map" });
    canvas.setAttribute("aria-hidden", "true");
    const box = element("div", { className: "box", ...hidden });
    box.setAttribute("role", "application");
    this.picture = element("div", { className: "picture" }, this.image, canvas, box);
    this.image.addEventListener("error", () => this.cannotShow());

    this.title = element("h2", { className: "name", id, textContent: name, tabIndex: -1 });
    const remove = button("button remove", "remove", () => this.remove());
    say(remove, () => text("removeLong", { name }), "aria-label");
    this.note = element("p", { className: "note" });
    this.error = element("p", { className: "error", ...hidden });
    this.retry = button("button retry", "retry", () => this.ask(this.last));
    this.sure = element("p", { className: "sure" });
    this.where = element("p", { className: "where", ...hidden });
    say(this.where, "onlyBox");
    const toolbar = element("div", { className: "caption", ...hidden });
    toolbar.setAttribute("role", "toolbar");
    say(toolbar, "words", "aria-label");
    const play = button("play", "play", () => {});
    play.hidden = true;
    const told = element("output", { className: "told" });
    const panel = element("div", { className: "alternatives", id: `${id}-others`, ...hidden });
    this.words = new Words(this.picture, toolbar, play, told, (index) => this.others.show(this.words.words, index));
    this.others = new Alternatives(panel, {
      chosen: (index, word) => this.replace(index, word),
      left: (index) => {
        this.words.hold(null);
        this.words.focus(index);
      },
    });
    this.checked = element("p", { className: "checked", ...hidden });

    const boxTold = element("output", { className: "boxtold" });
    this.box = new Box(this.picture, box, boxTold, {
      asked: (region) => this.askBox(region),
      left: () => this.leaveBox(),
    });
    this.boxing = element(
      "div",
      { className: "boxing-bar", ...hidden },
      say(element("p"), "boxHelp"),
      boxTold,
      button("button askbox", "askBox", () => this.askBox(this.box.region)),
      button("button smaller", "smaller", () => this.box.grow(-0.05)),
      button("button larger", "larger", () => this.box.grow(0.05)),
    );
    this.buttons = {
      ask: button("button ask", "ask", () => (this.box.on ? this.leaveBox() : this.enterBox())),
      whole: button("button whole", "whole", () => this.ask({ ...this.current.question, prefix: "", region: null })),
      back: button("button back", "back", () => this.goBack()),
      another: button("button another", "another", () => this.drawAnother()),
      copy: button("button copy", "copy", () => this.copy()),
      figure: button("button figure", "figure", () => this.downloadFigure()),
      json: button("button json", "json", () => this.downloadAnswer()),
    };
    for (const kind of ["figure", "json"]) say(this.buttons[kind], `${kind}Long`, "title");
    this.buttons.ask.setAttribute("aria-expanded", "false");
    this.actions = element("div", { className: "actions", ...hidden }, ...Object.values(this.buttons));
    this.copied = element("output", { className: "copied" });

    this.element = element(
      "article",
      { className: "entry" },
      this.picture,
      element(
        "div",
        { className: "text" },
        element("div", { className: "top" }, this.title, remove),
        this.note,
        toolbar,
        this.sure,
        this.where,
        this.error,
        this.retry,
        element("div", { className: "controls" }, play, told),
        panel,
        this.checked,
        this.actions,
        this.boxing,
        this.copied,
      ),
    );
    this.element.setAttribute("aria-labelledby", id);
    this.retry.hidden = true;
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
    this.checking?.abort();
    const controller = (this.asking = new AbortController());
    this.last = question;
    this.turn(this.current ? "asking" : "waiting");
    try {
      this.refuseLarge();
      const answer = await ask("v1/caption", this.file, parameters(question), {
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
    if (this.current) this.keepBox();
    announce(full());
  }

  show(current, focus = null) {
    this.current = current;
    const { answer, question } = current;
    const { confidence } = answer;
    this.turn("done");
    this.picture.hidden = false;
    this.image.alt = answer.caption;
    // Focus must not fall to the page when what has it goes.
    const focused = document.activeElement;
    const had = this.words.buttons.indexOf(focused);
    this.words.fill(answer.words);
    this.others.show(answer.words, null);
    if (!answer.words.length) {
      say(this.sure, "wordless");
    } else if (confidence === undefined) {
      say(this.sure, "");
    } else {
      say(this.sure, () => text(confidence < UNSURE ? "unsure" : "sure", { share: confidence }));
    }
    this.sure.classList.toggle("unsure", confidence < UNSURE);
    this.where.hidden = !question.region;
    this.keepBox();
    this.actions.hidden = false;
    this.buttons.whole.hidden = !question.region;
    this.buttons.back.hidden = !this.before.length;
    this.buttons.another.hidden = question.search.seed === undefined;
    this.tellChecked();
    say(this.copied, "");
    this.copied.replaceChildren();
    const last = answer.words.length - 1;
    const here = this.element.contains(focused) || focused === document.body;
    if (focus !== null && focus <= last && here) {
      this.words.hold(focus);
      this.words.focus(focus);
    } else if (had >= 0 && last >= 0) this.words.focus(Math.min(had, last));
    else if (this.element.contains(focused) && focused.closest("[hidden]")) this.buttons.ask.focus();
  }

  replace(index, word) {
    const prefix = [...this.current.answer.words.slice(0, index).map((before) => before.text), word].join(" ");
    this.ask({ ...this.current.question, prefix }, index);
  }

  drawAnother() {
    const { question } = this.current;
    const seed = question.search.seed + 1;
    this.ask({ ...question, prefix: "", search: { ...question.search, seed } });
  }

  goBack() {
    this.asking?.abort();
    this.asking = null;
    this.checking?.abort();
    this.show(this.before.pop());
    this.changed(this);
  }

  enterBox() {
    this.words.hold(null);
    this.boxing.hidden = false;
    say(this.buttons.ask, "leave");
    this.buttons.ask.setAttribute("aria-expanded", "true");
    this.box.open();
  }

  // Ends the mode; the box of what is shown stays drawn.
  keepBox() {
    this.boxing.hidden = true;
    say(this.buttons.ask, "ask");
    this.buttons.ask.setAttribute("aria-expanded", "false");
    this.box.close(this.current?.question.region);
  }

  leaveBox() {
    this.keepBox();
    this.buttons.ask.focus();
  }

  askBox(region) {
    this.leaveBox();
    this.box.close(region); // drawn while the answer is on its way
    this.ask({ ...this.current.question, prefix: "", region });
  }

  // Asks which words depend on the picture, and marks the others where they stand.
  async check() {
    const { current } = this;
    const controller = (this.checking = new AbortController());
    say(this.checked, "checking");
    this.checked.hidden = false;
    try {
      const question = { ...parameters(current.question), faithfulness: true };
      const answer = await ask("v1/caption", this.file, question, { signal: controller.signal });
      current.checked = true;
      if (answer.caption !== current.answer.caption) return;
      current.answer = answer;
      if (this.current === current) {
        this.words.words = answer.words;
        this.words.mark();
      }
    } catch (error) {
      if (controller.signal.aborted) return;
      if (error.status !== 503 && error.status !== 429) current.checked = true; // it will not be known
      throw error;
    } finally {
      if (this.checking === controller) this.checking = null;
      this.tellChecked();
    }
  }

  tellChecked() {
    const { words } = this.current.answer;
    const known = words.filter((word) => word.depends_on_picture !== undefined);
    this.checked.hidden = !known.length;
    const unseen = known.filter((word) => !word.depends_on_picture).length;
    say(this.checked, () => text("checked", { unseen, all: words.length }));
  }

  cannotShow() {
    this.picture.classList.add("unshown");
    this.image.hidden = true;
    this.picture.append(say(element("p"), "unshown"));
    if (this.element.dataset.state === "failed") this.picture.hidden = true;
  }

  async copy() {
    const { caption } = this.current.answer;
    try {
      await navigator.clipboard.writeText(caption);
      this.copied.replaceChildren();
      say(this.copied, "copied");
    } catch {
      // Without a secure connection there is no clipboard: the person copies what is selected.
      const field = element("input", { readOnly: true, value: caption, lang: "en" });
      say(field, "copyByHand", "aria-label");
      say(this.copied, "");
      this.copied.replaceChildren(field);
      field.select();
      field.focus();
    }
  }

  async downloadFigure() {
    const { figure } = this.buttons;
    if (figure.getAttribute("aria-disabled") === "true") return;
    figure.setAttribute("aria-disabled", "true");
    say(this.copied, "preparing");
    try {
      const question = parameters(this.current.question);
      const signal = new AbortController().signal;
      const picture = await ask("v1/caption/figure", this.file, question, { signal, read: "blob" });
      download(picture, `${this.stem()}-attention.png`);
      say(this.copied, "");
    } catch (error) {
      say(this.copied, error instanceof Problem ? error.tell : () => error.message);
    }
    figure.removeAttribute("aria-disabled");
  }

  downloadAnswer() {
    const content = JSON.stringify(this.current.answer, null, 1);
    download(new Blob([content], { type: "application/json" }), `${this.stem()}.json`);
  }

  stem() {
    return this.file.name.replace(/\.[^.]*$/, "") || "photograph";
  }

  remove() {
    this.asking?.abort();
    this.checking?.abort();
    this.words.stop();
    const beside = this.element.nextElementSibling ?? this.element.previousElementSibling;
    (beside?.querySelector(".remove") ?? document.getElementById("files")).focus();
    this.element.remove();
    URL.revokeObjectURL(this.address);
    this.removed(this);
  }
}
