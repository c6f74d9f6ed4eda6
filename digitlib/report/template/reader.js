// Reads digits as the Python package does, with the numbers that the page carries; knows nothing of
// the page. window.digitlib: classify 64 counts, prepare a picture of one digit, find all digits.
const pixelsOf = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0) - 65);
const told = JSON.parse(document.querySelector("#told").textContent);
const range = (count) => [...Array(count).keys()];
const sum = (values) => values.reduce((a, b) => a + b, 0);
const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
const average = (rows) => rows[0].map((_, i) => sum(rows.map((row) => row[i])) / rows.length);

// ---- the networks: training.predict -------------------------------------------------------------
// An image is a list of numbers: row by row, in a row pixel by pixel, in a pixel its channels.

function unpack({ weights, outputs }) { // integers; zeros make inputs come in eights
  const { buffer } = Uint8Array.from(atob(weights), (letter) => letter.charCodeAt(0));
  const whole = new Int16Array(buffer), inputs = Math.ceil(whole.length / outputs / 8) * 8;
  const numbers = new Float64Array(inputs * outputs);
  numbers.set(whole);
  return numbers;
}

// Eight inputs at a time, for all outputs: several times as quick as one by one.
function convolve(image, side, { inputs, outputs, size, pad, weights }) {
  const left = side + 2 * pad - size + 1, result = new Float64Array(left * left * outputs);
  for (let place = 0; place < left * left; place++) {
    const seen = new Float64Array(weights.length / outputs);
    for (let i = 0; i < size * size; i++) {
      const row = Math.floor(place / left) + Math.floor(i / size) - pad;
      const column = (place % left) + (i % size) - pad, from = (row * side + column) * inputs;
      if (row >= 0 && column >= 0 && row < side && column < side)
        seen.set(image.subarray(from, from + inputs), i * inputs);
    }
    for (let k = 0; k < seen.length; k += 8) {
      const a = seen[k], b = seen[k + 1], c = seen[k + 2], d = seen[k + 3];
      const e = seen[k + 4], f = seen[k + 5], g = seen[k + 6], h = seen[k + 7];
      if (!(a || b || c || d || e || f || g || h)) continue; // much of an image is paper
      for (let o = 0, at = place * outputs, w = k * outputs; o < outputs; o++, at++, w++)
        result[at] += a * weights[w] + b * weights[w + outputs]
          + c * weights[w + 2 * outputs] + d * weights[w + 3 * outputs]
          + e * weights[w + 4 * outputs] + f * weights[w + 5 * outputs]
          + g * weights[w + 6 * outputs] + h * weights[w + 7 * outputs];
    }
  }
  return [result, left];
}

function pool(image, side, channels, size) { // the largest of each square
  const left = Math.floor(side / size);
  const result = new Float64Array(left * left * channels).fill(-Infinity);
  for (let row = 0; row < left * size; row++)
    for (let column = 0; column < left * size; column++) {
      const to = (Math.floor(row / size) * left + Math.floor(column / size)) * channels;
      for (let c = 0, from = (row * side + column) * channels; c < channels; c++)
        result[to + c] = Math.max(result[to + c], image[from + c]);
    }
  return [result, left];
}

