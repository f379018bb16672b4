// What the reader has chosen; every part of the page draws itself anew when it changes.

const state = {
  baseline: content.baseline,
  key: measures[0] ?? "name",
  descending: true,
  filter: "",
  columns: "",
  references: true,
  order: rows.map((_, index) => index),
};

const listeners = [];
const onChange = (listener) => listeners.push(listener);
const FEW = 100; // rows up to which plots are drawn at once

// As onChange, for what stands below the table. In a large one it waits until the reader comes near: nobody who sorts
// a thousand rows shall wait for plots out of sight. Returns what draws again.
function onChangeInSight(id, draw) {
  let near = false;
  let waiting = false;
  const drawNow = () => {
    waiting = false;
    draw();
  };
  const redraw = () => {
    if (near || rows.length <= FEW) drawNow();
    else waiting = true;
  };
  new IntersectionObserver((entries) => {
    near = entries.at(-1).isIntersecting;
    if (near && waiting) drawNow();
  }, { rootMargin: "400px" }).observe(byId(id));
  window.addEventListener("beforeprint", () => {
    if (waiting) drawNow();
  });
  onChange(redraw);
  return redraw;
}

function change(part) {
  Object.assign(state, part);
  state.order = shownRows();
  for (const listener of listeners) listener();
}

const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

// Whether a measure is among the columns that the reader wants to see: its name has one of the words, `*` stands for
// all, and without a word the first columns of a wide table are shown.
function isChosen(measure) {
  const words = wordsOf(state.columns);
  if (measure === AVERAGE || words.includes("*")) return true;
  if (!words.length) return placeOfBenchmark.get(measure) < content.first;
  return words.some((word) => measure.toLowerCase().includes(word));
}

function shownRows() {
  const words = wordsOf(state.filter);
  const shown = rows.map((_, index) => index).filter((index) => {
    const row = rows[index];
    return (state.references || !row.reference) && words.every((word) => searchText(index).includes(word));
  });
  const value = (index) => (state.key === "name" ? rows[index].name : measured(rows[index], state.key)?.value ?? null);
  const turn = state.descending ? -1 : 1;
  return shown.sort((i, j) => {
    const [a, b] = [value(i), value(j)];
    if (a === null || b === null) return (a === null) - (b === null) || i - j; // without a value: last, either way
    const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
    return turn * order || i - j;
  });
}

const searchTexts = [];

function searchText(index) {
  // What the reader sees in the table's first cells: name, method, spec, fingerprint.
  searchTexts[index] ??= lines[index].querySelector("th").textContent.toLowerCase();
  return searchTexts[index];
}
