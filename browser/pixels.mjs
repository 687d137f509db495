// From a photograph to the numbers that the backbone wants, as captionlens.runtime.images makes them.

// Keys' cubic (a = -0.5) and the triangle, as Pillow has them: [half width, weight of a distance].
const FILTERS = {
  bicubic: [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - x)],
};

// For each new pixel the first old one that it is made of, and their weights. Where a picture shrinks, the filter grows
// with it, so that every old pixel counts.
function taps(from, to, [support, filter]) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: to }, (_, pixel) => {
    const centre = (pixel + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support * stretch + 0.5));
    const end = Math.min(from, Math.floor(centre + support * stretch + 0.5));
    const weights = Float64Array.from({ length: end - first }, (_, tap) =>
      filter(Math.abs(first + tap - centre + 0.5) / stretch),
    );
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return [first, weights.map((weight) => weight / sum)];
  });
}

// RGBA of width x height to RGB of size x size, row by row: first across, then down, rounded to whole numbers each time.
export function resize({ data, width, height }, size, interpolation) {
  const filter = FILTERS[interpolation];
  const across = taps(width, size, filter);
  const down = taps(height, size, filter);
  const wide = new Uint8ClampedArray(height * size * 3);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < size; x++) {
      const [first, weights] = across[x];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let tap = 0; tap < weights.length; tap++)
          sum += weights[tap] * data[(y * width + first + tap) * 4 + channel];
        wide[(y * size + x) * 3 + channel] = sum; // a clamped array rounds
      }
    }
  const result = new Uint8ClampedArray(size * size * 3);
  const row = size * 3;
  for (let y = 0; y < size; y++) {
    const [first, weights] = down[y];
    for (let at = 0; at < row; at++) {
      let sum = 0;
      for (let tap = 0; tap < weights.length; tap++) sum += weights[tap] * wide[(first + tap) * row + at];
      result[y * row + at] = sum;
    }
  }
  return result;
}

// RGB of size x size to the backbone's input (3, size, size): (value / 255 - mean) / std a channel.
export function normalise(rgb, { size, mean, std }) {
  const values = new Float32Array(3 * size * size);
  for (let channel = 0; channel < 3; channel++) {
    const scale = Math.fround(1 / (255 * std[channel]));
    const shift = Math.fround(-mean[channel] / std[channel]);
    for (let pixel = 0; pixel < size * size; pixel++)
      values[channel * size * size + pixel] = Math.fround(rgb[pixel * 3 + channel] * scale) + shift;
  }
  return values;
}
