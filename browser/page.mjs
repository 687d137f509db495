// The page around the captioner: photographs in, an entry for each, with the words and maps of captionlens' HTML report.

import { element } from "./elements.mjs";
import { drawScale } from "./heatmap.mjs";
import { controls, picture, toolbar, wordButton } from "./parts.mjs";
import { photographs } from "./photographs.mjs";
import { percent, sayInEnglish } from "./sentence.mjs";
import { Words } from "./words.mjs";

const status = document.querySelector(".status");
const bar = document.querySelector("progress");
const worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
const waiting = new Map(); // id -> what to do with the answer
let count = 0;

worker.addEventListener("message", ({ data }) => {
  if ("loading" in data) {
    bar.value = data.loading;
  } else if (data.ready) {
    bar.hidden = true;
    status.textContent = "Ready.";
    const { name, trained_on: trainedOn, licence } = data.ready;
    document.getElementById("model").textContent = `${name}, trained on ${trainedOn || "an unknown data set"}. ${licence}`;
  } else if (data.failed) {
    fail(data.failed);
  } else {
    waiting.get(data.id)(data);
    waiting.delete(data.id);
    if (!bar.hidden) return;
    status.textContent = waiting.size ? `Looking at ${waiting.size} more …` : "Ready.";
  }
});
worker.addEventListener("error", (event) => fail(event.message ?? "the captioner could not be started"));

function fail(message) {
  bar.hidden = true;
  status.textContent = `The captioner could not be loaded: ${message}`;
}

async function show(file) {
  const entry = element("article", { className: "entry" });
  const name = element("h2", { className: "name", textContent: file.name });
  document.getElementById("captions").prepend(entry);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    refuse(entry, name, "not a photograph that this browser can read");
    return;
  }
  const image = element("img", { src: URL.createObjectURL(file), alt: "" });
  image.setAttribute("width", bitmap.width);
  image.setAttribute("height", bitmap.height);
  const told = element("p", { className: "sure", textContent: "Looking …" });
  entry.append(picture(image), element("div", {}, name, told));
  const id = count++;
  const answer = await new Promise((resolve) => {
    waiting.set(id, resolve);
    worker.postMessage({ id, picture: bitmap }, [bitmap]);
  });
  if (answer.error) refuse(entry, name, answer.error);
  else fill(entry, told, image, answer.result);
}

function refuse(entry, name, message) {
  entry.classList.add("failed");
  entry.replaceChildren(element("div", {}, name, element("p", { className: "error", textContent: message })));
}

function fill(entry, told, image, { words, confidence, unsure, seconds }) {
  const sentence = words.map((word) => word.text).join(" ");
  image.alt = unsure ? `not sure: ${sentence}` : sentence;
  const known = unsure ? "; not sure: this captioner may not know this kind of photograph" : "";
  const sure = confidence === undefined ? "" : `${percent(confidence)} of this is likely to be right${known} · `;
  told.textContent = `${sure}${seconds.toFixed(1)} seconds`;
  told.after(toolbar(sayInEnglish), controls());
  new Words(entry).fill(words, words.map(wordButton));
}

function take(files) {
  for (const file of files) show(file);
}

drawScale(document.querySelector(".scale canvas"));
photographs(take, { example: "example.jpg", missing: () => (status.textContent = "There is no example here.") });
