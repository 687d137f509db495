// The settings, as the person left them.

import { preferred, speak } from "./strings.mjs";

const KEY = "captionlens-settings";
const form = document.getElementById("settings");
const fields = Object.fromEntries([...form.querySelectorAll("[name]")].map((field) => [field.name, field]));

// A beam of null is the model's own.
const values = { beam: null, random: false, temperature: 1, seed: 0, check: true, language: preferred(), ...stored() };
const listeners = [];
let ownBeam = 3;

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // storage is turned off, or holds something else
  }
}

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify(values));
  } catch {
    // Then they last as long as the page.
  }
}

function showAll() {
  for (const name of ["random", "check"]) fields[name].checked = values[name];
  for (const name of ["temperature", "seed", "language"]) fields[name].value = values[name];
  fields.beam.value = values.beam ?? ownBeam;
  for (const name of ["temperature", "seed"]) fields[name].disabled = !values.random;
  fields.beam.disabled = values.random;
}

function read(field) {
  if (field.type === "checkbox") return field.checked;
  if (field.type !== "number") return field.value;
  const number = field.valueAsNumber;
  if (Number.isNaN(number)) return values[field.name];
  return Math.min(Math.max(number, Number(field.min)), field.max ? Number(field.max) : Infinity);
}

export const checks = () => values.check;

// How captions are to be searched, as the service's query parameters.
export function decoding(seed = values.seed) {
  if (values.random) return { temperature: values.temperature, seed };
  return values.beam ? { beam: values.beam } : {};
}

export function whenChanged(listener) {
  listeners.push(listener);
}

// What the service allows, and how its model searches by itself.
export function allow({ decoding: own = {}, limits = {} }) {
  ownBeam = own.beam ?? ownBeam;
  if (limits.beam) fields.beam.max = limits.beam;
  showAll();
}

form.addEventListener("change", ({ target }) => {
  if (!(target.name in values)) return;
  values[target.name] = read(target);
  if (["beam", "seed"].includes(target.name)) values[target.name] = Math.round(values[target.name]);
  showAll();
  keep();
  if (target.name === "language") speak(values.language);
  for (const listener of listeners) listener(target.name);
});

if (!["en", "zh"].includes(values.language)) values.language = preferred();
showAll();
speak(values.language);
