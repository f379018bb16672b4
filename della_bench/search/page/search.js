// The plots of a search. A stopped candidate has no value: it stands in the race and in the table alone.

const content = JSON.parse(byId("content").textContent);
const tried = content.candidates.filter((each) => each.number !== null);
const complete = tried.filter((each) => each.value !== null);
const SERIES = ["var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)"];
const STATES = { complete: SERIES[0], stopped: "var(--noise)", failed: "var(--worse)" };
const ORIGINS = { proposed: SERIES[0], default: SERIES[1], earlier: SERIES[2] };
const BINS = 10; // of a range of numbers without steps

const wide = () => Math.max(280, Math.min(960, document.querySelector("main").clientWidth));
const told = (each) => `${each.name}: ${each.value === null ? each.state : oneDecimal(each.value)}\n`
  + Object.entries(each.keys).map(([key, value]) => `${key} ${value}`).join("\n");

// A plot in the place of a figure's content, in the page's manner.
// It is no narrower than `least`: the figure is moved sideways where there is less room.
function draw(id, label, { least = 0, ...options }) {
  byId(id).replaceChildren(asImage(Plot.plot({
    className: "chart", ariaLabel: label, width: Math.max(least, wide()), marginLeft: 56, marginBottom: 40,
    style: { fontSize: "11px", background: "transparent" }, color: { type: "identity" }, ...options,
  })));
}

function empty(id, text) {
  byId(id).replaceChildren(el("p", { className: "remark" }, text));
}

function legend(id, colours, used) {
  byId(id).replaceChildren(...Object.keys(colours).filter((key) => used.has(key)).map((key) => {
    const entry = legendEntry("dot", key);
    entry.firstChild.style.setProperty("background", colours[key]);
    entry.firstChild.style.setProperty("border-color", colours[key]);
    return entry;
  }));
}

// The ends of an axis; a single number stands in the middle of some room, or its tick would have six decimals.
function span(values, room) {
  const [low, high] = d3.extent(values);
  return low === high ? [low - room, high + room] : [low, high];
}

const candidateAxis = (found) => ({ label: "candidate", domain: span(found.map((each) => each.number), 1), tickFormat: (at) => (Number.isInteger(at) && at >= 0 ? String(at) : "") });
const percentAxis = (found) => ({ grid: true, nice: true, domain: span(found.map((each) => each.value), 5) });

function drawHistory() {
  if (!complete.length) return empty("history-plot", "No candidate has seen all search items.");
  let best = -Infinity;
  const bests = complete.map((each) => ({ number: each.number, value: (best = Math.max(best, each.value)) }));
  legend("origins", ORIGINS, new Set(complete.map((each) => each.origin)));
  draw("history-plot", `Scores of ${complete.length} candidates; the best has ${oneDecimal(best)} percent.`, {
    height: 300, x: candidateAxis(complete), y: { label: "percent on the search items", ...percentAxis(complete) },
    marks: [
      Plot.line(bests, { x: "number", y: "value", curve: "step-after", stroke: "var(--ink)", strokeOpacity: 0.6 }),
      Plot.dot(complete, { x: "number", y: "value", r: 3.6, fill: (each) => ORIGINS[each.origin] }),
      Plot.tip(complete, Plot.pointer({ x: "number", y: "value", title: told })),
    ],
  });
}

function drawRace() {
  if (!tried.length) return empty("race-plot", "Nobody was tried.");
  legend("states", STATES, new Set(tried.map((each) => each.state)));
  const stopped = tried.filter((each) => each.state === "stopped").length;
  draw("race-plot", `${stopped} of ${tried.length} candidates were stopped before they had seen all ${content.items} items.`, {
    height: 220, x: candidateAxis(tried), y: { label: "items", domain: [0, content.items], grid: true },
    marks: [
      Plot.ruleX(tried, { x: "number", y1: 0, y2: "items", stroke: (each) => STATES[each.state], strokeWidth: Math.max(1, Math.min(8, (wide() - 80) / tried.length - 2)) }),
      Plot.dot(tried.filter((each) => !each.items), { x: "number", y: 0, symbol: "times", r: 3.4, dy: -6, stroke: (each) => STATES[each.state] }),
      Plot.tip(tried, Plot.pointerX({ x: "number", y: "items", title: told })),
    ],
  });
}

