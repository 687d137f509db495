// Buttons that speak the page's language, and what is said to people who hear the page.

import { element } from "./elements.mjs";
import { say } from "./strings.mjs";

// A button with the text of `key`.
export function button(classes, key, onclick) {
  const made = element("button", { type: "button", className: classes });
  say(made, key);
  made.addEventListener("click", onclick);
  return made;
}

// Said once, and kept a while for readers that are slow to come to it.
export function announce(message) {
  const log = document.getElementById("log");
  log.append(element("p", { textContent: message }));
  while (log.children.length > 20) log.firstElementChild.remove();
}
