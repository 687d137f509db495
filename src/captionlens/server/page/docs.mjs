// The service's openapi.json, for people: its routes, what they take and what they answer.

import { element } from "./elements.mjs";

const METHODS = ["get", "put", "post", "delete", "patch"];
const DEEPEST = 5; // levels of a schema

const code = (text) => element("code", { textContent: text });
const paragraphs = (text) =>
  (text ?? "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) => element("p", { textContent: part.trim() }));

function lookUp(description, found) {
  if (!found?.$ref) return found ?? {};
  const { $ref: reference, ...beside } = found;
  const parts = reference.split("/").slice(1);
  const wanted = parts.reduce((at, part) => at?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], description);
  return { ...lookUp(description, wanted), ...beside };
}

// "integer, 1 to 10, by default 3".
function kind(description, given) {
  const schema = lookUp(description, given);
  const either = schema.anyOf ?? schema.oneOf;
  const facts = [];
  if (either) facts.push(either.map((one) => kind(description, one)).join(" or "));
  else if (schema.const !== undefined) facts.push(JSON.stringify(schema.const));
  else if (schema.type === "array") facts.push(`list of ${kind(description, schema.items ?? {})}`);
  else facts.push([schema.type ?? "anything"].flat().join(" or ") + (schema.format ? ` (${schema.format})` : ""));
  if (schema.enum) facts.push(`one of ${schema.enum.join(", ")}`);
  const least = schema.minimum ?? schema.minLength ?? schema.minItems;
  const most = schema.maximum ?? schema.maxLength ?? schema.maxItems;
  if (schema.exclusiveMinimum !== undefined) facts.push(`above ${schema.exclusiveMinimum}`);
  if (schema.exclusiveMaximum !== undefined) facts.push(`below ${schema.exclusiveMaximum}`);
  if (least !== undefined && most !== undefined) facts.push(`${least} to ${most}`);
  else if (least !== undefined) facts.push(`at least ${least}`);
  else if (most !== undefined) facts.push(`at most ${most}`);
  if ((schema.default ?? null) !== null) facts.push(`by default ${JSON.stringify(schema.default)}`);
  return facts.join(", ");
}

function item(name, facts, text) {
  const term = element("dt", {}, code(name), " ", element("span", { className: "kind", textContent: facts }));
  return [term, element("dd", {}, paragraphs(text))];
}

// The fields of an object, or of the objects in a list.
function fields(description, given, depth = 0) {
  const schema = lookUp(description, given);
  if (depth > DEEPEST) return null;
  for (const one of schema.anyOf ?? schema.oneOf ?? schema.allOf ?? []) {
    const found = fields(description, one, depth + 1);
    if (found) return found;
  }
  if (schema.items) return fields(description, schema.items, depth + 1);
  if (!schema.properties) return null;
  const list = element("dl");
  for (const [name, field] of Object.entries(schema.properties)) {
    const always = schema.required?.includes(name) ? "" : ", not always there";
    const [term, text] = item(name, kind(description, field) + always, lookUp(description, field).description);
    const inside = fields(description, field, depth + 1);
    if (inside) text.append(inside);
    list.append(term, text);
  }
  return list;
}

