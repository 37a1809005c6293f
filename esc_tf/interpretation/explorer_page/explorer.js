// The page: what is chosen, and what is shown and heard of it.

const NUM_ROWS = 12;
const SIGNIFICANT_P = 0.05;
const find = (id) => document.getElementById(id);
const facts = JSON.parse(find("facts").textContent);
const colours = readColours(facts.colours);
const numBands = facts.frequencies_hz.length;
const numFrames = facts.frame_times_s.length;
const state = { clip: null, feature: null, others: new Set(), isAll: false, urls: [] };
let transform;
let spreading;
let layers;

// --- numbers of the page

async function readFilters() {
  const reader = await BlockReader.open("filters");
  const { n_fft: size } = facts.transform;
  const numBins = Math.floor(size / 2) + 1;
  transform = new ShortTimeTransform(facts.transform, reader.takeFloats(size));
  spreading = readSpreading(reader.takeFloats(numBins * numBands), numBins, numBands);
  layers = facts.layers.map(({ num_features: rank }) => {
    const largest = reader.takeFloats(rank);
    const methods = facts.methods.map(() => {
      const scales = reader.takeFloats(numBands);
      // What a feature adds to the spectrogram at its largest activation.
      return reader.takeHalves(rank * numBands).map((value, i) => value * scales[i % numBands]);
    });
    return { rank, largest, methods };
  });
}

async function readClip(clip) {
  const reader = await BlockReader.open(clip.block);
  const samples = clip.num_samples ? reader.takeSamples(clip.num_samples) : null;
  const spectrogram = reader.takeHalves(numFrames * numBands).map((value) => value * clip.scale);
  const activations = layers.map(({ rank }) => reader.takeHalves(rank * numFrames));
  return { ...clip, samples, spectrogram, activations, spectrum: null };
}

const chosen = () => {
  const layer = Number(find("layer").value);
  const method = Number(find("method").value);
  return {
    layer,
    method,
    rank: layers[layer].rank,
    filters: layers[layer].methods[method],
    activations: state.clip.activations[layer],
  };
};

const patternOf = (filters, feature) => filters.subarray(feature * numBands, (feature + 1) * numBands);
const courseOf = (activations, feature) => activations.subarray(feature * numFrames, (feature + 1) * numFrames);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const findLargest = (values) => values.reduce((a, b) => Math.max(a, b), 0);

function rankFeatures({ rank, filters, activations }) {
  const features = Array.from({ length: rank }, (_, number) => {
    const pattern = patternOf(filters, number);
    const amount = sum(pattern) * sum(courseOf(activations, number));
    const largest = findLargest(pattern);
    return { number, amount, peak: largest > 0 ? pattern.indexOf(largest) : null };
  });
  const total = sum(features.map(({ amount }) => amount)) || 1;
  features.forEach((feature) => { feature.share = feature.amount / total; });
  return features;
}

// --- words

const formatShare = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const formatNumber = (value) => String(Number(value.toPrecision(3)));
const formatDb = (db) => `${db > 0 ? "+" : db < 0 ? "−" : ""}${Math.abs(db).toFixed(1)} dB`;
const nameFeatures = (numbers) => (numbers.length === 1 ? `Feature ${numbers[0]}` : `Features ${numbers.join(" + ")}`);

function describeClip(clip) {
  const heard = clip.predicted
    ? `; the model hears ${clip.predicted}${clip.probability === null ? "" : ` (${formatShare(clip.probability)})`}` : "";
  return `${clip.true}${heard}; fold ${clip.fold}`;
}

function explainFailure(error) {
  find("problem").hidden = false;
  find("problem").textContent = typeof DecompressionStream === "undefined"
    ? "This browser is too old for the page: it needs Chrome 80, Firefox 113, Safari 16.4 or later."
    : `The page cannot go on: ${error.message}. Load it again.`;
}

// --- pictures

function drawFeature() {
  const { filters, activations, layer, rank } = chosen();
  const features = rankFeatures(chosen());
  const { feature, clip } = state;
  const { largest } = layers[layer];
  const pattern = patternOf(filters, feature).map((value) => value / largest[feature]);
  const course = courseOf(activations, feature).map((value) => value * largest[feature]);
  const set = chosenSet();
  const { share, peak } = features[feature];
  const setShare = sum(set.map((number) => features[number].share));
  const name = facts.layers[layer].name;
  find("feature-title").textContent = `Feature ${feature} of ${name}`;
  const place = peak === null ? "no pattern" : `pattern largest at ${formatHz(facts.frequencies_hz[peak])}`;
  find("feature-facts").textContent = `${formatShare(share)} of this clip’s reconstruction, ${place}`
    + (set.length > 1 ? `; with ${nameFeatures(set.filter((number) => number !== feature)).toLowerCase()} ${formatShare(setShare)}` : "")
    + `. One of ${rank}.`;
  drawCurve(find("pattern"), pattern, true);
  const patternText = `W: its pattern over frequency, 0 to ${formatNumber(findLargest(pattern))}`;
  find("pattern-caption").textContent = patternText;
  find("pattern").setAttribute("aria-label", `${patternText}; ${place}`);
  const part = explain(filters, activations, set, numBands, numFrames);
  drawMap(find("part"), part, numFrames, numBands, clip.scale, colours);
  find("part-caption").textContent = `${nameFeatures(set)}: what ${set.length > 1 ? "they add" : "it adds"} to the spectrogram, W H. Same colours as below.`;
  find("part").setAttribute("aria-label", `What ${nameFeatures(set).toLowerCase()} of ${name} adds in clip ${clip.id}`);
  drawCurve(find("course"), course, false);
  const top = findLargest(course);
  const when = facts.frame_times_s[course.indexOf(top)];
  const courseText = `H: its activation over time, 0 to ${formatNumber(top)}`;
  find("course-caption").textContent = courseText;
  find("course").setAttribute("aria-label", top > 0 ? `${courseText}, largest at ${when.toFixed(2)} s` : "H: no activation");
}