// The values of a key as steps: every one where they are few, else equal parts of the range.
function steps(key) {
  const values = complete.map((each) => each.keys[key]).filter((value) => value !== undefined);
  const unique = [...new Set(values)];
  if (unique.some((value) => typeof value === "string") || unique.length <= BINS) {
    const order = unique.sort((a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true })));
    return { labels: order.map(String), of: (value) => String(value) };
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const label = (bin) => `${Number((low + (bin * (high - low)) / BINS).toPrecision(3))} to ${Number((low + ((bin + 1) * (high - low)) / BINS).toPrecision(3))}`;
  return {
    labels: Array.from({ length: BINS }, (_, bin) => label(bin)),
    of: (value) => label(Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS))),
  };
}

function drawHeat() {
  const [x, y, of] = ["heat-x", "heat-y", "heat-of"].map((id) => byId(id).value);
  const found = complete.filter((each) => each.keys[x] !== undefined && each.keys[y] !== undefined);
  if (!found.length) return empty("heat-plot", "No candidate that has seen all items has both keys.");
  const [across, up] = [steps(x), steps(y)];
  const cells = d3.rollups(found, (each) => each, (each) => across.of(each.keys[x]), (each) => up.of(each.keys[y]))
    .flatMap(([column, rows]) => rows.map(([row, members]) => {
      const values = members.map((each) => each.value);
      return { column, row, count: values.length, value: of === "best" ? Math.max(...values) : d3.mean(values) };
    }));
  const [low, high] = d3.extent(cells, (cell) => cell.value);
  const strength = (cell) => 0.12 + 0.88 * (high > low ? (cell.value - low) / (high - low) : 1);
  draw("heat-plot", `The ${of} score by ${x} and ${y}, from ${oneDecimal(low)} to ${oneDecimal(high)} percent.`, {
    least: 130 + 46 * across.labels.length, height: 80 + 30 * up.labels.length, marginLeft: 110, marginBottom: 76,
    x: { label: x, domain: across.labels, tickRotate: -35 }, y: { label: y, domain: [...up.labels].reverse() },
    marks: [
      Plot.cell(cells, { x: "column", y: "row", fill: "var(--accent)", fillOpacity: strength, inset: 0.5 }),
      Plot.text(cells, { x: "column", y: "row", text: (cell) => oneDecimal(cell.value), fill: (cell) => (strength(cell) > 0.55 ? "var(--surface)" : "var(--ink)") }),
      Plot.tip(cells, Plot.pointer({ x: "column", y: "row", title: (cell) => `${x} ${cell.column}\n${y} ${cell.row}\n${of} of ${cell.count}: ${oneDecimal(cell.value)}` })),
    ],
  });
}

function drawKeys() {
  byId("key-panels").replaceChildren(...content.dimensions.map((key) => {
    const found = complete.filter((each) => each.keys[key] !== undefined);
    const caption = el("figcaption", {}, el("strong", {}, key));
    if (!found.length) return el("figure", {}, caption, el("p", { className: "remark" }, "No candidate that has seen all items has it."));
    const words = found.some((each) => typeof each.keys[key] === "string");
    const place = words ? { label: null, type: "point", tickRotate: -30 } : { label: key, type: "linear", domain: span(found.map((each) => each.keys[key]), 0.5) };
    const chart = Plot.plot({
      className: "chart", ariaLabel: `The score of ${found.length} candidates by ${key}.`, width: Math.min(460, wide()), height: 220, marginLeft: 46,
      marginBottom: words ? 70 : 36, style: { fontSize: "11px", background: "transparent" },
      x: place, y: { label: "percent", ...percentAxis(found) },
      marks: [
        Plot.dot(found, { x: (each) => each.keys[key], y: "value", r: 3.2, fill: SERIES[0], fillOpacity: 0.75 }),
        Plot.tip(found, Plot.pointer({ x: (each) => each.keys[key], y: "value", title: told })),
      ],
    });
    return el("figure", {}, caption, asImage(chart));
  }));
}

