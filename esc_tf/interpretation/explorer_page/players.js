// The players: sounds rebuilt from what is chosen, and the line that follows them.

let soundTimer = 0;

function scheduleSound() {
  find("sound-facts").textContent = "";
  window.clearTimeout(soundTimer);
  // Not for each feature that the arrow keys pass over.
  soundTimer = window.setTimeout(showSounds, 120);
}

function setSound(id, samples) {
  const url = URL.createObjectURL(encodeWav(samples, facts.sample_rate_hz));
  state.urls.push(url);
  find(id).src = url;
  return url;
}

function showInput() {
  for (const url of state.urls.splice(0)) URL.revokeObjectURL(url);
  const { clip } = state;
  find("no-sound").hidden = Boolean(clip.samples);
  find("sounds").hidden = !clip.samples;
  if (clip.samples) setSound("input-sound", clip.samples);
  else find("no-sound").textContent = `The clip’s sound was not there when the page was written: ${clip.missing_sound}`;
}

function rebuildPart(set) {
  const { filters, activations, rank } = chosen();
  const { clip } = state;
  clip.spectrum ??= transform.analyse(clip.samples);
  const part = explain(filters, activations, set, numBands, numFrames);
  const maskOf = buildMask(part, state.whole, set.length / rank, spreading, numBands);
  return transform.filter(clip.spectrum, maskOf, numFrames);
}

function showSounds() {
  const { clip } = state;
  if (!clip.samples) return;
  const set = chosenSet();
  const part = rebuildPart(set);
  const rest = clip.samples.map((value, i) => value - part[i]);
  const peak = findPeak(clip.samples);
  const isRaised = find("is-raised").checked;
  const notes = [];
  const play = (id, samples, name) => {
    const own = findPeak(samples);
    const wanted = isRaised && own > 0 ? peak / own : 1;
    const gain = own * wanted > 32767 / 32768 ? 32767 / 32768 / own : wanted;
    const energy = sum(samples.map((value) => value * value)) / (sum(clip.samples.map((value) => value * value)) || 1);
    const level = energy > 0 ? `${formatDb(10 * Math.log10(energy))} of the input’s energy` : "silent";
    notes.push(`${name}: ${level}${gain === 1 ? "" : `, played ${formatDb(20 * Math.log10(gain))}`}.`);
    return setSound(id, gain === 1 ? samples : samples.map((value) => value * gain));
  };
  for (const url of state.urls.splice(1)) URL.revokeObjectURL(url);
  const name = nameFeatures(set);
  find("part-name").textContent = name;
  const { layer, method } = chosen();
  const url = play("part-sound", part, name);
  play("rest-sound", rest, "Everything else");
  find("sound-facts").textContent = notes.join(" ");
  const layerName = facts.layers[layer].name;
  find("save").href = url;
  find("save").download = `${clip.id}_${layerName}_${facts.methods[method]}_${set.join("+")}.wav`.replaceAll(/[^\w.+-]/g, "_");
  find("command").textContent = `python -m esc_tf.interpret listen READING --clip ${quote(clip.id)} --layer ${quote(layerName)} `
    + `--method ${facts.methods[method]} --feature ${set.join(" ")} --out sound.wav`;
}

const quote = (text) => (/^[\w./:+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function followSound() {
  const players = document.querySelectorAll("audio");
  const follow = () => {
    const playing = [...players].find((player) => !player.paused && !player.ended);
    const last = [...players].find((player) => player.currentTime > 0 && !player.ended);
    const shown = playing ?? last;
    document.querySelectorAll(".cursor").forEach((cursor) => {
      cursor.style.visibility = shown ? "visible" : "hidden";
      if (shown) cursor.style.left = `${100 * Math.min(Math.max(placeAmong(facts.frame_times_s, shown.currentTime), 0), 1)}%`;
    });
    if (playing) window.requestAnimationFrame(follow);
  };
  players.forEach((player) => {
    player.addEventListener("play", () => {
      players.forEach((other) => { if (other !== player) other.pause(); });
      follow();
    });
    player.addEventListener("seeked", follow);
    player.addEventListener("emptied", follow);
  });
}