function contents(description, content = {}) {
  return Object.entries(content).flatMap(([type, { schema }]) => [
    element("p", {}, code(type), schema ? `: ${kind(description, schema)}` : ""),
    (schema && fields(description, schema)) ?? "",
  ]);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(description, path, method, operation, parameters) {
  const line = ["curl"];
  const content = lookUp(description, operation.requestBody).content ?? {};
  const types = Object.keys(content);
  const json = content["application/json"]?.example;
  const raw = types.find((type) => type.startsWith("image/") || type === "application/octet-stream");
  const whole = types.includes("multipart/form-data");
  if (raw) line.push("--data-binary @photo.jpg", "-H 'Content-Type: image/jpeg'");
  else if (whole) line.push("-F file=@photo.jpg", ...(path.endsWith("batch") ? ["-F file=@other.jpg"] : []));
  else if (json) line.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(json))}`);
  else if (method !== "get") line.push(`-X ${method.toUpperCase()}`);
  if ((operation.security ?? description.security ?? []).some((need) => Object.keys(need).length))
    line.push('-H "Authorization: Bearer $CAPTIONLENS_TOKEN"');
  const good = lookUp(description, operation.responses?.["200"]);
  if (good.content && "image/png" in good.content) line.push("-o figure.png");
  const address = new URL(path.replace(/^\//, ""), document.baseURI);
  for (const { name, in: place, required, example, schema } of parameters)
    if (place === "query" && required)
      address.searchParams.set(name, example ?? lookUp(description, schema).default ?? "");
  return [...line, quoted(address.href)].join(" ");
}

function copyable(line) {
  const shown = code(line);
  const copy = element("button", { type: "button", className: "button", textContent: "Copy" });
  copy.addEventListener("click", async () => {
    const log = document.getElementById("log");
    try {
      await navigator.clipboard.writeText(line);
      log.textContent = copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(shown); // without a secure connection there is no clipboard
      log.textContent = copy.textContent = "Selected";
    }
    setTimeout(() => (log.textContent = ""), 2000);
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
  return element("div", { className: "line" }, element("pre", {}, shown), copy);
}

function route(description, path, method, operation, shared) {
  const id = `${method}${path}`.replace(/\W+/g, "-");
  const title = `${method.toUpperCase()} ${path}`;
  const parameters = [...shared, ...(operation.parameters ?? [])].map((one) => lookUp(description, one));
  const body = lookUp(description, operation.requestBody);
  const section = element("section", { className: "route" }, element("h2", { id, tabIndex: -1 }, code(title)));
  section.setAttribute("aria-labelledby", id);
  if (operation.summary) section.append(element("p", { className: "summary", textContent: operation.summary }));
  section.append(...paragraphs(operation.description));
  section.append(copyable(curl(description, path, method, operation, parameters)));
  if (parameters.length) {
    const list = element("dl");
    for (const { name, in: place, required, schema = {}, description: text } of parameters) {
      const where = `${place}${required ? ", needed" : ""}: ${kind(description, schema)}`;
      list.append(...item(name, where, text ?? lookUp(description, schema).description));
    }
    section.append(element("h3", { textContent: "Parameters" }), list);
  }
  if (body.content) {
    section.append(element("h3", { textContent: "Body" }), ...paragraphs(body.description));
    section.append(...contents(description, body.content));
  }
  section.append(element("h3", { textContent: "Answers" }));
  for (const [status, given] of Object.entries(operation.responses ?? {})) {
    const answer = lookUp(description, given);
    const told = element("summary", {}, code(status), ` ${answer.description ?? ""}`);
    const headers = Object.entries(answer.headers ?? {}).map(([name, header]) =>
      element("p", {}, "Header ", code(name), `: ${lookUp(description, header).description ?? ""}`),
    );
    const inside = [...headers, ...contents(description, answer.content)];
    if (inside.length) section.append(element("details", { open: status.startsWith("2") }, told, ...inside));
    else section.append(element("p", { className: "answer" }, code(status), ` ${answer.description ?? ""}`));
  }
  return { id, title, summary: operation.summary ?? "", section };
}

function show(description) {
  const about = document.getElementById("about");
  about.textContent = [description.info?.title, description.info?.version].filter(Boolean).join(" ");
  const nav = document.querySelector("nav");
  nav.before(...paragraphs(description.info?.description));
  for (const [path, operations] of Object.entries(description.paths ?? {}))
    for (const method of METHODS.filter((one) => one in operations)) {
      const made = route(description, path, method, operations[method], operations.parameters ?? []);
      const link = element("a", { href: `#${made.id}` }, code(made.title));
      nav.lastElementChild.append(element("li", {}, link, made.summary && ` ${made.summary}`));
      document.getElementById("routes").append(made.section);
    }
  nav.hidden = false;
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

try {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  show(await answer.json());
} catch (error) {
  document.getElementById("about").textContent = `The description could not be read: ${error.message}`;
}
