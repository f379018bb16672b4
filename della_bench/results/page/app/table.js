// The table: sorting, filtering, the baseline and the differences from it.

const body = document.querySelector("#leaderboard tbody");
const tableRows = [...body.rows];
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

function drawTable() {
  const place = new Map(state.order.map((index, position) => [index, position]));
  for (const line of tableRows) line.hidden = !place.has(Number(line.dataset.row));
  body.append(...state.order.map((index) => tableRows[index]), ...tableRows.filter((line) => line.hidden));
  for (const head of heads) {
    const sorted = headKey(head) === state.key;
    if (sorted) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  byId("shown").textContent = `${state.order.length} of ${rows.length} rows`;
}

function drawBaseline() {
  byId("baseline").value = state.baseline ?? "";
  for (const line of tableRows) {
    const index = Number(line.dataset.row);
    line.classList.toggle("baseline", index === state.baseline);
    line.querySelector("button.pin")?.setAttribute("aria-pressed", String(index === state.baseline));
    for (const place of line.querySelectorAll(".versus")) {
      place.replaceChildren(...versusNodes(place.dataset.measure, index));
    }
  }
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
  for (const button of body.querySelectorAll("button.pin")) {
    button.disabled = !placeOf.has(Number(button.closest("tr").dataset.row));
  }
}
