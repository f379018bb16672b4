// The items of one cell, or of two cells side by side.

// Returns [{ id, prompt, target, sides: [side, ...] }], a side being { value, verdict, answer, response, why, prompt }
// or null where that model has not seen the document.
async function itemsOf(benchmark, indices) {
  const column = benchmarks.findIndex((each) => each.name === benchmark);
  const cells = indices.map((index) => rows[index].cells[benchmark]);
  const [documents, ...blocks] = await Promise.all([unpack(`documents-${column}`), ...cells.map((cell) => unpack(cell.block))]);
  const places = blocks.map((block) => new Map(block.doc.map((number, position) => [number, position])));
  const numbers = [...new Set(blocks.flatMap((block) => block.doc))];
  const items = numbers.map((number) => ({
    id: documents.id[number],
    prompt: documents.prompt[number],
    target: documents.target[number],
    sides: blocks.map((block, which) => {
      const at = places[which].get(number);
      if (at === undefined) return null;
      return {
        value: block.value[at],
        verdict: block.verdict[at],
        answer: block.answer[at] ?? block.response[at],
        response: block.response[at],
        why: block.why[at],
        told: block.told[at] ?? "",
        prompt: block.own[at] ?? null,
      };
    }),
  }));
  return items.sort((a, b) => a.id - b.id);
}

function standing(side) {
  if (!side || side.value === null) return "unscored";
  return side.value >= 1 ? "right" : side.value <= 0 ? "wrong" : "partly";
}

const STANDING = { right: "\u2713", wrong: "\u2717", partly: "\u25d0", unscored: "?" };

// What a reader may narrow the list to: label, and which items stay.
const CHOICES = {
  one: {
    all: ["All", () => true],
    right: ["Right", (item) => standing(item.sides[0]) === "right"],
    wrong: ["Wrong", (item) => standing(item.sides[0]) === "wrong"],
    partly: ["In between", (item) => standing(item.sides[0]) === "partly"],
    unscored: ["Unscored", (item) => standing(item.sides[0]) === "unscored"],
  },
  two: {
    differ: ["Differ", (item) => item.sides[0]?.value !== item.sides[1]?.value],
    first: ["First better", (item) => both(item) && item.sides[0].value > item.sides[1].value],
    second: ["Second better", (item) => both(item) && item.sides[0].value < item.sides[1].value],
    same: ["Same verdict", (item) => both(item) && item.sides[0].value === item.sides[1].value],
    all: ["All", () => true],
  },
};

const both = (item) => item.sides.every((side) => side && side.value !== null);

function itemText(item) {
  const parts = item.sides.flatMap((side) => (side ? [side.response, side.answer, side.verdict, side.why] : []));
  return [String(item.id), item.prompt, item.target, ...parts].join("\n").toLowerCase();
}

// One part of an item: a heading and text as it is.
function part(title, text, kind = "") {
  if (text === "" || text === null || text === undefined) return null;
  return el("section", { className: `part ${kind}` }, el("h4", {}, title), el("pre", {}, text));
}

function sideView(side, name, titled) {
  const title = titled ? el("h3", {}, name) : null;
  if (!side) return el("div", { className: "side" }, title, el("p", { className: "remark" }, "This model has not seen the document."));
  const kind = standing(side);
  const value = side.value === null ? "unscored" : side.value === 0 || side.value === 1 ? "" : ` (${side.value.toFixed(2)})`;
  const verdict = el("p", { className: `verdict ${kind}` }, el("span", { ariaHidden: "true" }, STANDING[kind]),
    ` ${side.verdict || kind}${value && value !== side.verdict ? value.replace("unscored", " \u2013 unscored") : ""}`);
  const told = side.told ? el("p", { className: "told" }, side.told) : null;
  return el("div", { className: "side" }, title, verdict, told, side.prompt === null ? null : part("Its own prompt", side.prompt),
    part("Answer of the model", side.response, "response"),
    side.answer === side.response ? null : part("What was scored", side.answer),
    part(side.told ? "Reply of the judge" : kind === "right" ? "Reasons" : "Reasons of the verdict", side.why));
}

function itemView(item, names, benchmark) {
  const reference = benchmark.split(" (", 1)[0] === "alpaca_eval" ? "Answer of the baseline" : "Reference";
  return [
    el("h3", { className: "document", tabIndex: -1 }, `Document ${item.id}`),
    part("Prompt", item.prompt, "prompt"),
    part(reference, item.target, "reference"),
    el("div", { className: names.length > 1 ? "sides" : "" }, ...item.sides.map((side, which) => sideView(side, names[which], names.length > 1))),
  ].filter(Boolean);
}
