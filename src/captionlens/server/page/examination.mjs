// Which words of one caption depend on the picture: asked in the background, and told below the caption.

import { ask } from "./api.mjs";
import { element } from "./elements.mjs";
import { query } from "./questions.mjs";
import { say, text } from "./strings.mjs";

export class Examination {
  constructor(file) {
    this.file = file;
    this.asking = null; // an AbortController
    this.told = element("p", { className: "checked", hidden: true });
  }

  // Asks about what is shown, { question, answer, checked }, and replaces its answer by one that tells.
  async ask(shown) {
    const controller = (this.asking = new AbortController());
    say(this.told, "checking");
    this.told.hidden = false;
    try {
      const question = { ...query(shown.question), faithfulness: true };
      const answer = await ask("v1/caption", this.file, question, { signal: controller.signal });
      shown.checked = true;
      if (answer.caption === shown.answer.caption) shown.answer = answer;
    } catch (error) {
      if (controller.signal.aborted) return;
      if (error.status !== 503 && error.status !== 429) shown.checked = true; // it will not be known
      throw error;
    } finally {
      if (this.asking === controller) this.asking = null;
    }
  }

  abort() {
    this.asking?.abort();
  }

  tell(words) {
    const known = words.filter((word) => word.depends_on_picture !== undefined);
    this.told.hidden = !known.length;
    const unseen = known.filter((word) => !word.depends_on_picture).length;
    say(this.told, () => text("checked", { unseen, all: words.length }));
  }
}
