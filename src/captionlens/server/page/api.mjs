// Talks to the service: few requests at a time, patience where it is busy, and a token where it wants one.

import { text } from "./strings.mjs";
import { authorization, tokenAfter } from "./token.mjs";

const AT_ONCE = 4;
const TRIES = 8; // of a request that the service is too busy for
const LONGEST_REST = 60; // seconds

let running = 0;
const queue = [];

// What kept a request from its answer; `tell()` says it, in the page's language where the page found it.
export class Problem extends Error {
  constructor(tell, status = 0) {
    super(tell());
    this.tell = tell;
    this.status = status;
  }
}

// Asks something about one photograph. `read` is how to read the answer: "json" or "blob".
export function ask(path, file, query, { signal, read = "json", started = () => {} }) {
  return inTurn(signal, async () => {
    started();
    for (let tries = 1; ; ) {
      const answer = await send(`${path}?${new URLSearchParams(query)}`, file, signal);
      if (answer.ok) return answer[read]();
      const busy = answer.status === 503 || answer.status === 429;
      if (!busy || tries === TRIES) throw await problem(answer);
      await rest(answer.headers.get("Retry-After"), tries++, signal);
    }
  });
}

// What the service says of its model, or {} where it cannot be reached.
export async function model() {
  try {
    const answer = await withToken("v1/model", {});
    return answer.ok ? await answer.json() : {};
  } catch {
    return {};
  }
}

async function send(address, file, signal) {
  const body = new FormData();
  body.append("file", file, file.name);
  try {
    return await withToken(address, { method: "POST", body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const readable = await file.slice(0, 1).arrayBuffer().then(() => true, () => false); // folders and files since gone
    throw new Problem(() => text(readable ? "unreachable" : "unreadable"));
  }
}

async function withToken(address, options) {
  for (;;) {
    const headers = authorization();
    const answer = await fetch(address, { ...options, headers });
    if (answer.status !== 401) return answer;
    await tokenAfter(headers, options.signal);
  }
}

async function problem(answer) {
  const { detail, title } = await answer.json().catch(() => ({}));
  const told = detail || title;
  return new Problem(() => told || text("odd", { status: answer.status }), answer.status);
}

// Waits as long as the service wishes: seconds, or a date.
function rest(wished, tries, signal) {
  const seconds = /^\d+$/.test(wished ?? "") ? Number(wished) : (Date.parse(wished) - Date.now()) / 1000;
  const wait = Math.min(Math.max(Number.isNaN(seconds) ? tries : seconds, 0.5), LONGEST_REST);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * wait);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

async function inTurn(signal, work) {
  if (running < AT_ONCE) running++;
  else
    await new Promise((resolve, reject) => {
      queue.push(resolve);
      signal.addEventListener("abort", () => {
        const place = queue.indexOf(resolve);
        if (place < 0) return;
        queue.splice(place, 1);
        reject(signal.reason);
      });
    });
  try {
    signal.throwIfAborted();
    return await work();
  } finally {
    const next = queue.shift(); // takes over this place
    if (next) next();
    else running--;
  }
}
