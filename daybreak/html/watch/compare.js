// Several runs side by side: their curves in common charts, settings that differ, the same prompts in each.
class CompareView {
  constructor(stores) {
    this.stores = stores;
    this.charts = new Charts(() => this.show());
    this.part = Object.fromEntries(["title", "table", "settings", "charts", "pictures"].map((n) => [n, new Part(n)]));
    this.share = 1;
    this.slider = h("input", { type: "range", min: 0, max: 1, step: 0.01, value: 1, "aria-label": "Pictures seen", oninput: () => { this.share = Number(this.slider.value); this.scrub(); } });
    this.told = h("output", {});
    this.root = h("div.run", {}, Object.values(this.part).map((p) => p.root));
  }

  show() {
    const { stores, part } = this;
    const names = stores.map((s) => s.name);
    part.title.show("once", () => h("h2.name", {}, `${stores.length} runs side by side`));
    part.table.show(JSON.stringify(stores.map((s) => s.facts)), () => this.table());
    part.charts.show(true, () => this.charts.root);
    this.charts.show(this.common());
    part.settings.show(JSON.stringify(stores.map((s) => s.still.settings)), () => this.differences(names));
    const moments = stores.map((s) => s.moments.filter((m) => m.pictures.length));
    part.pictures.show(JSON.stringify(moments.map((m) => m.length)), () => this.prompts(moments));
  }

  placed() {
    this.charts.fit();
  }

  table() {
    const rows = [["state", (f) => STATES[f.state]], ["progress", (f) => percent(f.progress ?? 0)], ["steps", (f) => figure(f.step)], ["pictures seen", (f) => f.images === undefined ? "–" : short(f.images)],
      ["training time", (f) => duration(f.seconds)], ["images/s", (f) => figure(f.images_per_second)], ["loss", (f) => figure(f.loss)],
      ["prompts followed", (f) => f["prompts followed"] === undefined ? "–" : percent(f["prompts followed"])]];
    const score = (s) => s.still.scores.tasks?.find((t) => t.name === "overall");
    return h("div.scroll", {}, h("table.compare", {},
      h("thead", {}, h("tr", {}, h("th"), this.stores.map((s, i) => h("th.number", {}, dot(i), h("a", { href: `#/run/${encodeURIComponent(s.name)}` }, s.name))))),
      h("tbody", {}, rows.map(([label, show]) => h("tr", {}, h("th", { scope: "row" }, label), this.stores.map((s) => h("td.number", {}, show(s.facts))))),
        this.stores.some(score) ? h("tr", {}, h("th", { scope: "row" }, "score"), this.stores.map((s) => h("td.number", {}, score(s) ? `${percent(score(s).share)}${score(s).low === null ? "" : ` (${percent(score(s).low)} to ${percent(score(s).high)})`}` : "–"))) : null)));
  }

  common() {
    const charts = new Map();
    for (const store of this.stores) {
      for (const chart of store.charts) {
        for (const curve of chart.curves) {
          if (curve.name === "loss" && store.curves["loss, smoothed"]) continue;
          const title = chart.curves.length === 1 || chart.title === "Loss" ? chart.title : `${chart.title}: ${curve.label}`;
          if (!charts.has(curve.name)) charts.set(curve.name, { ...chart, title });
        }
      }
    }
    return [...charts].map(([name, spec]) => ({
      key: name, spec,
      curves: this.stores.map((s, i) => ({ label: s.name, points: s.curves[name], colour: COLOURS[i % COLOURS.length] })).filter((c) => c.points),
    })).filter((c) => c.curves.length);
  }

  differences(names) {
    const keys = [...new Set(this.stores.flatMap((s) => Object.keys(s.still.settings)))];
    const rows = keys.map((k) => [k, ...this.stores.map((s) => s.still.settings[k] ?? "–")]).filter(([, ...v]) => new Set(v).size > 1);
    if (!rows.length) return [h("h2", {}, "Settings that differ"), h("p.hint", {}, "None: the runs have the same settings.")];
    return [h("h2", {}, "Settings that differ"), h("div.scroll", {}, h("table.compare", {},
      h("thead", {}, h("tr", {}, h("th"), names.map((n, i) => h("th", {}, dot(i), n)))),
      h("tbody", {}, rows.map(([name, ...values]) => h("tr", {}, h("th", { scope: "row" }, name), values.map((v) => h("td", {}, v)))))))];
  }

  prompts(moments) {
    const sets = moments.map((m) => new Set(m.at(-1)?.pictures.map((p) => p.prompt) ?? []));
    const all = [...sets[0] ?? []].filter((p) => sets.every((s) => s.has(p)));
    const head = h("h2", {}, "The same prompts in each");
    if (!all.length) return moments.some((m) => m.length) ? [head, h("p.hint", {}, "The runs draw no prompt in common.")] : null;
    this.images = [];
    const rows = all.map((prompt) => h("tr", {}, h("th.caption", { scope: "row" }, prompt), this.stores.map((s, i) => {
      const image = h("img", { alt: `${prompt}, ${s.name}`, loading: "lazy", onload: keepPixels });
      this.images.push({ image, prompt, moments: moments[i], store: s });
      return h("td", {}, h("div.tile", {}, image));
    })));
    queueMicrotask(() => this.scrub());
    return [head, h("div.scrub", {}, this.slider, this.told), h("div.scroll", {}, h("table.side", {},
      h("thead", {}, h("tr", {}, h("th"), this.stores.map((s, i) => h("th", {}, dot(i), s.name)))), h("tbody", {}, rows)))];
  }

  scrub() {
    const most = Math.max(...this.images.map((i) => i.moments.at(-1).images));
    const wanted = this.share * most;
    this.told.textContent = `the newest up to ${short(wanted)} pictures seen`;
    for (const { image, prompt, moments, store } of this.images) {
      const moment = moments.filter((m) => m.images <= wanted).at(-1) ?? moments[0];
      const shown = moment.pictures.find((p) => p.prompt === prompt);
      if (shown) image.src = address(store.name, shown.file);
      image.title = `step ${whole(moment.step)}`;
    }
  }
}

function dot(i) {
  const mark = h("i.dot");
  mark.style.background = `var(${COLOURS[i % COLOURS.length]})`;
  return mark;
}
