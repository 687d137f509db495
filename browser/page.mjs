// The page around the captioner: photographs in, an entry as in captionlens' HTML report for each.

import "./report.js"; // and heatmap.js before, which index.html loads

const drop = document.querySelector(".drop");
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

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

async function show(file) {
  const entry = element("article", { className: "entry" });
  const name = element("h2", { className: "name", textContent: file.name });
  document.getElementById("captions").prepend(entry);
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    refuse(entry, name, "not a photograph that this browser can read");
    return;
  }
  const { width, height } = picture;
  const image = element("img", { src: URL.createObjectURL(file), alt: "" });
  image.setAttribute("width", width);
  image.setAttribute("height", height);
  const canvas = element("canvas");
  canvas.setAttribute("aria-hidden", "true");
  const told = element("p", { className: "sure", textContent: "Looking …" });
  const text = element("div", {}, name, told);
  entry.append(element("div", { className: "picture" }, image, canvas), text);
  const id = count++;
  const answer = await new Promise((resolve) => {
    waiting.set(id, resolve);
    worker.postMessage({ id, picture }, [picture]);
  });
  if (answer.error) refuse(entry, name, answer.error);
  else fill(entry, text, told, image, answer.result);
}

function refuse(entry, name, message) {
  entry.classList.add("failed");
  entry.replaceChildren(element("div", {}, name, element("p", { className: "error", textContent: message })));
}

function fill(entry, text, told, image, { words, confidence, grid: [rows, columns], seconds }) {
  image.alt = words.map((word) => word.text).join(" ");
  const sure = confidence === undefined ? "" : `${percent(confidence)} of this is likely to be right · `;
  told.textContent = `${sure}${seconds.toFixed(1)} seconds`;
  const caption = element("div", { className: "caption" }, ...words.map((word) => button(word, rows, columns)));
  Object.entries({ role: "toolbar", "aria-label": "Words of the caption" }).forEach((pair) => caption.setAttribute(...pair));
  Object.assign(caption.dataset, { rows, columns });
  const play = element("button", { type: "button", className: "play", textContent: "Play", hidden: true });
  text.append(caption, element("div", { className: "controls" }, play, element("output", { className: "told" })));
  entry.dispatchEvent(new CustomEvent("entry", { bubbles: true })); // report.js makes it move
}

// A word as the report has it: it carries its map, a byte a cell, and the peak over the uniform weight.
function button({ text, probability, confidence, attention }, rows, columns) {
  const certainty = confidence ?? probability;
  const top = Math.max(...attention);
  const where = heatmap.whereabouts(attention, rows, columns);
  const made = element("button", { type: "button" }, element("span", { textContent: text }));
  made.className = `word p${Math.min(4, Math.floor(certainty * 5))}`;
  made.dataset.told = `${text} · ${percent(certainty)} sure · looked ${where === "all over" ? "" : "most at the "}${where}`;
  made.dataset.map = btoa(String.fromCharCode(...attention.map((weight) => Math.round((weight / top) * 255))));
  made.dataset.peak = top * rows * columns;
  return made;
}

const percent = (share) => `${Math.round(100 * share)}%`;

function take(files) {
  for (const file of files) show(file);
}

for (const type of ["dragenter", "dragover"])
  document.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));
document.getElementById("files").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = "";
});
document.getElementById("example").addEventListener("click", async () => {
  const answer = await fetch("example.jpg");
  take([new File([await answer.blob()], "example.jpg", { type: "image/jpeg" })]);
});
