// What the service is asked about a photograph: { search, prefix, region }, which is how to search, the words to begin
// with, and the box to look in.

const ALTERNATIVES = 6; // other words for each word

// The question as the service's query parameters.
export function query({ search, prefix, region }) {
  const asked = { attention: true, alternatives: ALTERNATIVES, ...search };
  if (prefix) asked.prefix = prefix;
  if (region) asked.region = region.map((side) => side.toFixed(4)).join(",");
  return asked;
}

export const within = (question, region) => ({ ...question, prefix: "", region });

// Another word in the place `index` of the answer's words, and from there anew.
export function instead(question, words, index, word) {
  const prefix = [...words.slice(0, index).map((before) => before.text), word].join(" ");
  return { ...question, prefix };
}

// The next sentence drawn at random.
export function another(question) {
  const seed = question.search.seed + 1;
  return { ...question, prefix: "", search: { ...question.search, seed } };
}
