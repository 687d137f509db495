// How sure the captioner may be of its words: what captionlens.runtime.confidence does with confidence.json.

const SMALLEST = 1e-6; // probabilities are kept so far from 0 and 1

export class Calibration {
  constructor({ word, caption, familiarity, idf, unsure_below: unsureBelow = 0 }) {
    const { number, channels, median, limit, centres } = familiarity;
    const bytes = Int8Array.from(atob(centres), (letter) => letter.charCodeAt(0));
    this.centres = Array.from({ length: number }, (_, row) => unit(bytes.subarray(row * channels, (row + 1) * channels)));
    Object.assign(this, { word, caption, median, limit, idf, unsureBelow });
  }

  // Grid features (L, D) to how strange the photograph is: 0 for the more familiar half of its kind.
  novelty(features, channels) {
    const mean = new Float64Array(channels);
    features.forEach((value, at) => (mean[at % channels] += value));
    const direction = unit(mean);
    const nearest = Math.max(...this.centres.map((centre) => dot(centre, direction)));
    return Math.max((1 - nearest - this.median) / Math.max(this.limit - this.median, SMALLEST), 0);
  }

  // { words: of each word, caption: of all } in [0, 1], and whether the captioner is unsure of the caption.
  confidence(tokens, logProbs, novelty) {
    if (!tokens.length) return { words: [], caption: 0, unsure: this.unsureBelow > 0 };
    const idf = tokens.map((token) => this.idf[token]);
    const shared = {
      mean_log_prob: dot(logProbs, logProbs.map(() => 1)) / logProbs.length,
      idf_log_prob: dot(logProbs, idf) / dot(idf, idf.map(() => 1)),
      squared_novelty: novelty ** 2,
    };
    const words = logProbs.map((logProb, at) =>
      logistic(this.word, {
        log_odds: logOdds(Math.exp(logProb)),
        base_log_odds: logOdds(Math.exp(-idf[at])),
        ...shared,
      }),
    );
    const caption = logistic(this.caption, shared);
    return { words, caption, unsure: caption < this.unsureBelow };
  }
}

const dot = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);

function unit(vector) {
  const wide = Float64Array.from(vector);
  const length = Math.max(Math.sqrt(dot(wide, wide)), SMALLEST);
  return wide.map((value) => value / length);
}

function logOdds(probability) {
  const kept = Math.min(Math.max(probability, SMALLEST), 1 - SMALLEST);
  return Math.log(kept) - Math.log1p(-kept);
}

function logistic({ intercept, ...coefficients }, inputs) {
  const sum = Object.entries(coefficients).reduce((total, [name, value]) => total + value * inputs[name], intercept);
  return (1 + Math.tanh(sum / 2)) / 2;
}
