// What the page was made from, and how its packed parts are read.

const content = JSON.parse(document.getElementById("content").textContent);
const { rows, benchmarks, paired, kinds } = content;
const placeOfBenchmark = new Map(benchmarks.map((benchmark, place) => [benchmark.name, place]));
const AVERAGE = "";
const measures = [
  ...(content.averaged.length > 1 ? [AVERAGE] : []),
  ...benchmarks.map((benchmark) => benchmark.name),
];

const measureName = (measure) => (measure === AVERAGE ? "average" : measure);

// A row's value and interval in one measure, or null where it has none.
function measured(row, measure) {
  const found = measure === AVERAGE ? { value: row.average, interval: row.interval } : row.cells[measure];
  return found && found.value !== null ? found : null;
}

const pText = (p) => (p === null ? "" : p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`);

function intervalText(interval) {
  return interval ? `${oneDecimal(interval[0])} to ${oneDecimal(interval[1])}` : "no interval";
}

const placeOf = new Map(paired.rows.map((index, place) => [index, place]));

// Row `ours` minus row `theirs` (positions in `rows`), or null where there is nothing to say.
function compare(measure, ours, theirs) {
  if (ours === theirs) return null;
  if (!placeOf.has(ours) || !placeOf.has(theirs)) {
    const known = theirs === content.baseline ? rows[ours].versus[measure] : null;
    if (!known) return untested(measure, rows[ours], rows[theirs]);
    if (known.difference === null) return { reason: known.reason ?? "no common items" };
    return { ...known, verdict: verdict(known.difference, known.holm ?? known.p) };
  }
  const n = paired.rows.length;
  const found = paired.measures[measure];
  const [i, j] = [placeOf.get(ours), placeOf.get(theirs)];
  const [a, b] = i < j ? [i, j] : [j, i];
  const at = a * n - (a * (a + 1)) / 2 + (b - a - 1);
  if (found.difference[at] === null) return { reason: found.reasons[found.reason[at]] ?? "no common items" };
  const same = i < j;
  const [low, high] = [found.low[at], found.high[at]];
  const holm = found.holm[i * n + j];
  const difference = same ? found.difference[at] : -found.difference[at];
  return {
    difference,
    interval: low === null ? null : same ? [low, high] : [-high, -low],
    p: found.p[at],
    holm,
    n: found.n[at],
    test: found.tests[found.test[at]],
    wins: same ? found.wins[at] : found.losses[at],
    losses: same ? found.losses[at] : found.wins[at],
    verdict: verdict(difference, holm ?? found.p[at]),
  };
}

// The difference of two rows that this page does not test against one another, where both are about the same items.
function untested(measure, ours, theirs) {
  const names = measure === AVERAGE ? content.averaged : [measure];
  const pairs = names.map((name) => [ours.cells[name], theirs.cells[name]]);
  if (pairs.some(([a, b]) => !a || !b)) return null;
  if (pairs.some(([a, b]) => a.set === null || a.set !== b.set)) return { reason: "not over the same items, or not in one way" };
  const difference = pairs.reduce((sum, [a, b]) => sum + a.value - b.value, 0) / pairs.length;
  return { difference, interval: null, p: null, holm: null, verdict: "untested" };
}

function verdict(difference, p) {
  return p >= 0.05 || !difference ? "noise" : difference > 0 ? "better" : "worse";
}

function differenceText(found) {
  if (found.verdict === "untested") return `${signed(found.difference)} points; this page does not test this pair`;
  const words = { better: "better", worse: "worse", noise: "inside the noise" };
  const range = found.interval ? ` (${signed(found.interval[0])} to ${signed(found.interval[1])})` : "";
  const p = pText(found.holm ?? found.p);
  return `${signed(found.difference)} points${range}${p ? `, ${p} (${found.test})` : ""}: ${words[found.verdict]}; `
    + `better on ${found.wins} and worse on ${found.losses} of ${found.n} items`;
}

// A packed block by its id: base64 of zlib of JSON, read once.
const unpacked = new Map();
// The blocks stand behind this script: the browser may still be reading them.
const complete = document.readyState === "loading"
  ? new Promise((done) => { document.addEventListener("DOMContentLoaded", done, { once: true }); })
  : Promise.resolve();

function unpack(id) {
  if (!unpacked.has(id)) unpacked.set(id, unpackNow(id));
  return unpacked.get(id);
}

async function unpackNow(id) {
  await complete;
  const text = atob(byId(id).textContent);
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}
