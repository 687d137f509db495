// The report: lists the photographs that are wanted, and counts and exports what a person has corrected.

import { Corrections, download, table } from "./corrections.mjs";
import { Entry } from "./entry.mjs";
import { drawScale } from "./heatmap.mjs";
import { List } from "./list.mjs";
import { readReport } from "./records.mjs";
import { Selection } from "./selection.mjs";

const part = (css) => document.querySelector(css);

const { identity, folders, records } = readReport();
const corrections = new Corrections(identity, corrected);
const entries = new Map(); // by record; those that were listed once are kept, with what a person is writing in them
const selection = new Selection(part(".selection"), { records, folders, corrections, changed: choose });
const list = new List(part(".list"), part(".more"), (record) => {
  if (!entries.has(record)) entries.set(record, new Entry(record, corrections));
  return entries.get(record).element;
});

function choose() {
  const chosen = selection.chosen();
  list.show(chosen);
  part(".found").textContent = selection.told(chosen.length);
}

// What is corrected of this report's photographs: paths and captions, each path once.
function correctedRows() {
  const paths = new Set(records.filter(({ correctable }) => correctable).map(({ path }) => path));
  return [...paths].map((path) => [path, corrections.get(path)]).filter(([, text]) => text !== undefined);
}

function countCorrections() {
  const { length } = correctedRows();
  part(".corrections").hidden = !length;
  const where = corrections.kept ? "kept in this browser" : "this browser keeps none: export before you close the page";
  part(".count").textContent = length ? `${length} ${length === 1 ? "caption" : "captions"} corrected, ${where}` : "";
}

function corrected() {
  for (const entry of entries.values()) entry.refresh();
  selection.fillKinds();
  countCorrections();
}

drawScale(part(".scale canvas"));
part(".export").addEventListener("click", () => download(table(correctedRows()), "corrections.csv"));
countCorrections();
choose();