function drawImportance() {
  const found = Object.entries(content.importances[byId("importance-of").value] ?? {});
  byId("importance-of").closest(".tools").hidden = !found.length;
  if (!found.length) return empty("importance-plot", content.numbers.length > 1 ? "Several numbers are wanted: there is no one score that a key could have to do with." : "Too few candidates have seen all items to tell.");
  draw("importance-plot", `Importances: ${found.map(([key, share]) => `${key} ${share.toFixed(2)}`).join(", ")}.`, {
    height: 50 + 24 * found.length, marginLeft: 130, x: { label: "share", domain: [0, 1], grid: true }, y: { label: null },
    marks: [
      Plot.barX(found, { x: (each) => each[1], y: (each) => each[0], fill: SERIES[0], sort: { y: "-x" } }),
      Plot.text(found, { x: (each) => each[1], y: (each) => each[0], text: (each) => each[1].toFixed(2), textAnchor: "start", dx: 4, fill: "var(--ink)" }),
    ],
  });
}

function drawParallel() {
  if (complete.length < 2) return empty("parallel-plot", "Fewer than two candidates have seen all items.");
  const axes = [...content.dimensions, "score"];
  const value = (each, axis) => (axis === "score" ? each.value : each.keys[axis]);
  const scales = new Map(axes.map((axis) => {
    const values = complete.map((each) => value(each, axis)).filter((each) => each !== undefined);
    const words = values.some((each) => typeof each === "string");
    return [axis, words ? d3.scalePoint([...new Set(values.map(String))].sort(), [0, 1]) : d3.scaleLinear(d3.extent(values), [0, 1])];
  }));
  const [low, high] = d3.extent(complete, (each) => each.value);
  const lines = complete.flatMap((each) => axes.filter((axis) => value(each, axis) !== undefined)
    .map((axis) => ({ axis, place: scales.get(axis)(value(each, axis)) ?? 0.5, each })));
  const ends = axes.flatMap((axis) => {
    const scale = scales.get(axis);
    return scale.domain().map((at) => ({ axis, place: scale(at) ?? 0.5, text: typeof at === "number" ? String(Number(at.toPrecision(3))) : at }));
  });
  draw("parallel-plot", `${complete.length} candidates over ${content.dimensions.length} keys and the score.`, {
    least: 120 + 62 * axes.length, height: 360, marginLeft: 60, marginRight: 60, x: { label: null, domain: axes, type: "point", tickRotate: -20 }, y: { axis: null, domain: [-0.05, 1.05] }, marginBottom: 60,
    marks: [
      Plot.ruleX(axes, { stroke: "var(--line)" }),
      Plot.line(lines, { x: "axis", y: "place", z: (point) => point.each.name, stroke: "var(--accent)", strokeOpacity: (point) => 0.06 + 0.9 * ((point.each.value - low) / (high - low || 1)) ** 3 }),
      Plot.text(ends, { x: "axis", y: "place", text: "text", fill: "var(--ink)", stroke: "var(--page)", strokeWidth: 3 }),
    ],
  });
}

