// The page: photographs in, an entry for each.

import { model } from "./api.mjs";
import { camera } from "./camera.mjs";
import { check } from "./checks.mjs";
import { Entry } from "./entry.mjs";
import { allow, checks, whenChanged } from "./settings.mjs";
import { fill, say, text } from "./strings.mjs";

const drop = document.querySelector(".drop");
const status = document.querySelector(".status");
const files = document.getElementById("files");
const again = document.getElementById("again");
const entries = new Set(); // the newest last
const limits = {};

fill(document);
heatmap.drawScale(document.querySelector(".scale canvas"));
model().then((found) => {
  allow(found);
  Object.assign(limits, found.limits);
  if (found.name) say(document.getElementById("model"), () => text("model", found));
});

function take(photographs) {
  for (const file of photographs) {
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

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

for (const type of ["dragenter", "dragover"])
  document.addEventListener(type, (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    drop.classList.add("over");
  });
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (!event.clipboardData.files.length) return;
  event.preventDefault();
  take(event.clipboardData.files);
});
files.addEventListener("change", () => {
  take(files.files);
  files.value = "";
});
document.getElementById("example").addEventListener("click", async () => {
  const answer = await fetch("page/example.jpg").catch(() => null);
  if (answer?.ok) take([new File([await answer.blob()], "example.jpg", { type: "image/jpeg" })]);
  else say(status, "noExample");
});
again.addEventListener("click", () => {
  for (const entry of entries) entry.caption();
});
whenChanged((name) => {
  if (name !== "check") return;
  if (checks()) check(entries);
  else for (const entry of entries) entry.checking?.abort();
});
camera(take);
