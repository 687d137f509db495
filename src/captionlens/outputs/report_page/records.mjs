// The photographs of the report, made of what captionlens.outputs.report_entries wrote.

const parsed = (id) => JSON.parse(document.getElementById(id).textContent);

function kindOf({ error, withheld, doubt }) {
  if (error !== undefined) return "failed";
  return withheld ? "withheld" : doubt ? "unsure" : "sure";
}

// How sure the captioner is of a whole caption: where it is not calibrated, the mean over its words.
function sureness({ error, confidence, certainty }) {
  if (error !== undefined) return null;
  return confidence ?? certainty.reduce((sum, share) => sum + share, 0) / Math.max(1, certainty.length);
}

// The report's identity, its folders, and its records: an entry with number, folder, path, kind, sureness and
// whether it can be corrected.
export function readReport() {
  const { identity, folders, names } = parsed("names");
  const records = parsed("entries").map((entry, number) => {
    const [at, name] = names[number];
    const folder = folders[at];
    const path = folder ? `${folder}/${name}` : name;
    const correctable = entry.error === undefined && !entry.nameless;
    return { ...entry, number, folder, path, correctable, kind: kindOf(entry), sureness: sureness(entry) };
  });
  return { identity, folders, records };
}

// The map of a word: a byte a cell, and the peak as a multiple of the uniform weight.
function attention({ maps, peaks, grid: [rows, columns] }, index) {
  const cells = rows * columns;
  const bytes = atob(maps).slice(index * cells, (index + 1) * cells);
  const unit = peaks[index] / (255 * cells);
  const weights = Array.from(bytes, (letter) => letter.charCodeAt(0) * unit);
  return Array.from({ length: rows }, (_, row) => weights.slice(row * columns, (row + 1) * columns));
}

function examination(examined) {
  if (!examined) return {};
  const [probability, blanked, control, depends] = examined;
  return { faithfulness: { probability, blanked, control }, depends_on_picture: depends };
}

// The words of a record as sentence.mjs describes them. A map is made when it is shown: there may be many thousands.
export function wordsOf(record) {
  return record.words.map((text, index) => ({
    text,
    confidence: record.certainty[index],
    get attention() {
      return attention(record, index);
    },
    ...examination(record.examined?.[index]),
  }));
}
