// The page: choosing a model and a sound, sending it, following its analysis.

import { Recorder, explainFailure, explainMissing } from "./recorder.js";
import { Results, formatClock, formatSeconds, formatShare } from "./results.js";

const MAX_ATTEMPTS = 20;
const find = (id) => document.getElementById(id);
const results = new Results((startS) => showFeaturesFrom(startS));
const state = { models: [], limits: null, file: null, running: null, recorder: null };

class Refusal extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    Object.assign(this, { status, retryAfter });
  }
}

// --- the server

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const message = body.error ?? `The server answers with ${response.status} ${response.statusText}.`;
  throw new Refusal(response.status, message, Number(response.headers.get("Retry-After")));
}

// Sends a sound; waits and tries again while the server is busy.
async function send(path, file, signal) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask(path, {
        method: "POST", body: file, signal, headers: { "Content-Type": "application/octet-stream" },
      });
    } catch (error) {
      if (error.status !== 503 || attempt === MAX_ATTEMPTS) throw error;
      say("The server is busy. Waiting for a free place…");
      await new Promise((resolve) => { setTimeout(resolve, 1000 * (error.retryAfter || 1)); });
      signal.throwIfAborted();
    }
  }
}

async function* readLines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

// --- what the user is told

function say(text) {
  if (find("status").textContent !== text) find("status").textContent = text;
}

function showProblem(error) {
  if (error?.name === "AbortError") return;
  find("problem").textContent = error ? error.message : "";
  find("problem").hidden = !error;
  if (error) say("");
}

function showProgress(share) {
  const bar = find("progress");
  bar.hidden = share === null;
  if (share === undefined) bar.removeAttribute("value");
  else if (share !== null) bar.value = share;
}

// --- models

async function loadModels() {
  const { models, limits } = await (await ask("/page/models")).json();
  Object.assign(state, { models, limits });
  const usable = models.filter((model) => model.usable);
  const select = find("model");
  const options = usable.map((model) => {
    const several = usable.filter(({ name }) => name === model.name).length > 1;
    return new Option(several ? `${model.name}, version ${model.version}` : model.name, models.indexOf(model));
  });
  select.replaceChildren(...(options.length ? options : [new Option("none")]));
  select.disabled = options.length < 2;
  for (const id of ["file", "record"]) find(id).disabled = !options.length;
  showUnusable(models.filter((model) => !model.usable));
  if (!options.length) showProblem(new Error("No model is served that this page can use."));
  find("input-hint").textContent = `WAV, FLAC, Ogg or MP3, up to ${formatLength(limits.max_duration_s)} `
    + `and ${Math.floor(limits.max_upload_bytes / 1e6)} MB.`;
  const reason = explainMissing();
  if (reason) {
    find("record").disabled = true;
    find("input-hint").append(` ${reason}`);
  }
  showModelFacts();
}

function formatLength(seconds) {
  return seconds >= 120 ? `${Math.floor(seconds / 60)} minutes` : `${seconds} s`;
}

function showUnusable(models) {
  find("unusable").hidden = !models.length;
  find("unusable").open = models.length === state.models.length;
  find("unusable-title").textContent = models.length === 1
    ? "1 model cannot be used here" : `${models.length} models cannot be used here`;
  find("unusable-list").replaceChildren(...models.map(({ name, version, reason }) => {
    const item = document.createElement("li");
    const title = document.createElement("b");
    title.textContent = version === null ? name : `${name}, version ${version}`;
    item.append(title, `: ${reason}`);
    return item;
  }));
}

function chosenModel() {
  return state.models[Number(find("model").value)];
}

function showModelFacts() {
  const model = chosenModel();
  find("model-facts").textContent = !model?.usable ? "" : [
    model.num_labels ? `${model.num_labels} kinds of sound` : "",
    `listens at ${model.sample_rate_hz / 1000} kHz in windows of ${formatSeconds(model.window_s)}`,
  ].filter(Boolean).join(", ");
}

function address(path, more = {}) {
  const { name, version } = chosenModel();
  return `${path}?${new URLSearchParams({ model: name, version, ...more })}`;
}

// --- analysis

