// In the background, one photograph at a time, once all captions have come: which words depend on the picture.

import { checks } from "./settings.mjs";

const LATER = 15_000; // milliseconds, where the service was too busy
let at = false;

export async function check(entries) {
  if (at) return;
  at = true;
  let later = false;
  while (checks() && ![...entries].some((entry) => entry.busy)) {
    const wanting = (entry) => entry.current && !entry.current.checked && entry.current.answer.words.length;
    const entry = [...entries].reverse().find(wanting);
    if (!entry) break;
    const { current } = entry;
    await entry.check().catch(() => (later = !current.checked));
    if (later) break;
  }
  at = false;
  if (later) setTimeout(() => check(entries), LATER);
}
