// The table: sorting, filtering, the baseline and the differences from it.
//
// A browser takes seconds for a table of thousands of cells, so only the first lines are in the document; more come
// when the reader scrolls to their end. Of a wide table a line has the cells of the chosen columns alone.

const body = document.querySelector("#leaderboard tbody");
const lines = [...body.rows]; // by row, whatever their order in the table
const AT_ONCE = Math.max(20, Math.round(400 / (1 + Math.min(benchmarks.length, content.first)))); // lines
const more = el("tr", { className: "more" }, el("td", { colSpan: 3 + benchmarks.length },
  el("button", { type: "button" }, "Show more rows")));
const FIXED = content.averaged.length > 1 ? 3 : 2; // cells before the benchmarks': baseline, model, average
const cellsOf = lines.map((line) => [...line.cells].slice(FIXED)); // by row and benchmark, as far as they were needed
const heads = [...document.querySelectorAll("#leaderboard thead th[data-key]")];
const MARKS = { better: "\u25b2", worse: "\u25bc", noise: "\u2248", untested: "\u0394" };

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

// The cell of a column that the page was not written with.
function makeCell(index, place) {
  const { name } = benchmarks[place];
  const row = rows[index];
  const cell = row.cells[name];
  if (!cell) return el("td", { className: "number" }, el("span", { className: "value none" }, "\u2013", hidden("not evaluated")));
  const { metric, scorer } = kinds[cell.kind];
  const numbers = [el("span", { className: "value" }, cell.value === null ? "\u2013" : oneDecimal(cell.value)), " ",
    cell.interval ? el("span", { className: "interval" }, `${oneDecimal(cell.interval[0])}\u2013${oneDecimal(cell.interval[1])}`) : ""];
  const shown = cell.block
    ? el("button", { type: "button", className: "cell", title: `${cell.n} items, ${metric}, ${scorer}` }, ...numbers, hidden(`: samples of ${row.name} on ${name}`))
    : el("span", { className: "cell", title: cell.reason ?? "" }, ...numbers);
  if (cell.block) shown.dataset.benchmark = place;
  const excluded = cell.excluded && !row.reference;
  const below = excluded
    ? el("span", { className: "remark", title: `not compared: ${cell.excluded}` }, "not compared", hidden(`: ${cell.excluded}`))
    : el("span", { className: "versus" });
  if (!excluded) below.dataset.measure = name;
  return el("td", { className: `number${excluded ? " excluded" : ""}` }, shown, below,
    cell.chosen ? el("span", { className: "remark", title: `its numbers were chosen by ${cell.chosen} of these items` }, "selected on these items") : "",
    cell.unscored ? el("span", { className: "remark" }, `${cell.unscored} unscored`) : "");
}

let drawnOrder = [];

function drawTable() {
  if (state.order.length === drawnOrder.length && state.order.every((index, at) => index === drawnOrder[at])) {
    for (const line of body.rows) if (line !== more) drawDifferences(Number(line.dataset.row)); // the reader stays where she is
  } else {
    body.replaceChildren();
    drawnOrder = state.order;
    drawLines(AT_ONCE);
  }
  for (const head of heads) head.hidden = !isChosen(headKey(head)) && headKey(head) !== "name";
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
    delete drawnAgainst[index];
    chooseCells(index);
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

function chooseCells(index) {
  const fixed = [...lines[index].cells].slice(0, FIXED);
  const cells = benchmarks.flatMap(({ name }, place) => (isChosen(name) ? [cellsOf[index][place] ??= makeCell(index, place)] : []));
  lines[index].replaceChildren(...fixed, ...cells);
}

function drawBaseline() {
  const key = byId("key");
  if (state.baseline === null) key.textContent = "No baseline: choose one by the circle before a row to see how the others differ from it.";
  else {
    key.replaceChildren(
      "Below each value, the difference from ", el("strong", {}, rows[state.baseline].name), " in points over the same items: ",
      el("span", { className: "better" }, `${MARKS.better} better`), ", ",
      el("span", { className: "worse" }, `${MARKS.worse} worse`), ", ",
      el("span", { className: "noise" }, `${MARKS.noise} inside the noise`),
      " (5 %, corrected by Holm over all comparisons with it). ",
      placeOf.has(state.baseline) && placeOf.size === lines.filter((_, index) => !rows[index].reference).length ? ""
        : `${MARKS.untested}: the difference alone; this page does not test that pair. `,
      "The circle before a row makes it the baseline.",
    );
  }
}

function startTable() {
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
  more.addEventListener("click", () => drawLines(AT_ONCE));
  new IntersectionObserver((entries) => {
    if (entries.at(-1).isIntersecting) drawLines(AT_ONCE);
  }, { rootMargin: "600px" }).observe(more);
  window.addEventListener("beforeprint", () => drawLines(state.order.length));
}
