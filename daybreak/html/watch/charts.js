// Curves by uPlot: axes with ticks and units, over pictures seen, training time or steps, linear or logarithmic.
const COLOURS = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];
const AXES = {
  images: { label: "pictures seen", show: short },
  seconds: { label: "training time", show: duration },
  step: { label: "steps", show: short },
};
const HEIGHT = 210;

// The colour that a variable of the style stands for now: a canvas knows neither var() nor light-dark().
function colour(name) {
  const probe = document.getElementById("status");
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}
const sync = uPlot.sync("daybreak");

// spec: {title, unit, share, log}; each of the curves: {label, points: {images, seconds, step, value}, faint}.
class ChartCard {
  constructor(spec) {
    this.spec = spec;
    this.log = spec.log;
    this.place = h("div.plot");
    this.switch = h("button.quiet.small", { type: "button", onclick: () => this.toggle() });
    this.root = h("figure.chart", {}, h("figcaption", {}, h("b", {}, spec.title), this.switch), this.place);
    this.curves = [];
    this.axis = "images";
    new ResizeObserver(() => this.fit()).observe(this.place);
  }

  toggle() {
    this.log = !this.log;
    this.draw();
  }

  show(curves, axis) {
    this.curves = curves;
    const same = this.plot && axis === this.axis && curves.length === this.plot.series.length - 1;
    this.axis = axis;
    if (same) this.plot.setData(this.data());
    else this.draw();
  }

  data() {
    const tables = this.curves.map((c) => [c.points[this.axis], c.points.value.map((v) => this.shown(v))]).map(inOrder);
    return tables.length === 1 ? tables[0] : uPlot.join(tables);
  }

  shown(value) {
    if (value === null || (this.log && value <= 0)) return null;
    return this.spec.share ? 100 * value : value;
  }

  draw() {
    this.plot?.destroy();
    this.switch.textContent = this.log ? "log" : "linear";
    this.switch.title = `The axis is ${this.log ? "logarithmic" : "linear"}; change it`;
    const unit = this.spec.share ? "%" : this.spec.unit;
    const line = { stroke: colour("--soft"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), size: 4 }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot({
      width: Math.max(200, this.place.clientWidth),
      height: HEIGHT,
      cursor: { sync: { key: sync.key }, points: { size: 6 }, drag: { x: true, y: false } },
      legend: { live: true },
      scales: { x: { time: false }, y: { distr: this.log ? 3 : 1, range: this.log ? undefined : (_, low, high) => fromZero(low, high) } },
      axes: [
        { ...line, size: 44, label: AXES[this.axis].label, labelSize: 16, labelFont: line.font, space: 60, values: (_, ticks) => ticks.map((t) => (t === null ? "" : AXES[this.axis].show(t))) },
        { ...line, size: 52, label: unit || undefined, labelSize: unit ? 14 : 0, labelFont: line.font, labelGap: 0, values: (_, ticks) => ticks.map((t) => (t === null ? "" : figure(t))) },
      ],
      series: [
        { label: AXES[this.axis].label, value: (_, v) => (v === null ? "" : AXES[this.axis].show(v)) },
        ...this.curves.map((c, i) => ({
          label: c.label,
          stroke: colour(c.colour ?? COLOURS[i % COLOURS.length]),
          width: c.faint ? 1 : 1.75,
          alpha: c.faint ? 0.35 : 1,
          spanGaps: true,
          points: { show: c.points.value.length < 25, size: 5 },
          value: (_, v) => (v === null ? "" : this.spec.share ? `${fixed(v, 1)} %` : figure(v)),
        })),
      ],
    }, this.data(), this.place);
  }

  fit() {
    const width = this.place.clientWidth; // 0 where it is folded away
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }
}

// x of a curve grows; points of the same place, as of a run that went back, are one.
function inOrder([x, y]) {
  const order = x.map((_, i) => i).filter((i) => x[i] !== null).sort((a, b) => x[a] - x[b]);
  const last = order.filter((i, n) => n === order.length - 1 || x[order[n + 1]] !== x[i]);
  return [last.map((i) => x[i]), last.map((i) => y[i])];
}

function fromZero(low, high) {
  if (low === null || high === null) return [0, 1];
  const bottom = low >= 0 ? 0 : low - 0.05 * (high - low);
  return [bottom, high > bottom ? high + 0.05 * (high - bottom) : bottom + 1];
}

// All charts of a page, and the switch of their common axis.
class Charts {
  constructor(changed) {
    this.axis = localStorage.getItem("daybreak-axis") ?? "images";
    if (!(this.axis in AXES)) this.axis = "images";
    this.cards = new Map();
    this.place = h("div.charts");
    this.choice = h("div.choice", { role: "group", "aria-label": "Over" }, Object.entries(AXES).map(([name, axis]) =>
      h("button.quiet.small", { type: "button", "data-axis": name, onclick: () => { this.axis = name; localStorage.setItem("daybreak-axis", name); changed(); } }, axis.label)));
    this.further = h("div.charts");
    this.more = h("details", { hidden: true, ontoggle: () => this.fit() }, h("summary", {}, "More curves"), this.further);
    this.root = [h("div.head", {}, h("h2", {}, "How it learns"), this.choice), this.place, this.more];
  }

  show(charts) {
    for (const button of this.choice.children) button.setAttribute("aria-pressed", button.dataset.axis === this.axis);
    for (const { key, spec, curves } of charts) {
      if (!this.cards.has(key)) {
        const card = new ChartCard(spec);
        this.cards.set(key, card);
        (spec.more ? this.further : this.place).append(card.root);
      }
      this.cards.get(key).show(curves, this.axis);
    }
    this.more.hidden = !this.further.childElementCount;
    const keys = new Set(charts.map((c) => c.key));
    for (const [key, card] of this.cards) card.root.hidden = !keys.has(key);
  }

  fit() {
    for (const card of this.cards.values()) card.fit();
  }

  redraw() {
    for (const card of this.cards.values()) if (card.curves.length) card.draw();
  }
}

function sparkline(points) {
  const finite = points.filter(([x, y]) => x !== null && y !== null && y > 0);
  if (finite.length < 2) return h("span.spark");
  const xs = finite.map((p) => p[0]);
  const ys = finite.map((p) => Math.log(p[1]));
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const at = finite.map((_, i) => `${(100 * (xs[i] - x0) / (x1 - x0 || 1)).toFixed(1)},${(28 - 26 * (ys[i] - y0) / (y1 - y0 || 1)).toFixed(1)}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `loss from ${figure(finite[0][1])} to ${figure(finite.at(-1)[1])}`);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", `M${at.join("L")}`);
  svg.append(path);
  return svg;
}
