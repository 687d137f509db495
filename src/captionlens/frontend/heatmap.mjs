// Draws the map of a word as captionlens.drawing.heatmap draws it; the constants of that stand on <body>.
// A map is rows of weights, a weight a cell, that sum to 1.

const { palette, floor, opacity } = document.body.dataset;
const colours = palette.match(/.{6}/g).map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const [faintest, strongest] = opacity.split(" ").map(Number);
const LONGEST_SIDE = 240; // of the drawing in pixels; the browser stretches it over the photograph

function colour(value) {
  const place = value * (colours.length - 1);
  const low = Math.min(Math.floor(place), colours.length - 2);
  return colours[low].map((from, channel) => from + (place - low) * (colours[low + 1][channel] - from));
}

// Quadratic B-spline, mirrored at the edges: per pixel the three cells and their weights.
function taps(cells, pixels) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const place = ((pixel + 0.5) * cells) / pixels - 0.5;
    const nearest = Math.floor(place + 0.5);
    const offset = place - nearest;
    const clamp = (cell) => Math.min(Math.max(cell, 0), cells - 1);
    return [
      [clamp(nearest - 1), (0.5 - offset) ** 2 / 2],
      [clamp(nearest), 0.75 - offset ** 2],
      [clamp(nearest + 1), (0.5 + offset) ** 2 / 2],
    ];
  });
}

// How strongly to mark each pixel, in [0, 1], row by row.
function strengths(map, width, height) {
  const rows = map.length;
  const columns = map[0].length;
  const across = taps(columns, width);
  const down = taps(rows, height);
  const wide = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++)
    for (let x = 0; x < width; x++)
      for (const [column, weight] of across[x]) wide[row * width + x] += weight * map[row][column];
  const full = new Float32Array(height * width);
  for (let y = 0; y < height; y++)
    for (const [row, weight] of down[y])
      for (let x = 0; x < width; x++) full[y * width + x] += weight * wide[row * width + x];
  const scale = full.reduce((most, value) => Math.max(most, value), Number(floor) / (rows * columns));
  return full.map((value) => value / scale);
}

// Gives the canvas the shape of a photograph, in as many pixels as a map needs.
export function fit(canvas, width, height) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
}

// Fills the canvas.
export function draw(canvas, map) {
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  strengths(map, canvas.width, canvas.height).forEach((value, pixel) => {
    const alpha = faintest + (strongest - faintest) * value ** 2;
    picture.data.set([...colour(value), 255 * alpha], 4 * pixel);
  });
  context.putImageData(picture, 0, 0);
}

// The colours from least to most, for the key.
export function drawScale(canvas) {
  canvas.width = 64;
  canvas.height = 1;
  const pen = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    pen.fillStyle = `rgb(${colour(x / (canvas.width - 1)).map(Math.round)})`;
    pen.fillRect(x, 0, 1, 1);
  }
}

// The map in words: "upper left", "centre", ..., or "all over". The place is the centre of the strongest cell, by thirds
// of the photograph; "all over" stands for a map whose strongest cell holds less than twice the uniform weight.
export function whereabouts(map) {
  const weights = map.flat();
  const columns = map[0].length;
  const top = Math.max(...weights);
  if (top * weights.length < 2) return "all over";
  const cell = weights.indexOf(top);
  const third = (place, cells) => Math.floor(((place + 0.5) / cells) * 3);
  const vertical = ["upper", "", "lower"][third(Math.floor(cell / columns), map.length)];
  const horizontal = ["left", "", "right"][third(cell % columns, columns)];
  if (!vertical && !horizontal) return "centre";
  return vertical && horizontal ? `${vertical} ${horizontal}` : `${vertical}${horizontal} middle`;
}
