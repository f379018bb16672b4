// The samples behind a number, and where two models differ, in a dialog that an address can name.

const dialog = byId("viewer");
let viewed = null; // { row, other, benchmark, choice, search, at, items, list }

async function openViewer({ row, benchmark, other = null, document: id = null, choice = null }) {
  viewed = { row, benchmark, other, choice: choice ?? (other === null ? "all" : "differ"), search: "", at: 0, items: [], list: [] };
  const current = viewed;
  const chooser = dialog.open ? document.activeElement?.id : ""; // what the reader opened this with from inside
  drawFrame();
  if (!dialog.open) dialog.showModal();
  if (chooser) byId(chooser)?.focus();
  const missing = [row, other].find((index) => index !== null && !rows[index].cells[benchmark]?.block);
  if (missing !== undefined) {
    note(rows[missing].cells[benchmark]?.reason ?? `${rows[missing].name} was not evaluated on ${benchmark}.`);
    return;
  }
  try {
    current.items = await itemsOf(benchmark, other === null ? [row] : [row, other]);
  } catch (error) {
    note(`These samples cannot be unpacked: ${error.message}`);
    return;
  }
  if (current !== viewed) return; // another was opened meanwhile
  if (id !== null && !filtered().some((item) => item.id === id)) viewed.choice = "all";
  drawChoices();
  drawList(id);
  if (!chooser) focusItem();
}

function note(text) {
  byId("item").replaceChildren(el("p", { className: "notice" }, text));
}

function drawFrame() {
  const { row, other, benchmark } = viewed;
  const cell = rows[row].cells[benchmark];
  const names = [rows[row].name, other === null ? null : rows[other].name].filter(Boolean);
  const title = el("h2", { id: "viewer-title" }, names.join(" and "), el("small", {}, ` on ${benchmark}`));
  const others = rows.flatMap((each, index) => (index !== row && each.cells[benchmark]?.block ? [[index, each.name]] : []));
  const against = el("select", { id: "against" }, option("", "no other", other === null),
    ...others.map(([index, name]) => option(index, name, index === other)));
  against.addEventListener("change", () => openViewer({ row, benchmark, other: against.value === "" ? null : Number(against.value) }));
  const shared = benchmarks.filter((each) => rows[row].cells[each.name] && (other === null || rows[other].cells[each.name]));
  const where = el("select", { id: "where" }, ...shared.map((each) => option(each.name, each.name, each.name === benchmark)));
  where.addEventListener("change", () => openViewer({ row, other, benchmark: where.value }));
  const search = el("input", { type: "search", id: "search", placeholder: "text of prompt or answer", spellcheck: false });
  search.addEventListener("input", () => {
    viewed.search = search.value.toLowerCase();
    drawList();
  });
  const close = el("button", { type: "button", id: "close" }, "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    el("header", {}, el("div", {}, title, el("p", { className: "remark" }, factsOf(row, other, benchmark, cell))), close),
    el("div", { className: "tools" }, el("div", { id: "choices", role: "group", ariaLabel: "Which items" }),
      el("label", {}, "Search ", search), el("label", {}, "Benchmark ", where), el("label", {}, "Side by side with ", against)),
    el("div", { className: "split" }, el("ol", { id: "items", ariaLabel: "Items" }), el("article", { id: "item", ariaLive: "polite" })),
    el("p", { className: "remark keys" }, "Up and down: next item. Esc: close."),
  );
}

function factsOf(row, other, benchmark, cell) {
  const found = other === null ? null : compare(benchmark, row, other);
  if (found) return found.reason ? `not compared: ${found.reason}` : `First minus second: ${differenceText(found)}.`;
  if (!cell || cell.value === null) return "nothing scored";
  const { metric, scorer, settings } = kinds[cell.kind];
  return [`${oneDecimal(cell.value)} (${intervalText(cell.interval)})`, `${metric} over ${cell.n} items`,
    cell.unscored ? `${cell.unscored} unscored` : "", scorer, settings, cell.date].filter(Boolean).join(" \u00b7 ");
}

const choices = () => (viewed.other === null ? CHOICES.one : CHOICES.two);

function filtered() {
  const [, keep] = choices()[viewed.choice];
  return viewed.items.filter((item) => keep(item) && (!viewed.search || (item.text ??= itemText(item)).includes(viewed.search)));
}

