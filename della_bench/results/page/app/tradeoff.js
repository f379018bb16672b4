// One skill against another.

const chosen = { across: measures.find((name) => name !== AVERAGE), up: measures.filter((name) => name !== AVERAGE)[1] };
const REFERENCE = "reference";
const NO_METHOD = "no merge";
const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "wye", "hexagon"];
const LABELLED = 150; // dots whose names are tried
const MANY = SYMBOLS.length; // the palette's colours, too; further methods share the last

const methods = (() => {
  const seen = rows.filter((row) => !row.reference).map(methodOf);
  const names = [...new Set(seen)].filter((name) => name !== NO_METHOD);
  names.sort((a, b) => seen.filter((name) => name === b).length - seen.filter((name) => name === a).length);
  return names.length > MANY ? [...names.slice(0, MANY - 1), "other methods"] : names;
})();

function methodOf(row) {
  if (row.reference) return REFERENCE;
  return row.method && row.method !== "passthrough" ? row.method : NO_METHOD;
}

function look(method) {
  if (method === REFERENCE) return { ink: "var(--noise)", symbol: "asterisk" };
  if (method === NO_METHOD) return { ink: "var(--ink)", symbol: "times" };
  const place = methods.includes(method) ? methods.indexOf(method) : methods.length - 1;
  return { ink: `var(--series-${place + 1})`, symbol: SYMBOLS[place] };
}

function front(found) {
  const kept = found.filter((point) => !rows[point.index].reference && !found.some((other) =>
    !rows[other.index].reference && other.x >= point.x && other.y >= point.y && (other.x > point.x || other.y > point.y)));
  return kept.sort((a, b) => a.x - b.x || b.y - a.y);
}

function drawTradeoff() {
  const holder = byId("scatter");
  const { across, up } = chosen;
  const found = state.order.flatMap((index) => {
    const [x, y] = [measured(rows[index], across), measured(rows[index], up)];
    if (!x || !y) return [];
    return [{ index, name: rows[index].name, x: x.value, y: y.value, xs: x.interval, ys: y.interval, ...look(methodOf(rows[index])) }];
  });
  if (!found.length) {
    holder.replaceChildren(el("p", { className: "remark" }, "No shown model has both."));
    byId("method-legend").replaceChildren();
    return;
  }
  const best = front(found);
  const width = Math.min(960, byId("tradeoff").clientWidth || 640);
  const bars = found.length <= 60 ? 0.35 : 0.12;
  const chart = Plot.plot({
    className: "chart",
    ariaLabel: `${measureName(up)} against ${measureName(across)} for ${found.length} models. `
      + `Not beaten on both by another: ${best.map((point) => `${point.name} (${oneDecimal(point.x)}, ${oneDecimal(point.y)})`).join("; ")}.`,
    width,
    height: Math.max(320, Math.min(600, width * 0.66)),
    marginLeft: 48, marginBottom: 44, marginRight: Math.min(110, width * 0.14), marginTop: 24,
    style: { fontSize: "12px", background: "transparent" },
    x: { label: `${measureName(across)} (percent) \u2192`, grid: true, ticks: width / 90, nice: true, labelAnchor: "right", labelArrow: "none" },
    y: { label: `\u2191 ${measureName(up)} (percent)`, grid: true, ticks: 7, nice: true, labelArrow: "none" },
    inset: 10,
    color: { type: "identity" },
    symbol: { type: "identity" },
    marks: [
      Plot.link(found.filter((point) => point.xs), { x1: (point) => point.xs[0], x2: (point) => point.xs[1], y: "y", stroke: "ink", strokeOpacity: bars }),
      Plot.link(found.filter((point) => point.ys), { y1: (point) => point.ys[0], y2: (point) => point.ys[1], x: "x", stroke: "ink", strokeOpacity: bars }),
      Plot.line(best, { x: "x", y: "y", stroke: "var(--muted)", strokeDasharray: "4,3" }),
      Plot.dot(found, { x: "x", y: "y", symbol: "symbol", r: 5, fill: "ink", stroke: (point) => (["times", "asterisk"].includes(point.symbol) ? point.ink : "var(--surface)"), strokeWidth: (point) => (point.symbol === "times" ? 2.4 : 1) }),
      state.baseline !== null ? Plot.dot(found.filter((point) => point.index === state.baseline), { x: "x", y: "y", r: 10, stroke: "var(--ink)", strokeDasharray: "2,2" }) : null,
      Plot.tip(found, Plot.pointer({ x: "x", y: "y", title: (point) =>
        `${point.name}\n${measureName(across)} ${oneDecimal(point.x)} (${intervalText(point.xs)})\n${measureName(up)} ${oneDecimal(point.y)} (${intervalText(point.ys)})` })),
    ],
  });
  asImage(chart);
  holder.replaceChildren(chart, alternative(found, best));
  placeLabels(chart, found, best);
  const used = [...new Set(found.map((point) => methodOf(rows[point.index])))];
  const kinds = [...methods.filter((name) => used.some((method) => look(method).ink === look(name).ink)), NO_METHOD, REFERENCE]
    .filter((name) => methods.includes(name) || used.includes(name));
  byId("method-legend").replaceChildren(...kinds.map((name) => el("li", {}, symbolOf(name), name)));
}

