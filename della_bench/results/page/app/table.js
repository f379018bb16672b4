// The table: sorting, filtering, the baseline and the differences from it.
//
// A browser takes seconds for a table of thousands of cells, so only the first lines are in the document; more come
// when the reader scrolls to their end.

const body = document.querySelector("#leaderboard tbody");
const lines = [...body.rows]; // by row, whatever their order in the table
const AT_ONCE = Math.max(20, Math.round(400 / (1 + benchmarks.length))); // lines
const more = el("tr", { className: "more" }, el("td", { colSpan: 3 + benchmarks.length },
  el("button", { type: "button" }, "Show more rows")));
const heads = [...document.querySelectorAll("#leaderboard thead th[data-key]")];
const MARKS = { better: "\u25b2", worse: "\u25bc", noise: "\u2248" };

function headKey(head) {
  const key = head.dataset.key;
  return key === "name" || key === AVERAGE ? key : benchmarks[Number(key.slice(1))].name;
}

function versusNodes(measure, index) {
  const found = state.baseline === null ? null : compare(measure, index, state.baseline);
  if (!found || rows[index].reference) return [];
  if (found.reason) return [el("span", { className: "remark", title: found.reason }, "not compared", hidden(`: ${found.reason}`))];
  const text = `${MARKS[found.verdict]}\u2009${signed(found.difference)}`;
  const told = differenceText(found);
  return [el("span", { className: found.verdict, title: told }, el("span", { ariaHidden: "true" }, text), hidden(told))];
}

let drawnOrder = [];

function drawTable() {
  if (state.order.length === drawnOrder.length && state.order.every((index, at) => index === drawnOrder[at])) {
    for (const index of state.order.slice(0, body.rows.length)) drawDifferences(index); // the reader stays where she is
  } else {
    body.replaceChildren();
    drawnOrder = state.order;
    drawLines(AT_ONCE);
  }
  chooseCells(heads[0].parentElement);
  for (const head of heads) {
    const sorted = headKey(head) === state.key;
    if (sorted) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  byId("shown").textContent = `${state.order.length} of ${rows.length} rows`;
}

// Add the next lines to the document.
function drawLines(count) {
  more.remove();
  const next = state.order.slice(body.rows.length, body.rows.length + count);
  for (const index of next) drawDifferences(index);
  body.append(...next.map((index) => lines[index]));
  if (body.rows.length < state.order.length) body.append(more);
}

const drawnAgainst = []; // by row, the baseline that its differences are from

const drawnColumns = []; // by row, the columns that it shows

function drawDifferences(index) {
  if (drawnColumns[index] !== state.columns) {
    drawnColumns[index] = state.columns;
    chooseCells(lines[index]);
  }
  if (drawnAgainst[index] === state.baseline) return;
  drawnAgainst[index] = state.baseline;
  const line = lines[index];
  line.classList.toggle("baseline", index === state.baseline);
  line.querySelector("button.pin")?.setAttribute("aria-pressed", String(index === state.baseline));
  for (const place of line.querySelectorAll(".versus")) {
    place.replaceChildren(...versusNodes(place.dataset.measure, index));
  }
}

function chooseCells(line) {
  const first = line.cells.length - benchmarks.length;
  benchmarks.forEach((benchmark, place) => { line.cells[first + place].hidden = !isChosen(benchmark.name); });
}

function drawBaseline() {
  byId("baseline").value = state.baseline ?? "";
  const key = byId("key");
  if (state.baseline === null) key.textContent = "No baseline: pin a row to see how the others differ from it.";
  else {
    key.replaceChildren(
      "Below each value, the difference from ", el("strong", {}, rows[state.baseline].name), " in points over the same items: ",
      el("span", { className: "better" }, `${MARKS.better} better`), ", ",
      el("span", { className: "worse" }, `${MARKS.worse} worse`), ", ",
      el("span", { className: "noise" }, `${MARKS.noise} inside the noise`),
      " (5 %, corrected by Holm over all comparisons with it).",
    );
  }
}

function startTable() {
  const chooser = byId("baseline");
  chooser.append(option("", "none", state.baseline === null));
  chooser.append(...paired.rows.map((index) => option(index, rows[index].name, index === state.baseline)));
  chooser.addEventListener("change", () => change({ baseline: chooser.value === "" ? null : Number(chooser.value) }));
  byId("filter").addEventListener("input", (event) => change({ filter: event.target.value }));
  byId("columns")?.addEventListener("input", (event) => change({ columns: event.target.value }));
  byId("references")?.addEventListener("change", (event) => change({ references: event.target.checked }));
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => {
      const key = headKey(head);
      change({ key, descending: state.key === key ? !state.descending : key !== "name" });
    });
  }
  body.addEventListener("click", (event) => {
    const line = event.target.closest("tr");
    const index = Number(line?.dataset.row);
    const cell = event.target.closest("button.cell");
    if (cell) openViewer({ row: index, benchmark: benchmarks[Number(cell.dataset.benchmark)].name });
    else if (event.target.closest("button.pin")) change({ baseline: state.baseline === index ? null : index });
  });
  let shown;
  onChange(() => {
    drawTable();
    if (shown !== state.baseline) drawBaseline();
    shown = state.baseline;
  });
  lines.forEach((line, index) => {
    for (const button of line.querySelectorAll("button.pin")) button.disabled = !placeOf.has(index);
  });
  more.addEventListener("click", () => drawLines(AT_ONCE));
  new IntersectionObserver((entries) => {
    if (entries.at(-1).isIntersecting) drawLines(AT_ONCE);
  }, { rootMargin: "600px" }).observe(more);
  window.addEventListener("beforeprint", () => drawLines(state.order.length));
}
