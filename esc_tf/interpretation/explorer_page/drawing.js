// Canvases, and the axes beside them.

// Fits the canvas to the pixels it covers; gives its context and its size in CSS pixels.
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

// `(frames, bands)` from 0 to `largest`: low frequencies at the bottom, brightness by square root.
function drawMap(canvas, values, numFrames, numBands, largest, colours) {
  const image = new ImageData(numFrames, numBands);
  const words = new Uint32Array(image.data.buffer);
  for (let frame = 0; frame < numFrames; frame += 1) {
    for (let band = 0; band < numBands; band += 1) {
      const share = Math.sqrt(Math.max(values[frame * numBands + band], 0) / largest);
      words[(numBands - 1 - band) * numFrames + frame] = colours[Math.round(255 * Math.min(share, 1))];
    }
  }
  canvas.width = numFrames;
  canvas.height = numBands;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// 256 colours as words of ImageData, from hexadecimal digits.
function readColours(digits) {
  const bytes = new Uint8ClampedArray(256 * 4).fill(255);
  for (let i = 0; i < 256 * 3; i += 1) {
    bytes[4 * Math.floor(i / 3) + (i % 3)] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  }
  return new Uint32Array(bytes.buffer);
}

function drawScale(canvas, colours) {
  canvas.width = 256;
  canvas.height = 1;
  // The scale is even in values, and brightness is their square root.
  const image = new ImageData(256, 1);
  const words = new Uint32Array(image.data.buffer);
  words.forEach((_, i) => { words[i] = colours[Math.round(255 * Math.sqrt(i / 255))]; });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// A curve from 0 to its own maximum; upright: along the vertical axis, from the bottom.
function drawCurve(canvas, values, isUpright) {
  const { context, width, height } = prepare(canvas);
  context.clearRect(0, 0, width, height);
  const largest = values.reduce((a, b) => Math.max(a, b), 0) || 1;
  const [length, room] = isUpright ? [height, width] : [width, height];
  const to = (along, up) => {
    if (isUpright) context.lineTo(up, height - along);
    else context.lineTo(along, height - up);
  };
  context.beginPath();
  to(0, 0);
  to(0, (values[0] / largest) * (room - 3));
  values.forEach((value, i) => to(((i + 0.5) / values.length) * length, (value / largest) * (room - 3)));
  to(length, (values[values.length - 1] / largest) * (room - 3));
  to(length, 0);
  context.fillStyle = readColour("--fill");
  context.fill();
  context.strokeStyle = readColour("--accent");
  context.lineWidth = 1.5;
  context.stroke();
}

// Where a value lies among rising centres of equal cells, as a share of their row.
function placeAmong(centres, value) {
  const last = centres.length - 1;
  let after = centres.findIndex((centre) => centre >= value);
  if (after < 0) after = last;
  after = Math.max(after, 1);
  const step = centres[after] - centres[after - 1];
  const place = after - 1 + (value - centres[after - 1]) / step;
  return (place + 0.5) / centres.length;
}

function formatHz(hz) {
  return hz < 1000 ? `${Math.round(hz)} Hz` : `${Number((hz / 1000).toPrecision(2))} kHz`;
}

function showFrequencies(element, frequencies) {
  const ticks = [];
  for (const hz of [60, 125, 250, 500, 1000, 2000, 4000, 8000, 16000]) {
    const share = placeAmong(frequencies, hz);
    const isInside = share > 0.04 && share < 0.94;
    if (!isInside || (ticks.length && share - ticks[ticks.length - 1].share < 0.13)) continue;
    ticks.push({ hz, share });
  }
  element.replaceChildren(...ticks.map(({ hz, share }) => {
    const tick = document.createElement("span");
    tick.textContent = formatHz(hz);
    tick.style.bottom = `${100 * share}%`;
    return tick;
  }));
}

function showTimes(element, times, duration) {
  const steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60];
  const step = steps.find((candidate) => duration / candidate <= 6) ?? 300;
  const ticks = [];
  for (let i = 0; i * step <= duration * 1.001; i += 1) {
    const share = Math.min(Math.max(placeAmong(times, i * step), 0), 1);
    const tick = document.createElement("span");
    tick.textContent = `${Number((i * step).toFixed(2))} s`;
    tick.style.left = `${100 * share}%`;
    tick.style.transform = `translateX(-${100 * share}%)`;
    ticks.push(tick);
  }
  element.replaceChildren(...ticks);
}