function drawWhole() {
  const { filters, activations, rank } = chosen();
  const { clip } = state;
  const whole = explain(filters, activations, Array.from({ length: rank }, (_, i) => i), numBands, numFrames);
  state.whole = whole;
  drawMap(find("spectrogram"), clip.spectrogram, numFrames, numBands, clip.scale, colours);
  drawMap(find("reconstruction"), whole, numFrames, numBands, clip.scale, colours);
  let [miss, size] = [0, 0];
  clip.spectrogram.forEach((value, i) => {
    miss += (value - whole[i]) ** 2;
    size += value ** 2;
  });
  const error = size > 0 ? Math.sqrt(miss / size) : null;
  state.error = error;
  const text = error === null ? "The spectrogram is 0 everywhere." : `Error ‖V − W H‖ / ‖V‖ in this clip: ${error.toFixed(3)}.`;
  find("whole-facts").textContent = text;
  find("spectrogram").setAttribute("aria-label", `Spectrogram of clip ${clip.id}, 0 to ${formatNumber(clip.scale)}`);
  find("reconstruction").setAttribute("aria-label", `Reconstruction of it; ${text}`);
  find("scale-end").textContent = formatNumber(clip.scale);
}

function drawAll() {
  drawWhole();
  drawFeature();
}

// --- choices

function setOptions(id, texts, values = texts.map((_, i) => i)) {
  find(id).replaceChildren(...texts.map((text, i) => new Option(text, values[i])));
}

function showClips() {
  const wanted = find("class").value;
  const places = facts.clips.map((_, i) => i).filter((i) => !wanted || facts.clips[i].true === wanted);
  const before = places.indexOf(Number(find("clip").value || -1));
  setOptions("clip", places.map((i) => {
    const { id, true: label, predicted } = facts.clips[i];
    return `${wanted ? "" : `${label}: `}${id}${predicted && predicted !== label ? `, heard as ${predicted}` : ""}`;
  }), places);
  find("clip").value = places[Math.max(before, 0)];
}

let clipToken = 0;

async function showClip() {
  clipToken += 1;
  const token = clipToken;
  const wanted = facts.clips[Number(find("clip").value)];
  if (state.clip?.id !== wanted.id) {
    const clip = await readClip(wanted);
    if (token !== clipToken) return;
    state.clip = clip;
    showInput();
  }
  find("clip-facts").textContent = `${describeClip(state.clip)}.`;
  showLayer();
}

function showLayer() {
  const { layer, rank } = chosen();
  if (state.layer !== layer) {
    state.feature = null;
    state.others.clear();
    state.isAll = false;
  }
  state.layer = layer;
  if (state.feature >= rank) state.feature = null;
  find("verdict").textContent = facts.verdicts[facts.layers[layer].name] ?? "";
  listFeatures();
  drawAll();
  scheduleSound();
}

function showFeature() {
  // The row that has the focus stays, so that arrow keys go on from it.
  const set = new Set(chosenSet());
  document.querySelectorAll("#features tr").forEach((row) => {
    const number = Number(row.dataset.feature);
    const check = row.querySelector("input[type=checkbox]");
    row.className = number === state.feature ? "chosen" : "";
    check.checked = set.has(number);
    check.disabled = number === state.feature;
  });
  drawFeature();
  scheduleSound();
}

async function start() {
  await readFilters();
  setOptions("layer", facts.layers.map(({ name, num_features: rank }) => `${name} (${rank} features)`));
  setOptions("method", facts.methods.map((name) => facts.method_titles[name] ?? name));
  const classes = [...new Set(facts.clips.map((clip) => clip.true))];
  setOptions("class", ["all", ...classes], ["", ...classes]);
  showClips();
  find("explorer").hidden = false;
  document.querySelectorAll(".ticks").forEach((element) => showFrequencies(element, facts.frequencies_hz));
  document.querySelectorAll(".time-axis").forEach((element) => showTimes(element, facts.frame_times_s, facts.duration_s));
  drawScale(find("scale"), colours);
  await showClip();
  const guard = (action) => () => Promise.resolve().then(action).catch(explainFailure);
  find("layer").addEventListener("change", guard(showLayer));
  find("method").addEventListener("change", guard(showLayer));
  find("class").addEventListener("change", guard(() => { showClips(); return showClip(); }));
  find("clip").addEventListener("change", guard(showClip));
  find("order").addEventListener("change", guard(listFeatures));
  find("previous").addEventListener("click", guard(() => stepFeature(-1)));
  find("next").addEventListener("click", guard(() => stepFeature(1)));
  find("all").addEventListener("click", guard(() => { state.isAll = !state.isAll; listFeatures(); }));
  find("is-raised").addEventListener("change", guard(showSounds));
  window.addEventListener("resize", guard(drawFeature));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", guard(drawFeature));
  followSound();
}

start().catch(explainFailure);
