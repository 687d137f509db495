// Beam search over `step`, for one photograph: what captionlens.runtime.decoding does.

const [PAD, START, END, UNK] = [0, 1, 2, 3];
const FORBIDDEN = new Set([PAD, START, UNK]); // never said, whatever the network thinks of them

// network: start(features) -> state, and step(tokens, state) -> { logProbs: K arrays (V), attention: K arrays (L),
// next(origins): the state of the hypotheses that go on, each from one of the K }.
// Returns the best caption: { tokens, logProbs, attention }, its end left out.
export async function search(network, features, { beam, length_penalty: penalty, max_words: maxWords }) {
  let state = await network.start(features);
  let open = [{ token: START, total: 0, length: 0, before: null }];
  const finished = [];
  const score = ({ total, length }) => total / Math.max(length, 1) ** penalty;
  for (let words = 0; words <= maxWords; words++) {
    const { logProbs, attention, next } = await network.step(open.map(({ token }) => token), state);
    const going = [];
    const origins = [];
    const ended = new Set();
    best(logProbs, open, 2 * beam).forEach(([origin, token, logProb], rank) => {
      const before = open[origin];
      const path = {
        token, logProb, attention: attention[origin],
        total: before.total + logProb, length: before.length + 1, before,
      };
      if (token === END) {
        if (rank < beam) {
          finished.push(path);
          ended.add(origin);
        }
      } else if (going.length < beam) {
        going.push(path);
        origins.push(origin);
      }
    });
    if (words === maxWords) {
      // No room for another word: what did not end by itself is cut where it stands.
      finished.push(...open.filter((_, origin) => !ended.has(origin)));
      break;
    }
    const scores = finished.map(score).sort((a, b) => b - a);
    const settled = scores.length >= beam && Math.max(...going.map(score)) <= scores[beam - 1];
    if (!going.length || settled) break;
    open = going;
    state = next(origins);
  }
  return unwind(finished.reduce((first, other) => (score(other) > score(first) ? other : first)));
}

// The `count` best ways to go on: [origin, token, log-probability], best first.
function best(logProbs, open, count) {
  const found = [];
  logProbs.forEach((values, origin) => {
    const { total } = open[origin];
    values.forEach((logProb, token) => {
      const sum = total + logProb;
      if (FORBIDDEN.has(token) || (found.length === count && sum <= found[count - 1][3])) return;
      let place = found.length;
      while (place > 0 && found[place - 1][3] < sum) place--;
      found.splice(place, 0, [origin, token, logProb, sum]);
      if (found.length > count) found.pop();
    });
  });
  return found;
}

function unwind(path) {
  const words = [];
  for (let at = path.token === END ? path.before : path; at.before; at = at.before) words.unshift(at);
  return {
    tokens: words.map(({ token }) => token),
    logProbs: words.map(({ logProb }) => logProb),
    attention: words.map(({ attention }) => attention),
  };
}