function erf(x) { // to 7 digits: Abramowitz and Stegun (1964), formula 7.1.26
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const cubic = ((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736;
  return Math.sign(x) * (1 - (cubic * t + 0.254829592) * t * Math.exp(-x * x));
}
const ACTIVATE = {
  none: (x) => x, relu: (x) => Math.max(0, x), gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
};

function forward([image, side], stage) {
  const { outputs, scale, shift, most } = stage, activate = ACTIVATE[stage.activation];
  [image, side] = convolve(image, side, stage);
  if (most > 1) [image, side] = pool(image, side, outputs, most);
  for (let i = 0; i < image.length; i++)
    image[i] = activate(image[i] * scale[i % outputs] + shift[i % outputs]);
  return [image, side];
}

function moved(image, dx, dy) { // by parts of a pixel; 0 comes in from outside
  const at = (y, x) => (y < 0 || x < 0 || y > 7 || x > 7 ? 0 : image[8 * y + x]);
  return image.map((_, i) => {
    const y = (i >> 3) + dy, x = (i % 8) + dx, top = Math.floor(y), left = Math.floor(x);
    const across = (row) => at(row, left) * (left + 1 - x) + at(row, left + 1) * (x - left);
    return across(top) * (top + 1 - y) + across(top + 1) * (y - top);
  });
}

const scaled = (pixels, { mean, scale }) =>
  Float64Array.from(pixels, (pixel, i) => (pixel - mean[i]) / scale[i]);
function softmax(scores) {
  const powers = scores.map((score) => Math.exp(score - largest(scores)));
  return powers.map((power) => power / sum(powers));
}
const steps = told.shift ? [-told.shift, 0, told.shift] : [0];
const views = steps.flatMap((dy) => steps.map((dx) => [dx, dy]));
const through = (stages, image) => stages.reduce(forward, [image, 8])[0];
function classify(pixels, seen = views) {
  return average(told.networks.map((network) => {
    const image = scaled(pixels, network);
    const scores = (view) => [...through(network.stages, moved(image, ...view))];
    return softmax(average(seen.map(scores)));
  }));
}

for (const stage of told.networks.flatMap((network) => network.stages))
  stage.weights = unpack(stage);

// ---- from a picture to digits: handwriting/find.py, normalise.py --------------------------------
// A mask is a list of 0 and 1, row by row. Drawings have white paper, without shadow or noise.

function inkOf({ width, height, data }) {
  const gauss = range(5).map((k) => Math.exp(-(k ** 2) / 2)), all = 2 * sum(gauss) - 1;
  const blur = (values, step, length) => values.map((middle, i) => {
    const place = Math.floor(i / step) % length, start = i - place * step;
    let total = middle;
    for (let k = 1; k < 5; k++) { // mirrored at the edges
      const before = place < k ? k - place - 1 : place - k;
      const after = place + k < length ? place + k : 2 * length - 1 - place - k;
      total += gauss[k] * (values[start + before * step] + values[start + after * step]);
    }
    return total / all;
  });
  const grey = blur(blur(Float64Array.from(data), width, height), 1, width);
  const paper = largest(data), contrast = grey.map((value) => (paper - value) / 255);
  const clear = contrast.filter((value) => value > told.way.faintest / 2);
  const least = told.way.weakest * otsu(clear);
  return contrast.map((value) => value > least);
}

function otsu(values) { // the cut with the most variance between its two sides
  const low = -largest(values.map((x) => -x)), step = (largest(values) - low) / 256 || 1;
  const counts = new Float64Array(256), centre = (bin) => low + (bin + 0.5) * step;
  values.forEach((x) => counts[Math.min(255, Math.floor((x - low) / step))]++);
  const total = sum(counts.map((count, bin) => count * centre(bin)));
  let below = 0, weight = 0, most = -1, best = 255;
  counts.subarray(0, 255).forEach((count, bin) => {
    [below, weight] = [below + count, weight + count * centre(bin)];
    const above = values.length - below, gap = weight / below - (total - weight) / above;
    if (below * above * gap ** 2 > most) [most, best] = [below * above * gap ** 2, bin];
  });
  return centre(best);
}

function piecesOf(ink, width) { // each the places of pixels that touch, if only at corners
  const left = Uint8Array.from(ink), found = [], around = range(9).map((k) => k - 4);
  for (let start; (start = left.indexOf(1)) >= 0; left[start] = 0) {
    const places = [start];
    left[start] = 0;
    for (const place of places)
      for (const k of around) {
        const right = ((k + 4) % 3) - 1, next = place + Math.round((k - right) / 3) * width + right;
        if (!left[next] || Math.abs((next % width) - (place % width)) > 1) continue;
        left[next] = 0;
        places.push(next);
      }
    found.push(boxed(places, width));
  }
  return found;
}

function boxed(places, width) {
  let top = Infinity, left = Infinity, bottom = 0, right = 0;
  for (const place of places) {
    const row = Math.floor(place / width), column = place % width;
    [top, bottom] = [Math.min(top, row), Math.max(bottom, row + 1)];
    [left, right] = [Math.min(left, column), Math.max(right, column + 1)];
  }
  return { places, top, left, bottom, right, height: bottom - top, width: right - left };
}

// What a frame of so many rows and columns can touch at once is one piece.
function joined(ink, width, rows, columns) {
  const spread = (mask, step, length, size) => mask.map((_, i) => {
    const place = Math.floor(i / step) % length, first = Math.max(0, place - (size >> 1));
    const last = Math.min(length, place - (size >> 1) + size);
    for (let k = first; k < last; k++) if (mask[i + (k - place) * step]) return 1;
    return 0;
  });
  const near = spread(spread(ink, width, ink.length / width, rows), 1, width, columns);
  return piecesOf(near, width).map(({ places }) => boxed(places.filter((i) => ink[i]), width));
}

// As split_digits in Python, of one row.
function digitsOf({ width, height, data }) {
  const { tall, rows, columns } = told.way, all = piecesOf(inkOf({ width, height, data }), width);
  const highest = (pieces) => largest(pieces.map((piece) => piece.height));
  const inner = all.filter((p) => p.top && p.left && p.bottom < height && p.right < width);
  const inside = highest(inner) > highest(all) / 4 ? inner : all, size = highest(inside);
  const ink = new Uint8Array(width * height);
  inside.forEach(({ places }) => places.forEach((place) => (ink[place] = 1)));
  return joined(ink, width, Math.floor(rows * size) + 1, Math.floor(columns * size) + 1)
    .filter((piece) => piece.height > tall * size).sort((a, b) => a.left - b.left)
    .map((box) => ({ ...box, pixels: normalised(box, width) }));
}

const rint = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // as NumPy
function normalised({ places, top, left, height, width }, columns) {
  const at = (mask, i, j) => (i < 0 || j < 0 || i > 31 || j > 31 ? 0 : mask[32 * i + j]);
  const each = (pixel) => Uint8Array.from({ length: 1024 }, (_, k) => pixel(k >> 5, k % 32));
  const ink = new Set(places), row = (i) => top + Math.floor(((i + 0.5) * height) / 32);
  const column = (j) => left + Math.floor(((j - 5.5) * width) / 20);
  // Stretched to 32 rows and 20 columns; thickened or thinned to an even weight.
  let mask = each((i, j) => j > 5 && j < 26 && ink.has(row(i) * columns + column(j)));
  const weight = sum(mask), cross = (i, j) => sum([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]
    .map(([down, right]) => at(mask, i + down, j + right)));
  const { veryThin, thin, thick, veryThick } = told.way;
  const times = (weight < thin) + (weight < veryThin) + (weight > thick) + (weight > veryThick);
  for (let n = 0; n < times; n++) mask = each((i, j) => cross(i, j) > (weight < thin ? 0 : 4));
  const begins = range(32).map((i) => mask.subarray(32 * i, 32 * i + 32).indexOf(1));
  const used = range(32).filter((i) => begins[i] >= 0);
  // Straightened: the third row and the third last begin below each other.
  const high = Math.min(used[0] + 2, 31), low = Math.max(used.at(-1) - 2, 0);
  const whole = begins[high] >= 0 && begins[low] >= 0 && low - high > 1;
  const slope = whole ? (begins[high] - begins[low]) / (low - high) : 0;
  const straight = each((i, j) => at(mask, i, j - rint((i - 16) * slope)));
  return Uint8Array.from(range(64), (k) => // counted in blocks of 4 by 4
    sum(range(16).map((n) => at(straight, 4 * (k >> 3) + (n >> 2), 4 * (k % 8) + (n % 4)))));
}

function prepare(picture) {
  const digits = digitsOf(picture);
  if (digits.length !== 1) throw new RangeError(`${digits.length} digits, not one`);
  return digits[0].pixels;
}

window.digitlib = { classify, prepare, find: digitsOf };