async function analyse(file) {
  state.running?.abort();
  const running = new AbortController();
  Object.assign(state, { running, file });
  showProblem(null);
  results.clear();
  if (file.size > state.limits.max_upload_bytes) {
    say("");
    showProblem(new Error(`${file.name} is larger than ${Math.floor(state.limits.max_upload_bytes / 1e6)} MB.`));
    return;
  }
  const hasFeatures = chosenModel().has_features;
  say(`Analysing ${file.name}…`);
  showProgress(undefined);
  try {
    const response = await send(address("/page/analyse"), file, running.signal);
    let duration = 0;
    let isWhole = false;
    for await (const item of readLines(response)) {
      if (running.signal.aborted) return;
      if (item.kind === "sound") {
        duration = item.duration_s;
        document.body.classList.add("has-results");
        results.showSound(file, item);
      } else if (item.kind === "progress") showProgress(item.end_s / duration);
      else if (item.kind === "scores") {
        results.showScores(item);
        if (!hasFeatures) results.showNoFeatures();
        isWhole = true;
      } else if (item.kind === "features") results.showFeatures(item);
      else if (item.kind === "error") throw new Error(item.error);
    }
    if (!isWhole) throw new Error("The connection broke before the analysis was done. Try again.");
    const { label, max } = results.best;
    say(`Done: ${label}, ${formatShare(max)}.`);
    find("sound-name").focus({ preventScroll: true });
  } catch (error) {
    if (!running.signal.aborted) showProblem(error);
  } finally {
    if (state.running === running) {
      state.running = null;
      showProgress(null);
    }
  }
}

async function showFeaturesFrom(startS) {
  const running = new AbortController();
  state.running?.abort();
  state.running = running;
  say("Computing features…");
  showProblem(null);
  try {
    const response = await send(address("/page/features", { start_s: startS }), state.file, running.signal);
    results.showFeatures(await response.json());
    say(`Features from ${formatSeconds(startS)} are shown.`);
    find("features-title").setAttribute("tabindex", "-1");
    find("features-title").focus({ preventScroll: true }); // the button is gone
  } catch (error) {
    if (!running.signal.aborted) showProblem(error);
  } finally {
    if (state.running === running) state.running = null;
  }
}

// --- microphone

async function startRecording() {
  showProblem(null);
  find("record").disabled = true;
  const recorder = new Recorder({
    maxSeconds: state.limits.max_duration_s,
    maxBytes: state.limits.max_upload_bytes,
    onLevel: (peak, seconds) => {
      find("level").style.transform = `scaleX(${Math.min(1, Math.sqrt(peak))})`;
      find("clock").textContent = formatClock(seconds);
    },
    onFull: () => endRecording(true),
  });
  try {
    await recorder.start();
  } catch (error) {
    showProblem(new Error(explainFailure(error)));
    return;
  } finally {
    find("record").disabled = false;
  }
  state.recorder = recorder;
  showRecording(true);
  say("Recording.");
  find("stop").focus();
}

function endRecording(isKept) {
  const { recorder } = state;
  if (!recorder) return;
  state.recorder = null;
  const file = recorder.stop();
  showRecording(false);
  find("record").focus();
  say("");
  if (!isKept) return;
  if (file) analyse(file);
  else showProblem(new Error("The microphone gave no sound."));
}

function showRecording(isOn) {
  find("choose").hidden = isOn;
  find("recording").hidden = !isOn;
  find("clock").textContent = "0:00";
}

// --- events

function acceptDrops() {
  const zone = find("input");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  // Anywhere on the page, so that a near miss does not make the browser leave it.
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    zone.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    if (!hasFiles(event)) return;
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file && !find("file").disabled && !state.recorder) analyse(file);
  });
}

function connect() {
  find("file").addEventListener("change", () => {
    const [file] = find("file").files;
    find("file").value = ""; // so that the same file can be chosen again
    if (file) analyse(file);
  });
  find("record").addEventListener("click", startRecording);
  find("stop").addEventListener("click", () => endRecording(true));
  find("discard").addEventListener("click", () => endRecording(false));
  find("model").addEventListener("change", () => {
    showModelFacts();
    if (state.file) analyse(state.file);
  });
  acceptDrops();
}

connect();
loadModels().catch(showProblem);
