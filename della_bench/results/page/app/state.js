// What the reader has chosen; every part of the page draws itself anew when it changes.

const state = {
  baseline: content.baseline,
  key: measures[0] ?? "name",
  descending: true,
  filter: "",
  references: true,
  order: rows.map((_, index) => index),
};

const listeners = [];
const onChange = (listener) => listeners.push(listener);

function change(part) {
  Object.assign(state, part);
  state.order = shownRows();
  for (const listener of listeners) listener();
}

function shownRows() {
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
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
  searchTexts[index] ??= document.querySelector(`#leaderboard tr[data-row="${index}"] th`).textContent.toLowerCase();
  return searchTexts[index];
}
