// All runs at a glance.
class RunsView {
  constructor(go) {
    this.go = go;
    this.chosen = new Set();
    this.find = h("input", { type: "search", placeholder: "Find a run", "aria-label": "Find a run", oninput: () => this.fill() });
    this.order = h("select", { "aria-label": "Order", onchange: () => this.fill() },
      Object.entries(ORDERS).map(([name, [label]]) => h("option", { value: name }, label)));
    this.compare = h("button.go", { type: "button", hidden: true, onclick: () => go(`#/compare/${[...this.chosen].map(encodeURIComponent).join("|")}`) });
    this.list = h("ul.runs");
    this.none = h("p.hint", { hidden: true }, "No run of that name.");
    this.root = h("div.run", {}, h("div.head", {}, h("h2.name", {}, "Runs"), this.find, this.order, this.compare), this.none, this.list);
    this.cards = new Map();
  }

  show(runs) {
    this.runs = runs;
    this.fill();
  }

  fill() {
    const words = this.find.value.toLowerCase();
    const shown = this.runs.filter((r) => `${r.name} ${r.recipe} ${r.state} ${r.note ?? ""} ${r.favourite ? "favourite" : ""}`.toLowerCase().includes(words)).sort(ORDERS[this.order.value][1]);
    this.none.hidden = shown.length > 0;
    const cards = shown.map((run) => this.card(run));
    const same = cards.length === this.list.childElementCount && cards.every((c, i) => c === this.list.children[i]);
    if (!same) this.list.replaceChildren(...cards);
    this.compare.hidden = this.chosen.size < 2;
    this.compare.textContent = `Compare ${this.chosen.size} runs`;
  }

  card(run) {
    const key = JSON.stringify(run);
    const known = this.cards.get(run.name);
    if (known?.key === key) return known.card;
    const choose = h("input", { type: "checkbox", "aria-label": `Compare ${run.name}`, checked: this.chosen.has(run.name), onchange: () => {
      if (choose.checked) this.chosen.add(run.name);
      else this.chosen.delete(run.name);
      this.fill();
    } });
    const bar = h("div.progress", {}, h("div"));
    bar.firstChild.style.width = percentCss(run.progress ?? 0);
    const left = run.state === "training" ? run.seconds_to_end ?? run.seconds_left : null;
    const facts = [
      run.score !== null ? ["score", percent(run.score)] : null,
      run.loss !== undefined && run.loss !== null ? ["loss", figure(run.loss)] : null,
      run.images_per_second ? ["images/s", figure(run.images_per_second)] : null,
      run.seconds ? ["trained", duration(run.seconds)] : null,
      left !== null && left !== undefined ? ["left", duration(left)] : null,
    ].filter(Boolean);
    const card = h("li.card.run-card", {},
      h("div.run-name", {}, choose, h("a", { href: `#/run/${encodeURIComponent(run.name)}` }, run.name), run.favourite ? h("span.star", { title: "A favourite" }, "★") : null, stateChip(run.state)),
      h("p.soft", {}, [run.recipe, run.begun ? `begun ${ago(run.begun)}` : `written ${ago(run.modified)}`].filter(Boolean).join(", ")),
      run.note ? h("p.note", {}, run.note) : null,
      run.state === "training" || run.state === "stopped" ? bar : null,
      h("div.glance", {}, h("div.thumbs", {}, (run.pictures ?? []).map((file) => picture(run.name, file, "", { onload: keepPixels }))), sparkline(run.curve ?? [])),
      h("dl.few", {}, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
    this.cards.set(run.name, { key, card });
    return card;
  }
}

const ORDERS = {
  newest: ["newest first", (a, b) => (b.begun ?? b.modified) - (a.begun ?? a.modified)],
  favourites: ["favourites first", (a, b) => (b.favourite ?? false) - (a.favourite ?? false) || (b.begun ?? b.modified) - (a.begun ?? a.modified)],
  name: ["by name", (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })],
  score: ["best score first", (a, b) => (b.score ?? -1) - (a.score ?? -1)],
  loss: ["lowest loss first", (a, b) => (a.loss ?? Infinity) - (b.loss ?? Infinity)],
};
