// Draws where a model looks: the picture in grey, and over it the attention as smooth heat.

// From the average to the most: dark on both grounds, warm and light at the end.
const RAMP = [[111, 114, 120, 0], [107, 61, 127, 0.62], [196, 64, 95, 0.74], [245, 130, 49, 0.8], [253, 227, 107, 0.84]];
const SIDE = 160; // of the heat, before the canvas stretches it

// Weights of the four values around a place, by a cubic B-spline: smooth, and never above or below
// what lies around.
function weights(t) {
  const s = 1 - t;
  return [s * s * s / 6, (3 * t * t * t - 6 * t * t + 4) / 6, (3 * s * s * s - 6 * s * s + 4) / 6, t * t * t / 6];
}

// A row of values → `size` values between them; beyond the ends the outermost ones go on.
function stretched(values, size) {
  const out = new Float64Array(size), last = values.length - 1;
  for (let i = 0; i < size; i++) {
    const place = ((i + 0.5) * values.length) / size - 0.5;
    const first = Math.floor(place);
    weights(place - first).forEach((weight, k) => {
      out[i] += weight * values[Math.min(last, Math.max(0, first - 1 + k))];
    });
  }
  return out;
}

function colour(t) {
  const place = Math.min(1, Math.max(0, t)) * (RAMP.length - 1);
  const low = Math.min(RAMP.length - 2, Math.floor(place)), part = place - low;
  return RAMP[low].map((value, i) => value + part * (RAMP[low + 1][i] - value));
}

// How many times the average the 99th percentile has, at least 1.5: more than that is one colour.
export function top(grid) {
  const all = grid.flat().sort((a, b) => a - b);
  const average = all.reduce((sum, value) => sum + value, 0) / all.length;
  if (!(average > 0)) return 1.5;
  return Math.max(1.5, all[Math.min(all.length - 1, Math.floor(all.length * 0.99))] / average);
}

// A canvas of SIDE × SIDE with the heat alone, clear where there is the average or less.
function heatOf(grid) {
  const rows = grid.map((row) => stretched(row, SIDE));
  const average = grid.flat().reduce((sum, value) => sum + value, 0) / grid.flat().length || 1;
  const most = top(grid);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  for (let x = 0; x < SIDE; x++) {
    stretched(rows.map((row) => row[x]), SIDE).forEach((value, y) => {
      const [r, g, b, alpha] = colour((value / average - 1) / (most - 1));
      image.data.set([r, g, b, 255 * alpha], 4 * (y * SIDE + x));
    });
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function grey(context, x, y, width, height) {
  const part = context.getImageData(x, y, width, height), data = part.data;
  for (let i = 0; i < data.length; i += 4) {
    const light = 0.3 * data[i] + 0.59 * data[i + 1] + 0.11 * data[i + 2];
    data[i] = data[i + 1] = data[i + 2] = 0.85 * light + 12;
  }
  context.putImageData(part, x, y);
}

// Draw `image` on `canvas`, whole; the model sees its central square, and the rest is pale. With
// `shown` the square is grey and has the heat of `grid` (rows × columns).
export function draw(canvas, image, grid, shown) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const scale = 480 / Math.max(width, height);
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const whole = [0, 0, canvas.width, canvas.height];
  const side = Math.min(canvas.width, canvas.height);
  const square = [Math.floor((canvas.width - side) / 2), Math.floor((canvas.height - side) / 2), side, side];
  context.imageSmoothingQuality = "high";
  context.globalAlpha = 0.22;
  context.drawImage(image, ...whole);
  context.globalAlpha = 1;
  context.save();
  context.beginPath();
  context.rect(...square);
  context.clip();
  context.fillStyle = "#fff"; // as the model sees what is transparent
  context.fillRect(...square);
  context.drawImage(image, ...whole);
  if (shown) {
    grey(context, ...square);
    context.drawImage(heatOf(grid), ...square);
  }
  context.restore();
}
