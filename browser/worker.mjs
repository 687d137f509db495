// The captioner, beside the page: it loads a model directory and captions pictures. Nothing leaves the browser.
//
// In: { id, picture: an ImageBitmap }. Out: { loading: share }, { ready: config }, { failed: message },
// { id, result } or { id, error }.

import * as ort from "./onnxruntime/ort.wasm.min.mjs";
import { Calibration } from "./confidence.mjs";
import { normalise, resize } from "./pixels.mjs";
import { search } from "./search.mjs";

const MODEL = new URL("./model/", import.meta.url);
const WEIGHTS = "model.safetensors";

ort.env.wasm.wasmPaths = new URL("./onnxruntime/", import.meta.url).href;
// Several threads need a server that isolates the page (COOP and COEP); without, one does it.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;

async function get(path) {
  const answer = await fetch(new URL(path, MODEL));
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  return answer;
}

const json = async (path) => (await get(path)).json();

async function bytes(path, tell = () => {}) {
  const answer = await get(path);
  const total = Number(answer.headers.get("Content-Length"));
  const parts = [];
  let length = 0;
  for (let reader = answer.body.getReader(), part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    length += part.value.length;
    if (total) tell(length / total);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function load() {
  const [config, preprocessing, tokenizer, manifest] = await Promise.all(
    ["config.json", "preprocessor_config.json", "tokenizer.json", "manifest.json"].map(json),
  );
  const calibration = "confidence.json" in manifest.sha256 ? new Calibration(await json("confidence.json")) : null;
  const weights = await bytes(WEIGHTS, (share) => postMessage({ loading: share }));
  const externalData = [{ path: `../${WEIGHTS}`, data: weights }];
  const sessions = {};
  for (const graph of ["backbone", "start", "step"])
    sessions[graph] = await ort.InferenceSession.create(await bytes(`onnx/${graph}.onnx`), { externalData });
  const words = [];
  for (const [word, number] of Object.entries(tokenizer.model.vocab)) words[number] = word;
  return { config, preprocessing, words, calibration, network: network(sessions) };
}

// The seam of captionlens.runtime.decoding, for one photograph.
function network({ backbone, start, step }) {
  const states = step.inputNames.filter((name) => name.startsWith("state_"));
  return {
    async encode(values, size) {
      const images = new ort.Tensor("float32", values, [1, 3, size, size]);
      return (await backbone.run({ images })).features;
    },

    start: (features) => start.run({ features }),

    async step(tokens, state) {
      const numbers = new ort.Tensor("int64", BigInt64Array.from(tokens, BigInt), [1, tokens.length]);
      const result = await step.run({ ...state, tokens: numbers });
      const next = (origins) => {
        const chosen = { memory: state.memory, keys: state.keys };
        for (const name of states) {
          const rows = split(result[`next_${name}`]);
          const kept = Float32Array.from(origins.flatMap((origin) => [...rows[origin]]));
          chosen[name] = new ort.Tensor("float32", kept, [1, origins.length, rows[0].length]);
        }
        return chosen;
      };
      return { logProbs: split(result.log_probs), attention: split(result.attention), next };
    },
  };
}

// (1, K, n) to K arrays of n.
function split({ data, dims: [, count, size] }) {
  return Array.from({ length: count }, (_, row) => data.subarray(row * size, (row + 1) * size));
}

// An upright picture on white, RGBA.
function paint(picture) {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, picture.width, picture.height);
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, picture.width, picture.height);
}

async function caption({ config, preprocessing, words, calibration, network }, picture) {
  const { size, interpolation } = preprocessing;
  const began = performance.now();
  const values = normalise(resize(paint(picture), size, interpolation), preprocessing);
  const features = await network.encode(values, size);
  const found = await search(network, features, config.decoding);
  const novelty = calibration?.novelty(features.data, features.dims[2]);
  const sure = calibration?.confidence(found.tokens, found.logProbs, novelty);
  return {
    words: found.tokens.map((token, at) => ({
      text: words[token],
      probability: Math.exp(found.logProbs[at]),
      confidence: sure?.words[at],
      attention: split({ data: found.attention[at], dims: [1, ...config.grid] }).map((row) => [...row]),
    })),
    confidence: sure?.caption,
    unsure: sure?.unsure ?? false,
    seconds: (performance.now() - began) / 1000,
  };
}

const model = load();
model.then(
  ({ config }) => postMessage({ ready: config }),
  (error) => postMessage({ failed: error.message }),
);

// One picture after the other: the sessions take no two at a time.
let turn = model.catch(() => {});
self.addEventListener("message", ({ data: { id, picture } }) => {
  turn = turn.then(async () => {
    try {
      postMessage({ id, result: await caption(await model, picture) });
    } catch (error) {
      postMessage({ id, error: error.message });
    } finally {
      picture.close();
    }
  });
});
