// Paired differences between all shown rows: a table whose cells are coloured, walked with the arrow keys.

const heat = { measure: measures[0] };
const ROOMY = 14; // rows up to which a cell has room for its number

function drawHeat() {
  const shown = state.order.filter((index) => placeOf.has(index) && measured(rows[index], heat.measure));
  const holder = byId("heat");
  byId("difference").textContent = "";
  if (shown.length < 2) {
    holder.replaceChildren(el("p", { className: "remark" }, "Fewer than two models to compare."));
    byId("heat-legend").replaceChildren();
    return;
  }
  const found = shown.map((i) => shown.map((j) => compare(heat.measure, i, j)));
  const most = Math.max(1, ...found.flat().map((each) => Math.abs(each?.difference ?? 0)));
  const head = shown.map((index) => el("th", { scope: "col" }, el("span", { title: rows[index].name }, rows[index].name)));
  const lines = shown.map((i, y) => el("tr", {}, el("th", { scope: "row", title: rows[i].name }, rows[i].name),
    ...shown.map((j, x) => heatCell(found[y][x], i, j, most, shown.length <= ROOMY))));
  const caption = el("caption", { className: "hidden" }, `Differences of ${measureName(heat.measure)} in points, row minus column`);
  const grid = el("table", { className: shown.length <= ROOMY ? "heat" : "heat small", role: "grid" }, caption,
    el("thead", {}, el("tr", {}, el("td", {}), ...head)), el("tbody", {}, ...lines));
  holder.replaceChildren(grid);
  grid.querySelector("button")?.setAttribute("tabindex", "0");
  walk(grid);
  byId("heat-legend").replaceChildren(
    legendEntry("heat worse", `row worse, down to ${oneDecimal(-most)}`), legendEntry("heat better", `row better, up to ${signed(most)}`),
    legendEntry("heat framed", "more than noise"));
}

function heatCell(found, i, j, most, roomy) {
  if (i === j) return el("td", { className: "self" });
  if (!found || found.reason) {
    const reason = found?.reason ?? "not compared";
    return el("td", { className: "missing", title: reason }, hidden(reason));
  }
  const text = signed(found.difference);
  const label = `${rows[i].name} minus ${rows[j].name}: ${differenceText(found)}`;
  const button = el("button", { type: "button", tabIndex: -1, ariaLabel: label, className: `${found.difference < 0 ? "below" : "above"} ${found.verdict}` },
    roomy ? text : "");
  button.style.setProperty("--share", (Math.abs(found.difference) / most).toFixed(3));
  const tell = () => { byId("difference").textContent = label; };
  button.addEventListener("focus", tell);
  button.addEventListener("pointerenter", tell);
  button.addEventListener("click", () => openViewer({ row: i, other: j, benchmark: comparable(i, j) }));
  return el("td", {}, button);
}

// The benchmark to show two rows on: the chosen one, or for the average the first that both have samples of.
function comparable(i, j) {
  if (heat.measure !== AVERAGE) return heat.measure;
  return benchmarks.map((benchmark) => benchmark.name).find((name) => rows[i].cells[name]?.block && rows[j].cells[name]?.block) ?? benchmarks[0].name;
}

function walk(grid) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  grid.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    const cell = event.target.closest("td");
    if (!move || !cell) return;
    event.preventDefault();
    let [y, x] = [cell.parentElement.rowIndex + move[0], cell.cellIndex + move[1]];
    for (; grid.rows[y]?.cells[x]; y += move[0], x += move[1]) {
      const button = grid.rows[y].cells[x].querySelector("button");
      if (!button) continue; // a row against itself, or one that is not compared
      for (const other of grid.querySelectorAll("button[tabindex='0']")) other.tabIndex = -1;
      button.tabIndex = 0;
      button.focus();
      return;
    }
  });
}

function startHeat() {
  const chooser = byId("measure");
  chooser.append(...measures.map((measure) => option(measure, measureName(measure), measure === heat.measure)));
  chooser.addEventListener("change", () => {
    heat.measure = chooser.value;
    drawHeat();
  });
  onChangeInSight("differences", drawHeat);
}
