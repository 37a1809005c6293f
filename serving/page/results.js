// What is shown of an analysis, and where in the sound the user is.

import { decodeBytes, drawCurve, drawMap, drawWaveform, placeFrequencies, placeTimes } from "./drawing.js";

const NUM_BARS = 5;
const NUM_FEATURES = 8;
const find = (id) => document.getElementById(id);

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function formatShare(probability) {
  if (probability >= 0.9995) return "100 %";
  if (probability < 0.001) return "< 0.1 %";
  return `${(100 * probability).toFixed(1)} %`;
}

export function formatSeconds(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min`;
}

export class Results {
  // onFeatures(startS) is called when the user asks for the features of another window.
  constructor(onFeatures) {
    this.player = find("player");
    this.position = find("position");
    this.sound = null;
    this.scores = null;
    this.position.addEventListener("input", () => this.seek(Number(this.position.value)));
    for (const plot of [find("wave-plot"), find("mel-plot")]) this.seekByClick(plot);
    this.player.addEventListener("timeupdate", () => this.show(this.player.currentTime));
    this.player.addEventListener("loadedmetadata", () => { this.player.currentTime = this.place; });
    this.player.addEventListener("play", () => this.follow());
    this.player.addEventListener("error", () => {
      if (!this.player.hasAttribute("src")) return;
      this.player.hidden = true;
      find("player-problem").hidden = false;
    });
    find("features-here").addEventListener("click", () => onFeatures(this.scores.starts_s[this.window]));
    find("layer").addEventListener("change", () => this.showChannels());
    new ResizeObserver(() => this.draw()).observe(find("wave-plot"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  clear() {
    this.sound = this.scores = this.features = null;
    this.place = 0;
    this.window = undefined;
    this.player.pause();
    if (this.url) URL.revokeObjectURL(this.url);
    this.player.removeAttribute("src");
    find("results").hidden = true;
  }

  showSound(file, sound) {
    this.sound = sound;
    this.url = URL.createObjectURL(file);
    find("player-problem").hidden = true;
    this.player.hidden = false;
    this.player.src = this.url;
    find("sound-name").textContent = file.name;
    const channels = { 1: "mono", 2: "stereo" }[sound.channels] ?? `${sound.channels} channels`;
    find("sound-facts").textContent = [
      formatSeconds(sound.duration_s), `${sound.sample_rate_hz / 1000} kHz`, channels, sound.format,
    ].join(" · ");
    find("sound-problem").hidden = !sound.problem;
    find("sound-problem").textContent = sound.problem
      ? `The sound ends earlier than it should: ${sound.problem}. What came before is analysed.` : "";
    this.position.max = sound.duration_s;
    for (const id of ["timeline", "features"]) find(id).hidden = true;
    find("bars").replaceChildren();
    find("scores-when").textContent = "Listening…";
    find("results").hidden = false;
    const length = formatSeconds(sound.duration_s);
    find("wave").setAttribute("aria-label", `Waveform of ${length}`);
    find("mel").setAttribute("aria-label", `Mel spectrogram of ${length}, up to ${sound.mel.top_hz} Hz`);
    this.draw();
    this.show(0);
  }

  showScores(scores) {
    this.scores = scores;
    scores.middles = scores.starts_s.map((start, i) => (start + scores.ends_s[i]) / 2);
    this.showLanes();
    this.showTable();
    // Where the model is surest, which is what one wants to see first.
    this.seek(this.isLong ? scores.middles[scores.surest] : 0);
  }

  get best() {
    return this.scores.classes[0];
  }

  get isLong() {
    return this.scores.starts_s.length > 1;
  }

  showFeatures(features) {
    this.features = features;
    find("features").hidden = false;
    const span = `${features.start_s.toFixed(1)} to ${features.end_s.toFixed(1)} s`;
    const { layers } = features;
    find("features-facts").textContent = layers.length
      ? `From ${span}: the channels that rise most above what they are in silence. σ is how far above `
        + "the other channels of its layer one is, in standard deviations. Pictures show when (left to "
        + "right) and at which pitch (bottom to top) it rises."
      : "The model gives no layer with more than one channel.";
    const select = find("layer");
    const chosen = select.selectedIndex > 0 ? select.value : "";
    select.replaceChildren(new Option("all layers", ""), ...layers.map(({ name, num_channels: count }) => (
      new Option(`${name}, ${count} channels`, name, false, name === chosen))));
    find("layer-choice").hidden = !layers.length;
    this.showChannels();
    this.offerFeatures();
  }

  // Those of the chosen layer, or the most outstanding of all layers that can be pictured.
  showChannels() {
    const { value: wanted } = find("layer");
    const channels = this.features.layers
      .filter(({ name }) => !wanted || name === wanted)
      .flatMap(({ name, channels: all }) => all.map((channel) => ({ name, ...channel })));
    const shown = wanted ? channels
      : channels.filter(({ map }) => map).sort((a, b) => b.score - a.score).slice(0, NUM_FEATURES);
    find("channels").replaceChildren(...shown.map(makeChannel));
  }

  showNoFeatures() {
    this.features = null;
    find("features").hidden = false;
    find("features-here").hidden = find("layer-choice").hidden = true;
    find("channels").replaceChildren();
    find("features-facts").textContent = "This model gives none. Export it with --activations to see them here.";
  }

  // --- position

  seek(seconds) {
    if (this.player.readyState > 0) this.player.currentTime = seconds;
    this.show(seconds);
  }

  seekByClick(plot) {
    plot.addEventListener("click", (event) => {
      const { left, width } = plot.getBoundingClientRect();
      this.seek(((event.clientX - left) / width) * this.sound.duration_s);
    });
  }

  follow() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return; // timeupdate is enough
    const step = () => {
      if (this.player.paused || !this.sound) return;
      this.show(this.player.currentTime);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  show(seconds) {
    if (!this.sound) return;
    const duration = this.sound.duration_s;
    this.place = Math.min(seconds, duration);
    this.position.value = this.place;
    for (const cursor of document.querySelectorAll(".cursor")) {
      cursor.style.left = `${(100 * this.place) / duration}%`;
    }
    let spoken = `${this.place.toFixed(1)} of ${duration.toFixed(1)} seconds`;
    if (this.scores) {
      this.showWindow(this.findWindow(this.place));
      spoken += `, ${this.nearby[0].label} ${formatShare(this.nearby[0].probability)}`;
    }
    this.position.setAttribute("aria-valuetext", spoken);
  }

  findWindow(seconds) {
    const distances = this.scores.middles.map((middle) => Math.abs(middle - seconds));
    return distances.indexOf(Math.min(...distances));
  }

  showWindow(index) {
    if (index === this.window) return;
    this.window = index;
    const { starts_s: starts, ends_s: ends, classes } = this.scores;
    this.nearby = classes
      .map(({ label, probabilities }) => ({ label, probability: probabilities[index] }))
      .sort((a, b) => b.probability - a.probability);
    find("scores-when").textContent = this.isLong
      ? `From ${formatSeconds(starts[index])} to ${formatSeconds(ends[index])}; move the position to hear of other moments.`
      : "In the whole sound.";
    const [left, right] = [starts[index], ends[index]].map((s) => Math.min(1, s / this.sound.duration_s));
    for (const span of document.querySelectorAll(".span")) {
      span.hidden = !this.isLong;
      span.style.left = `${100 * left}%`;
      span.style.width = `${100 * (right - left)}%`;
    }
    this.showBars(this.nearby.slice(0, NUM_BARS));
    this.offerFeatures();
  }

  showBars(rows) {
    const list = find("bars");
    while (list.children.length < rows.length) {
      const item = make("li");
      const track = make("div", "track");
      track.setAttribute("aria-hidden", "true");
      track.append(make("div"));
      item.append(make("span", "name"), make("span", "value"), track);
      list.append(item);
    }
    rows.forEach(({ label, probability }, i) => {
      const [name, value, track] = list.children[i].children;
      name.textContent = label;
      value.textContent = formatShare(probability);
      track.firstChild.style.transform = `scaleX(${probability})`;
    });
  }

  offerFeatures() {
    const button = find("features-here");
    const start = this.scores?.starts_s[this.window];
    button.hidden = !this.features || start === undefined || Math.abs(start - this.features.start_s) < 0.01;
    button.textContent = button.hidden ? "" : `Show those from ${formatSeconds(start)}`;
  }

  // --- over time

  showLanes() {
    find("timeline").hidden = !this.isLong;
    if (!this.isLong) return;
    const { window_s: length, hop_s: hop, num_classes: count, classes } = this.scores;
    find("timeline-facts").textContent = `The ${classes.length} likeliest of ${count} classes, each from 0 to `
      + `100 %, heard in windows of ${length.toFixed(2)} s every ${hop.toFixed(2)} s.`;
    find("lanes").replaceChildren(...classes.map((row) => {
      const item = make("li");
      const lane = make("div", "plot lane");
      const canvas = make("canvas");
      canvas.setAttribute("role", "img");
      const peak = row.probabilities.indexOf(Math.max(...row.probabilities));
      canvas.setAttribute("aria-label",
        `${row.label}: most likely at ${formatSeconds(this.scores.middles[peak])}, on average ${formatShare(row.mean)}`);
      lane.append(canvas, make("div", "cursor"));
      this.seekByClick(lane);
      item.append(make("span", "name", row.label), make("span", "value", `max ${formatShare(row.max)}`), lane);
      return item;
    }));
    this.drawLanes();
  }

  drawLanes() {
    document.querySelectorAll(".lane canvas").forEach((canvas, i) => {
      drawCurve(canvas, this.scores.classes[i].probabilities, this.scores.middles, this.sound.duration_s);
    });
  }

  showTable() {
    const head = make("tr");
    head.append(make("td"), ...this.scores.classes.map(({ label }) => heading("col", label)));
    const rows = this.scores.starts_s.map((start, i) => {
      const row = make("tr");
      const cells = this.scores.classes.map(({ probabilities }) => make("td", "", probabilities[i].toFixed(3)));
      row.append(heading("row", `${start.toFixed(2)} to ${this.scores.ends_s[i].toFixed(2)} s`), ...cells);
      return row;
    });
    const [top, body] = [make("thead"), make("tbody")];
    top.append(head);
    body.append(...rows);
    find("table").replaceChildren(make("caption", "visually-hidden", "Probabilities by window"), top, body);
  }

  // --- pictures

  draw() {
    if (!this.sound || find("results").hidden) return;
    drawWaveform(find("wave"), this.sound.envelope);
    const { data, columns, bands, top_hz: topHz } = this.sound.mel;
    drawMap(find("mel"), decodeBytes(data), columns, bands);
    find("mel-ticks").replaceChildren(...placeFrequencies(topHz).map(({ share, text }) => {
      const tick = make("span", "", text);
      tick.style.bottom = `${100 * share}%`;
      return tick;
    }));
    const duration = this.sound.duration_s;
    const { times, step } = placeTimes(duration, find("wave-plot").clientWidth / 70);
    find("time-axis").replaceChildren(...times.map((time) => {
      const share = time / duration;
      const decimals = Math.max(0, Math.ceil(-Math.log10(step)));
      const tick = make("span", share > 0.97 ? "end" : "",
        duration < 60 ? `${time.toFixed(decimals)} s` : formatClock(time));
      tick.style.left = `${100 * share}%`;
      return tick;
    }));
    if (this.scores && this.isLong) this.drawLanes();
  }
}

export function formatClock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

function formatSigned(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
}

function heading(scope, text) {
  const cell = make("th", "", text);
  cell.scope = scope;
  return cell;
}

function makeChannel({ name, index, activity, score, map }) {
  const item = make("li");
  if (map) {
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Where ${name}, channel ${index}, rises`);
    drawMap(canvas, decodeBytes(map.data), map.rows, map.columns);
    item.append(canvas);
  }
  const text = make("p");
  text.append(make("b", "", `${name} · channel ${index}`),
    `+${activity.toPrecision(3)}, ${formatSigned(score)} σ`);
  item.append(text);
  return item;
}
