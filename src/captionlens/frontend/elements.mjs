// Making elements. Text only ever goes in as text.

// Children are elements and texts, or lists of them; null and "" are left out.
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.flat().filter((child) => child !== null && child !== ""));
  return made;
}
