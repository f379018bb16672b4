// What every page of this package is made with: elements, numbers as people read them, drawings as images.

const byId = (id) => document.getElementById(id);

// An element with properties and children. Children are nodes or text: nothing here is ever parsed as HTML.
function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

const hidden = (text) => el("span", { className: "hidden" }, text);

function option(value, text, selected) {
  return el("option", { value, selected }, text);
}

const minus = (text) => text.replace("-", "\u2212");
const oneDecimal = (value) => minus(value.toFixed(1));

function signed(value) {
  const text = value.toFixed(1);
  return Number(text) === 0 ? "0.0" : value > 0 ? `+${text}` : minus(text);
}

// One image with one label to assistive technology: Plot labels its parts, too, which only an element with a role may be.
function asImage(chart) {
  chart.setAttribute("role", "img");
  for (const part of chart.querySelectorAll("g[aria-label]")) {
    part.dataset.mark = part.getAttribute("aria-label");
    part.removeAttribute("aria-label");
  }
  return chart;
}

function legendEntry(kind, text) {
  return el("li", {}, el("span", { className: `swatch ${kind}`, ariaHidden: "true" }), text);
}
