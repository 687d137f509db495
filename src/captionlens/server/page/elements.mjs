// Making elements. Text only ever goes in as text.

import { say } from "./strings.mjs";

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A button with the text of `key`.
export function button(classes, key, onclick) {
  const made = element("button", { type: "button", className: classes });
  say(made, key);
  made.addEventListener("click", onclick);
  return made;
}

export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

// For people who hear the page: said once, and kept a while for readers that are slow to come to it.
export function announce(message) {
  const log = document.getElementById("log");
  log.append(element("p", { textContent: message }));
  while (log.children.length > 20) log.firstElementChild.remove();
}
