// Dots with whiskers, one panel a measure.

const INK = { better: "var(--better)", worse: "var(--worse)", noise: "var(--noise)", plain: "var(--accent)", untested: "var(--accent)", baseline: "var(--ink)", reference: "var(--muted)" };
const LABEL = 30; // characters of a line of a name beside an axis
const OPEN = benchmarks.length > content.first ? 1 : 12; // panels that are drawn unasked: none but the first of many
const NAMED = 8; // benchmarks of an average that are named
const TALL = 100; // rows of a panel: a longer one is no overview

// A name in lines of at most so many characters, broken behind its parts where it has any.
function inLines(name, most = LABEL) {
  const lines = [""];
  for (const part of name.match(/[^-_/+,: ]+[-_/+,: ]*|[-_/+,: ]+/g) ?? []) {
    if (lines.at(-1) && lines.at(-1).length + part.trimEnd().length > most) lines.push("");
    let rest = part;
    for (; rest.length > most; rest = rest.slice(most)) lines.splice(-1, 1, lines.at(-1) + rest.slice(0, most), "");
    lines.splice(-1, 1, lines.at(-1) + rest);
  }
  return lines.filter(Boolean);
}

// Whether a row differs from the baseline in a measure: better, worse, noise, or plain where nothing is compared.
function verdictOf(measure, index) {
  if (rows[index].reference) return "reference";
  if (index === state.baseline) return "baseline";
  const found = state.baseline === null ? null : compare(measure, index, state.baseline);
  return found?.verdict ?? "plain";
}

function points(measure) {
  return state.order.slice(0, TALL).flatMap((index) => {
    const found = measured(rows[index], measure);
    if (!found) return [];
    const [low, high] = found.interval ?? [found.value, found.value];
    return [{ index, name: rows[index].name, value: found.value, low, high, verdict: verdictOf(measure, index) }];
  });
}

function told(measure, point) {
  const versus = state.baseline === null ? null : compare(measure, point.index, state.baseline);
  const lines = [point.name, `${measureName(measure)} ${oneDecimal(point.value)} (${oneDecimal(point.low)} to ${oneDecimal(point.high)})`];
  if (versus && !versus.reason) lines.push(`${signed(versus.difference)} against ${rows[state.baseline].name}, ${pText(versus.holm ?? versus.p)}`);
  return lines.join("\n");
}

function summary(measure, found) {
  if (!found.length) return `${measureName(measure)}: no model shown has a value.`;
  const best = found.reduce((a, b) => (b.value > a.value ? b : a));
  const worst = found.reduce((a, b) => (b.value < a.value ? b : a));
  return `${measureName(measure)}: values and 95 % intervals of ${found.length} models, from ${oneDecimal(worst.value)} `
    + `(${worst.name}) to ${oneDecimal(best.value)} (${best.name}). The table above has the numbers.`;
}

function panel(measure, width) {
  const found = points(measure);
  const broken = new Map(found.map((point) => [point.name, inLines(point.name, width < 420 ? 20 : LABEL)]));
  const longest = Math.max(6, ...[...broken.values()].flat().map((line) => line.length));
  const tallest = Math.max(1, ...[...broken.values()].map((each) => each.length));
  const base = state.baseline === null ? null : measured(rows[state.baseline], measure);
  const chart = Plot.plot({
    className: "chart",
    ariaLabel: summary(measure, found),
    width,
    height: 44 + Math.max(1, found.length) * (5 + 14 * tallest),
    marginLeft: 14 + longest * 6.3,
    marginRight: 14,
    marginTop: 8,
    marginBottom: 34,
    style: { fontSize: "11px", background: "transparent" },
    x: { label: "percent", nice: true, grid: true, ticks: Math.max(3, width / 90) },
    y: { domain: found.map((point) => point.name), label: null, tickSize: 0, tickFormat: (name) => broken.get(name).join("\n") },
    color: { type: "identity" },
    marks: [
      base ? Plot.ruleX([base.value], { stroke: "var(--ink)", strokeDasharray: "3,3", strokeOpacity: 0.6 }) : null,
      Plot.link(found, { x1: "low", x2: "high", y: "name", stroke: (point) => INK[point.verdict], strokeWidth: 1.6, strokeLinecap: "butt" }),
      Plot.dot(found, {
        x: "value", y: "name", r: 3.8, strokeWidth: 1.6,
        stroke: (point) => INK[point.verdict],
        fill: (point) => (point.verdict === "noise" ? "var(--surface)" : INK[point.verdict]),
        symbol: (point) => (rows[point.index].reference ? "diamond" : "circle"),
      }),
      Plot.tip(found, Plot.pointerY({ x: "value", y: "name", title: (point) => told(measure, point) })),
    ],
    symbol: { type: "identity" },
  });
  return asImage(chart);
}

const VERDICTS = { better: "better than the baseline", worse: "worse", noise: "inside the noise", plain: "not compared", untested: "not tested", baseline: "baseline", reference: "reference" };

function drawCharts() {
  const holder = byId("panels");
  const width = Math.floor(Math.min(620, panelWidth(holder)));
  const chosenMeasures = measures.filter(isChosen);
  holder.replaceChildren(...chosenMeasures.map((measure, place) => (
    place < OPEN ? el("figure", {}, el("figcaption", {}, ...heading(measure)), panel(measure, width)) : folded(measure, width))));
  const used = new Set(chosenMeasures.flatMap((measure) => points(measure).map((point) => point.verdict)));
  const keys = state.baseline === null ? [] : Object.keys(VERDICTS).filter((key) => used.has(key));
  byId("verdict-legend").replaceChildren(...keys.map((key) => legendEntry(`dot ${key}`, VERDICTS[key])));
}

function heading(measure) {
  const cut = state.order.length > TALL ? ` (the first ${TALL} of ${state.order.length} rows shown)` : "";
  return [el("strong", {}, measureName(measure)), metricLabel(measure), cut];
}

// A panel that is drawn when the reader unfolds it.
function folded(measure, width) {
  const details = el("details", {}, el("summary", {}, ...heading(measure)));
  details.addEventListener("toggle", () => details.append(panel(measure, width)), { once: true });
  return details;
}

function metricLabel(measure) {
  const label = benchmarks.find((benchmark) => benchmark.name === measure)?.label;
  if (measure === AVERAGE) return ` over ${content.averaged.length > NAMED ? `${content.averaged.length} tasks` : content.averaged.join(", ")}`;
  return label ? ` \u2013 ${label}` : "";
}

// How wide one panel may be: the grid's columns, as style.css lays them out.
function panelWidth(holder) {
  const columns = getComputedStyle(holder).gridTemplateColumns.split(" ");
  return parseFloat(columns[0]) || holder.clientWidth || 480;
}

let redrawCharts;

function startCharts() {
  redrawCharts = onChangeInSight("intervals", drawCharts);
}
