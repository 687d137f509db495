// The access token, where the service wants one: asked for once, for all requests that wait for it.

import { say } from "./strings.mjs";

const KEY = "captionlens-token";
const form = document.getElementById("token");
const field = form.querySelector("input");
const message = form.querySelector(".refused");

let token = stored();
let coming = null; // a promise of the token, while it is asked for
let arrive = null;

function stored() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage is turned off
  }
}

export const authorization = () => (token ? { Authorization: `Bearer ${token}` } : {});

// Waits for a token other than the one that was refused.
export async function tokenAfter(refused, signal) {
  if (refused.Authorization !== authorization().Authorization) return;
  if (!coming) {
    coming = new Promise((resolve) => (arrive = resolve));
    say(message, token ? "tokenRefused" : "");
    form.hidden = false;
    field.focus();
  }
  if (!signal) return coming;
  await Promise.race([
    coming,
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  ]);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = field.value.trim();
  if (!/^[ -~]+$/.test(given)) {
    say(message, "tokenRefused"); // such characters cannot stand in the head of a request
    return;
  }
  token = given;
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // Then it is asked for again in the next tab.
  }
  field.value = "";
  form.hidden = true;
  document.getElementById("files").focus();
  coming = null;
  arrive();
});