function symbolOf(method) {
  const { ink, symbol } = look(method);
  const open = ["times", "asterisk"].includes(symbol);
  const shape = d3[`symbol${symbol[0].toUpperCase()}${symbol.slice(1)}`] ?? hexagon;
  const drawn = d3.create("svg").attr("viewBox", "-8 -8 16 16").attr("width", 14).attr("height", 14).attr("aria-hidden", "true");
  drawn.append("path").attr("d", d3.symbol(shape, 80)()).attr("fill", open ? "none" : ink).attr("stroke", open ? ink : "none").attr("stroke-width", 2);
  return drawn.node();
}

const hexagon = {
  draw(context, size) {
    const radius = Math.sqrt(size / 2.6);
    for (let corner = 0; corner < 6; corner += 1) {
      const [x, y] = [radius * Math.sin((corner * Math.PI) / 3), -radius * Math.cos((corner * Math.PI) / 3)];
      if (corner) context.lineTo(x, y);
      else context.moveTo(x, y);
    }
    context.closePath();
  },
};

// Names beside dots where they fit: those on the front and the baseline first, none over another or over a dot.
function placeLabels(chart, found, best) {
  const x = chart.scale("x");
  const y = chart.scale("y");
  const [width, height] = [Number(chart.getAttribute("width")), Number(chart.getAttribute("height"))];
  const front = new Set(best.map((point) => point.index));
  const rank = (point) => (point.index === state.baseline ? 0 : front.has(point.index) ? 1 : rows[point.index].reference ? 3 : 2);
  const taken = found.map((point) => [x.apply(point.x) - 6, y.apply(point.y) - 6, 12, 12]);
  const group = d3.select(chart).append("g").attr("class", "labels").attr("aria-hidden", "true").attr("font-size", 11);
  for (const point of [...found].sort((a, b) => rank(a) - rank(b)).slice(0, LABELLED)) {
    const text = point.name;
    const size = text.length * 6.6;
    const [left, top] = [x.apply(point.x), y.apply(point.y)];
    const places = [[left + 9, top - 7, "start"], [left - 9 - size, top - 7, "end"], [left - size / 2, top - 22, "middle"], [left - size / 2, top + 9, "middle"]];
    const free = places.find(([a, b]) => a > 50 && b > 2 && a + size < width && b + 14 < height - 40
      && !taken.some(([c, d, w, h]) => a < c + w && a + size > c && b < d + h && b + 14 > d));
    if (!free) continue;
    taken.push([free[0], free[1], size, 14]);
    const along = { start: 0, end: size, middle: size / 2 }[free[2]];
    group.append("text").attr("x", free[0] + along).attr("y", free[1] + 11).attr("text-anchor", free[2]).attr("fill", "var(--ink)")
      .attr("stroke", "var(--surface)").attr("stroke-width", 3).attr("paint-order", "stroke").text(text);
  }
}

function alternative(found, best) {
  const front = new Set(best.map((point) => point.index));
  const head = ["Model", measureName(chosen.across), measureName(chosen.up), "beaten on both"].map((text) => el("th", { scope: "col" }, text));
  const lines = found.map((point) => el("tr", {}, el("th", { scope: "row" }, point.name), el("td", {}, oneDecimal(point.x)),
    el("td", {}, oneDecimal(point.y)), el("td", {}, rows[point.index].reference ? "reference" : front.has(point.index) ? "no" : "yes")));
  return el("details", { className: "alternative" }, el("summary", {}, "The same as a table"),
    el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...lines)));
}

let redrawTradeoff;

function startTradeoff() {
  chosen.up ??= chosen.across;
  for (const side of ["across", "up"]) {
    const chooser = byId(side);
    chooser.append(...measures.map((measure) => option(measure, measureName(measure), measure === chosen[side])));
    chooser.addEventListener("change", () => {
      chosen[side] = chooser.value;
      drawTradeoff();
    });
  }
  redrawTradeoff = onChangeInSight("tradeoff", drawTradeoff);
}
