// Canvases: the waveform, spectrograms and activation maps, curves over time.

// Corners of a perceptually rising scale from near black over violet and orange to pale yellow.
const SCALE = [
  [10, 7, 20], [45, 17, 88], [110, 31, 121], [176, 52, 104], [231, 93, 73], [250, 158, 78],
  [252, 236, 172],
];

const COLOURS = new Uint8ClampedArray(256 * 4);
for (let value = 0; value < 256; value += 1) {
  const place = (value / 255) * (SCALE.length - 1);
  const index = Math.min(Math.floor(place), SCALE.length - 2);
  for (let channel = 0; channel < 3; channel += 1) {
    const [low, high] = [SCALE[index][channel], SCALE[index + 1][channel]];
    COLOURS[4 * value + channel] = low + (place - index) * (high - low);
  }
  COLOURS[4 * value + 3] = 255;
}

export function decodeBytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// Fits the canvas to the pixels it covers; returns its context and its size in CSS pixels.
function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return { context, width, height };
}

function readColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function drawWaveform(canvas, { low, high }) {
  const { context, width, height } = prepare(canvas);
  context.clearRect(0, 0, width, height);
  const peak = Math.max(1e-4, ...high, ...low.map((value) => -value));
  const middle = height / 2;
  const scale = (middle - 4) / peak;
  context.fillStyle = readColour("--accent");
  context.beginPath();
  high.forEach((value, i) => {
    context.lineTo(((i + 0.5) / high.length) * width, middle - value * scale - 0.5);
  });
  for (let i = low.length - 1; i >= 0; i -= 1) {
    context.lineTo(((i + 0.5) / low.length) * width, middle - low[i] * scale + 0.5);
  }
  context.fill();
}

// Bytes from 0 to 255, column by column (time), each from the bottom (low pitch) up.
export function drawMap(canvas, bytes, columns, rows) {
  const image = new ImageData(columns, rows);
  for (let column = 0; column < columns; column += 1) {
    for (let row = 0; row < rows; row += 1) {
      const colour = 4 * bytes[column * rows + row];
      image.data.set(COLOURS.subarray(colour, colour + 4), 4 * ((rows - 1 - row) * columns + column));
    }
  }
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Probabilities of one class over time, each held from half way to its neighbours.
export function drawCurve(canvas, probabilities, middles, duration) {
  const { context, width, height } = prepare(canvas);
  context.clearRect(0, 0, width, height);
  const x = (seconds) => (seconds / duration) * width;
  const y = (value) => height - value * (height - 3);
  context.beginPath();
  context.moveTo(0, height);
  context.lineTo(0, y(probabilities[0]));
  probabilities.forEach((value, i) => context.lineTo(x(middles[i]), y(value)));
  context.lineTo(width, y(probabilities[probabilities.length - 1]));
  const colour = readColour("--accent");
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.stroke();
  context.lineTo(width, height);
  context.globalAlpha = 0.3;
  context.fillStyle = colour;
  context.fill();
  context.globalAlpha = 1;
}

const toMel = (hz) => Math.log(1 + hz / 700);

// Where some frequencies lie on the mel axis, as shares of its height.
export function placeFrequencies(topHz) {
  return [250, 1000, 4000, 10000]
    .filter((hz) => hz < 0.9 * topHz)
    .map((hz) => ({ share: toMel(hz) / toMel(topHz), text: hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz` }));
}

// Times to write under a sound: at most so many, equally far from one another.
export function placeTimes(duration, most) {
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300];
  const step = steps.find((candidate) => duration / candidate <= most) ?? 600;
  const times = [];
  for (let i = 0; i * step <= duration * 1.0001; i += 1) times.push(i * step);
  return { times, step };
}
