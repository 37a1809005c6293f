// The table of features: their order, their shares, and which are chosen.

const chosenSet = () => [...new Set([state.feature, ...state.others])].sort((a, b) => a - b);

function createElement(tag, attributes, ...content) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...content);
  return element;
}

function listFeatures() {
  const { layer } = chosen();
  const features = rankFeatures(chosen());
  const orders = {
    share: (a, b) => b.share - a.share || a.number - b.number,
    number: (a, b) => a.number - b.number,
    peak: (a, b) => (a.peak ?? numBands) - (b.peak ?? numBands) || a.number - b.number,
  };
  features.sort(orders[find("order").value]);
  state.feature ??= [...features].sort(orders.share)[0].number;
  const set = new Set(chosenSet());
  // What is chosen stays in sight.
  const shown = features.filter(({ number }, i) => state.isAll || i < NUM_ROWS || set.has(number));
  const statistic = showStatistic(layer);
  const widest = findLargest(features.map(({ share }) => share)) || 1;
  find("features").replaceChildren(...shown.map((feature) => listFeature(feature, statistic, widest)));
  find("all").hidden = features.length <= NUM_ROWS;
  find("all").textContent = state.isAll ? `Show ${NUM_ROWS} features` : `Show all ${features.length} features`;
}

// To the one before or behind in the table, which shows all where it ends.
function stepFeature(step) {
  const listed = () => [...document.querySelectorAll("#features tr")].map((row) => Number(row.dataset.feature));
  if (!state.isAll && listed().indexOf(state.feature) + step >= listed().length) {
    state.isAll = true;
    listFeatures();
  }
  const numbers = listed();
  const place = numbers.indexOf(state.feature) + step;
  if (place < 0 || place >= numbers.length) return;
  state.feature = numbers[place];
  state.others.delete(state.feature);
  document.querySelector(`#features input[value="${state.feature}"]`).checked = true;
  showFeature();
}

function listFeature({ number, share, peak }, statistic, widest) {
  const radio = createElement("input", { type: "radio", name: "feature", value: number, checked: number === state.feature });
  radio.addEventListener("change", () => {
    state.feature = number;
    state.others.delete(number);
    showFeature();
  });
  const check = createElement("input", { type: "checkbox", checked: number === state.feature || state.others.has(number), disabled: number === state.feature });
  check.setAttribute("aria-label", `Hear feature ${number} with the chosen one`);
  check.addEventListener("change", () => {
    if (check.checked) state.others.add(number);
    else state.others.delete(number);
    showFeature();
  });
  const meter = createElement("span", { className: "meter" });
  meter.style.width = `${(100 * share) / widest}%`;
  const cells = [
    createElement("td", { className: "share" }, formatShare(share), meter),
    createElement("td", {}, peak === null ? "–" : formatHz(facts.frequencies_hz[peak])),
  ];
  if (statistic) cells.push(createElement("td", { className: "statistic" }, statistic(number)));
  const row = createElement("tr", { className: number === state.feature ? "chosen" : "" },
    createElement("th", { scope: "row" }, createElement("label", { className: "check" }, radio, ` ${number}`)),
    ...cells, createElement("td", {}, check));
  row.dataset.feature = number;
  return row;
}

// The effect of the clip's class on each feature, as a function number → text; null without one.
function showStatistic(layer) {
  const found = facts.discriminative[facts.layers[layer].name];
  const row = found ? found.classes.indexOf(state.clip.true) : -1;
  document.querySelectorAll(".statistic").forEach((element) => { element.hidden = row < 0; });
  if (row < 0) return null;
  document.querySelector("th.statistic").textContent = `In ${state.clip.true}`;
  find("statistic-facts").textContent = `In ${state.clip.true}: ${found.statistic}. From −1 (never as active) `
    + `to +1 (always more active). A star: p below ${SIGNIFICANT_P} (${found.test}), and the same sign in every fold.`;
  return (number) => {
    const effect = found.effect[row][number];
    const isSure = found.adjusted_p[row][number] < SIGNIFICANT_P && found.consistent[row][number] === true;
    return `${effect > 0 ? "+" : effect < 0 ? "−" : ""}${Math.abs(effect).toFixed(2)}${isSure ? " *" : ""}`;
  };
}