function drawFront() {
  const [x, y] = ["front-x", "front-y"].map((id) => byId(id).value);
  const found = content.candidates.filter((each) => each.value !== null);
  const better = (a, b) => a.means[x] >= b.means[x] && a.means[y] >= b.means[y] && (a.means[x] > b.means[x] || a.means[y] > b.means[y]);
  const front = found.filter((each) => !found.some((other) => better(other, each))).sort((a, b) => a.means[x] - b.means[x]);
  const uncertain = front.filter((each) => each.intervals[x] && each.intervals[y]);
  const colour = (each) => (each.number === null ? "var(--worse)" : each.front === "within the noise" ? SERIES[1] : SERIES[0]);
  draw("front-plot", `${x} against ${y}; on the front: ${front.map((each) => each.name).join(", ")}.`, {
    height: 380, x: { label: x, grid: true, nice: true }, y: { label: y, grid: true, nice: true },
    marks: [
      Plot.line(front, { x: (each) => each.means[x], y: (each) => each.means[y], stroke: "var(--ink)", strokeOpacity: 0.6 }),
      Plot.ruleY(uncertain, { y: (each) => each.means[y], x1: (each) => each.intervals[x][0], x2: (each) => each.intervals[x][1], stroke: SERIES[0], strokeOpacity: 0.5 }),
      Plot.ruleX(uncertain, { x: (each) => each.means[x], y1: (each) => each.intervals[y][0], y2: (each) => each.intervals[y][1], stroke: SERIES[0], strokeOpacity: 0.5 }),
      Plot.dot(found, { x: (each) => each.means[x], y: (each) => each.means[y], r: 3.8, stroke: colour, fill: (each) => (front.includes(each) ? SERIES[0] : "var(--surface)") }),
      Plot.text(found.filter((each) => each.number === null), { x: (each) => each.means[x], y: (each) => each.means[y], text: "name", dy: -10, fill: "var(--ink)" }),
      Plot.tip(found, Plot.pointer({ x: (each) => each.means[x], y: (each) => each.means[y], title: told })),
    ],
  });
}

function drawFlattery() {
  const title = (each) => `${each.role}, ${each.name}`;
  const points = content.tested.flatMap((each) => ["search", "test"].filter((which) => each[which])
    .map((which) => ({ ...each[which], name: title(each), which })));
  if (!points.length) return byId("flattery").replaceChildren();
  const marks = [["search", SERIES[1], -5], ["test", SERIES[0], 5]].flatMap(([which, colour, dy]) => {
    const own = points.filter((point) => point.which === which);
    return [
      Plot.ruleY(own, { x1: "low", x2: "high", y: "name", stroke: colour, strokeOpacity: 0.7, dy }),
      Plot.dot(own, { x: "value", y: "name", r: 4.2, strokeWidth: 1.6, stroke: colour, fill: which === "test" ? colour : "var(--surface)", dy }),
    ];
  });
  draw("flattery", `Scores on search and test items: ${points.map((point) => `${point.name}, ${point.which} ${oneDecimal(point.value)}`).join("; ")}.`, {
    height: 60 + 38 * content.tested.length, marginLeft: 150, x: { label: "percent (above, hollow: search items; below, full: test items)", grid: true, nice: true },
    y: { label: null, domain: content.tested.map(title) }, marks,
  });
  return undefined;
}

function choices(id, names, chosen, redraw) {
  const select = byId(id);
  if (!select) return;
  select.replaceChildren(...names.map((name) => option(name, name || "all candidates", name === chosen)));
  select.addEventListener("change", redraw);
}

const keys = content.dimensions;
const numbers = keys.filter((key) => complete.some((each) => typeof each.keys[key] === "number"));
const first = [...["density", "lambda"].filter((key) => numbers.includes(key)), ...numbers, ...keys].filter((key, place, all) => all.indexOf(key) === place);
choices("heat-x", keys, first[0], drawHeat);
choices("heat-y", keys, first[1] ?? first[0], drawHeat);
choices("heat-of", ["best", "mean"], "best", drawHeat);
choices("importance-of", Object.keys(content.importances), "", drawImportance);
choices("front-x", content.benchmarks, content.benchmarks[0], drawFront);
choices("front-y", content.benchmarks, content.benchmarks[1], drawFront);

function drawAll() {
  drawFlattery();
  drawHistory();
  drawRace();
  drawHeat();
  drawKeys();
  drawImportance();
  drawParallel();
  if (byId("front-plot")) drawFront();
}

drawAll();
document.documentElement.dataset.ready = "true";
let width = wide();
window.addEventListener("resize", () => {
  if (wide() !== width) {
    width = wide();
    drawAll();
  }
});
