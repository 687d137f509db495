// Captions for photographs from a running `captionlens serve`, with fetch: in Node 18 or newer, and in browsers.
//
//   node caption.mjs holiday/*.jpg
//
// CAPTIONLENS_URL is where the service is, by default http://127.0.0.1:8000, and CAPTIONLENS_TOKEN the token it wants,
// if it wants one. Prints path<TAB>caption a line. What fails is told on stderr, the others go on, and the exit code is 1.
//
// In a page, with the File of <input type="file">:
//
//   import { caption } from "./caption.mjs";
//   const found = await caption(input.files[0], { url: "https://example.org/captions" });
//
// A page of another site than the service's has to be allowed there: captionlens serve --allow-origin https://its.site

const TRIES = 5;
const MOST_WAITING = 60; // seconds between two of them

/**
 * What the service answers for a photograph, a Blob or File.
 * `query` as in the service's documentation, such as {beam: 5}. Throws an Error that says what went wrong.
 */
export async function caption(photograph, { url, token, query = {} }) {
    const headers = { "Content-Type": photograph.type.startsWith("image/") ? photograph.type : "application/octet-stream" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const address = `${url.replace(/\/$/, "")}/v1/caption?${new URLSearchParams(query)}`;
    for (let attempt = 1; ; attempt++) {
        const options = { method: "POST", headers, body: photograph, signal: AbortSignal.timeout(120_000) };
        const answer = await fetch(address, options);
        if (answer.ok) return answer.json();
        // 429: this client asks too often. 503: too many are waiting. Both say when it may go better.
        if (![429, 503].includes(answer.status) || attempt === TRIES) throw new Error(await problem(answer));
        await answer.body?.cancel();
        const seconds = Math.min(Number(answer.headers.get("Retry-After")) || 1, MOST_WAITING);
        await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    }
}

async function problem(answer) {
    try {
        return `${(await answer.json()).detail} (status ${answer.status})`;
    } catch {
        return `status ${answer.status}`; // not from the service, but from a proxy before it
    }
}

async function main(paths) {
    const { readFile } = await import("node:fs/promises");
    const { extname } = await import("node:path");
    const types = { ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp" };
    const url = process.env.CAPTIONLENS_URL || "http://127.0.0.1:8000";
    const token = process.env.CAPTIONLENS_TOKEN;
    for (const path of paths) {
        try {
            const photograph = new Blob([await readFile(path)], { type: types[extname(path).toLowerCase()] });
            const found = await caption(photograph, { url, token });
            console.log(`${path}\t${found.caption}`);
        } catch (error) {
            // Of a service that does not answer, fetch tells the cause in a second error.
            console.error(`${path}: ${error.cause?.message ?? error.message}`);
            process.exitCode = 1;
        }
    }
}

// Only where Node was started with this file: a page has no process, and who imports it wants the function.
if (globalThis.process?.argv?.[1]) {
    const { realpathSync } = await import("node:fs");
    const { fileURLToPath } = await import("node:url");
    if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
}
