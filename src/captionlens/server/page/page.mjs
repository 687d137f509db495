// The page: photographs in, an entry for each.

import { model } from "./api.mjs";
import { camera } from "./camera.mjs";
import { check } from "./checks.mjs";
import { Entry } from "./entry.mjs";
import { drawScale } from "./heatmap.mjs";
import { photographs } from "./photographs.mjs";
import { allow, checks, whenChanged } from "./settings.mjs";
import { fill, say, text } from "./strings.mjs";

const status = document.querySelector(".status");
const again = document.getElementById("again");
const entries = new Set(); // the newest last
const limits = {};

fill(document);
drawScale(document.querySelector(".scale canvas"));
model().then((found) => {
  allow(found);
  Object.assign(limits, found.limits);
  if (found.name) say(document.getElementById("model"), () => text("model", found));
});

function take(files) {
  for (const file of files) {
    const entry = new Entry(file, { limits, changed, removed });
    entries.add(entry);
    document.getElementById("captions").prepend(entry.element);
    entry.caption();
  }
}

function changed() {
  const left = [...entries].filter((entry) => entry.busy).length;
  say(status, left ? () => text("busy", { left }) : "ready");
  again.hidden = !entries.size;
  if (!left) check(entries);
}

function removed(entry) {
  entries.delete(entry);
  changed();
}

photographs(take, { example: "page/example.jpg", missing: () => say(status, "noExample") });
camera(take);
again.addEventListener("click", () => {
  for (const entry of entries) entry.caption();
});
whenChanged((name) => {
  if (name !== "check") return;
  if (checks()) check(entries);
  else for (const entry of entries) entry.examination.abort();
});