function drawChoices() {
  const buttons = Object.entries(choices()).map(([key, [label, keep]]) => {
    const count = viewed.items.filter(keep).length;
    const text = viewed.other === null || !["first", "second"].includes(key) ? label
      : `${rows[key === "first" ? viewed.row : viewed.other].name} better`;
    const button = el("button", { type: "button", disabled: !count && key !== viewed.choice, value: key }, `${text} ${count}`);
    button.setAttribute("aria-pressed", String(key === viewed.choice));
    button.addEventListener("click", () => {
      viewed.choice = key;
      for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
      drawList();
    });
    return button;
  }).filter((button) => !button.disabled || !["partly", "unscored"].includes(button.value));
  byId("choices").replaceChildren(...buttons);
}

function drawList(id = null) {
  viewed.list = filtered();
  viewed.at = Math.max(0, viewed.list.findIndex((item) => item.id === id));
  const list = byId("items");
  list.replaceChildren(...viewed.list.map((item, position) => {
    const marks = item.sides.map((side) => {
      const kind = standing(side);
      return el("span", { className: `mark ${kind}` }, el("span", { ariaHidden: "true" }, STANDING[kind]), hidden(kind));
    });
    const button = el("button", { type: "button", tabIndex: -1 }, el("span", { className: "id" }, String(item.id)), ...marks, el("span", { className: "line" }, firstWords(item.prompt)));
    button.addEventListener("click", () => show(position));
    return el("li", {}, button);
  }));
  if (viewed.list.length) show(viewed.at);
  else note("No item of this kind.");
}

// What tells a prompt from the others of its template: what follows the instruction's mark, or the first line.
const MARK = /### Instruction:|USER:|Question:|Input:/;

function firstWords(prompt) {
  const mark = MARK.exec(prompt);
  const rest = mark ? prompt.slice(mark.index + mark[0].length) : prompt;
  return (rest.trim() || prompt.trim()).split("\n", 1)[0].slice(0, 90);
}

function show(position) {
  viewed.at = position;
  const list = byId("items");
  list.querySelector("[aria-current]")?.removeAttribute("aria-current");
  for (const button of list.querySelectorAll("button[tabindex='0']")) button.tabIndex = -1;
  const button = list.children[position].firstElementChild;
  button.setAttribute("aria-current", "true");
  button.tabIndex = 0;
  button.scrollIntoView({ block: "nearest" });
  const item = viewed.list[position];
  const names = [viewed.row, viewed.other].filter((index) => index !== null).map((index) => rows[index].name);
  const view = byId("item");
  view.replaceChildren(...itemView(item, names, viewed.benchmark));
  view.scrollTop = 0;
  history.replaceState(null, "", addressOf(item.id));
}

function focusItem() {
  byId("items").querySelector("[aria-current]")?.focus();
}

dialog.addEventListener("keydown", (event) => {
  if (!viewed || event.target.closest("select, input, #item")) return;
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
  if (!step || !viewed.list.length) return;
  event.preventDefault();
  show(Math.min(viewed.list.length - 1, Math.max(0, viewed.at + step)));
  focusItem();
});

dialog.addEventListener("close", () => {
  viewed = null;
  dialog.replaceChildren();
  history.replaceState(null, "", "#table");
});

// #items=<fingerprint>/<benchmark>/<document>[/<other fingerprint>], which outlives another order of rows.
function addressOf(id) {
  const parts = [rows[viewed.row].fingerprint, viewed.benchmark, String(id)];
  if (viewed.other !== null) parts.push(rows[viewed.other].fingerprint);
  return `#items=${parts.map(encodeURIComponent).join("/")}`;
}

function openAddress() {
  if (!location.hash.startsWith("#items=")) return;
  let parts;
  try {
    parts = location.hash.slice("#items=".length).split("/").map(decodeURIComponent);
  } catch {
    return; // no address of ours
  }
  const row = rows.findIndex((each) => each.fingerprint === parts[0]);
  const other = parts[3] ? rows.findIndex((each) => each.fingerprint === parts[3]) : null;
  if (row < 0 || other === -1 || !rows[row].cells[parts[1]]) return;
  openViewer({ row, other, benchmark: parts[1], document: Number(parts[2]) });
}
