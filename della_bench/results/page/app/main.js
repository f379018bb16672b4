// Everything in its order, and drawn again where the window's width changes what fits.

startTable();
startCharts();
if (benchmarks.length > 1) startTradeoff();
else byId("tradeoff").hidden = true;
startHeat();
change({});
openAddress();
window.addEventListener("hashchange", openAddress);

let width = document.documentElement.clientWidth;
let waiting = 0;
new ResizeObserver(() => {
  const now = document.documentElement.clientWidth;
  if (now === width) return;
  width = now;
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    redrawCharts();
    redrawTradeoff?.();
  }, 120);
}).observe(document.documentElement);
document.documentElement.dataset.ready = "true";
