// What the page knows of a run, and the view of one run.
class Store {
  constructor(name) {
    this.name = name;
    this.cursor = "";
    this.forget();
  }

  forget() {
    this.curves = {};
    this.events = [];
    this.charts = [];
    this.points = 0;
  }

  take(told) {
    if (told.reset) this.forget();
    for (const [name, points] of Object.entries(told.curves)) {
      const own = (this.curves[name] ??= { step: [], images: [], seconds: [], value: [] });
      for (const column of Object.keys(own)) own[column].push(...points[column]);
      this.points = Math.max(this.points, own.value.length);
    }
    this.charts = told.charts;
    this.events.push(...told.events);
    this.facts = told.facts;
    if (told.still) this.still = told.still;
    // After hours of watching the server thins the curves anew.
    this.cursor = this.points > 4000 ? "" : told.cursor;
  }

  async ask() {
    const answer = await fetch(`/api/run?name=${encodeURIComponent(this.name)}&cursor=${encodeURIComponent(this.cursor)}`);
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `the server says ${answer.status}`);
    this.take(await answer.json());
  }

  get moments() {
    const byStep = new Map(this.events.filter((e) => e.event === "samples").map((e) => [e.step, e]));
    return [...byStep.values()].sort((a, b) => a.step - b.step);
  }

  // The points of a curve, without those that a return to a checkpoint undid: the log has dropped them, the page may not.
  chart(chart) {
    const curves = chart.curves.filter((c) => this.curves[c.name]).map((c) => ({ label: c.label, points: this.curves[c.name], faint: c.name === "loss" && this.curves["loss, smoothed"] !== undefined, colour: c.name === "loss" ? "--c0" : undefined }));
    if (chart.curves[0]?.name === "loss") curves.forEach((c) => { c.colour = "--c0"; });
    return { key: chart.title, spec: chart, curves };
  }
}

class RunView {
  constructor(store) {
    this.store = store;
    this.part = Object.fromEntries(["title", "kept", "trouble", "where", "controls", "alarms", "verdict", "strips", "asked", "charts", "scores", "figures", "judged", "failures", "inside", "begun", "settings"].map((n) => [n, new Part(n)]));
    this.strips = new Strips(store.name);
    this.charts = new Charts(() => this.curves());
    this.controls = new Controls(store.name);
    this.keepsakes = new Keepsakes(store.name);
    this.root = h("div.run", {}, Object.values(this.part).map((p) => p.root));
    this.strips.listeners.push((moment) => this.lookInside(moment));
  }

  show() {
    const { store, part } = this;
    const { facts, still } = store;
    const live = facts.state === "training" || facts.state === "judging" || facts.state === "waiting";
    part.title.show(`${facts.state}${Math.round(1000 * (facts.progress ?? 0))}`, () => {
      const bar = h("div.progress", { role: "progressbar", "aria-valuenow": Math.round(100 * (facts.progress ?? 0)), "aria-valuemin": 0, "aria-valuemax": 100 }, h("div"));
      bar.firstChild.style.width = percentCss(facts.progress ?? 0);
      const as = FROZEN ? h("span.soft", {}, ` as of ${date(facts.now)}`) : null;
      return [h("h2.name", {}, store.name, " ", stateChip(facts.state), as), live || (facts.progress ?? 0) < 1 ? bar : null];
    });
    part.where.show(JSON.stringify(facts), () => tiles(facts));
    part.kept.show(CONTROLS || JSON.stringify(still.notes), () => (CONTROLS ? this.keepsakes.root : keepsake(still.notes)));
    this.keepsakes.show(still.notes);
    part.controls.show(facts.reachable, () => CONTROLS && facts.reachable && this.controls.root);
    this.controls.answered(store.events);
    part.begun.show(store.events.filter((e) => e.event === "begin").length, () => begun(store));
    part.trouble.show(still.trouble, () => still.trouble && h("p.problem", {}, `config.yaml is ${still.trouble}`));
    const stamp = JSON.stringify([still.scores, still.figures, still.finetuned, still.judged.length]);
    part.verdict.show(stamp, () => finetuned(store.name, still.finetuned));
    part.scores.show(stamp, () => scores(still.scores));
    part.figures.show(stamp, () => figures(store.name, still.figures));
    const moments = store.moments;
    const withPictures = moments.filter((m) => m.pictures.length);
    part.strips.show(withPictures.length > 0, () => withPictures.length && this.strips.root);
    if (withPictures.length && withPictures.length !== this.strips.moments.length) this.strips.show(withPictures);
    const old = moments.filter((m) => m.sheet);
    if (!withPictures.length && old.length) {
      part.strips.show(`old${old.length}`, () => [h("h2", {}, "The same prompts over time"), old.map((m) => sheet(store.name, m.sheet, `step ${whole(m.step)}, ${duration(m.seconds)}`)).reverse()]);
    }
    const asked = moments.flatMap((m) => (m.asked ?? []).map((a) => ({ ...a, step: m.step })));
    part.asked.show(asked.length, () => asked.length && [h("h2", {}, "As you asked"), h("ul.grid", {}, asked.reverse().map((a) =>
      h("li.card", {}, h("div.tile", {}, picture(store.name, a.file, a.prompt, { onload: keepPixels })), h("p.caption", {}, a.prompt), h("p.soft", {}, `step ${whole(a.step)}`))))]);
    part.charts.show(store.charts.length > 0, () => store.charts.length && this.charts.root);
    this.curves();
    part.judged.show(stamp, () => still.sheet ? sheet(store.name, still.sheet, "The first prompts of each task") : judgedPictures(store.name, "What it draws", still.judged, "The first prompts of each task, not chosen by how they came out."));
    part.failures.show(stamp, () => judgedPictures(store.name, "Where it fails", still.failures));
    part.alarms.show(store.events.filter((e) => e.event === "alarm").length, () => alarms(store.events));
    part.settings.show(JSON.stringify(still.settings), () => settings(still));
  }

  // It stands in the page, and has a width.
  placed() {
    this.charts.fit();
    this.strips.select(this.strips.at);
  }

  curves() {
    this.charts.show(this.store.charts.map((c) => this.store.chart(c)).filter((c) => c.curves.length));
  }

  // Attention and predictions are asked for by the moment: those of all moments would be megabytes.
  async lookInside(moment) {
    if (FROZEN) return this.showInside(FROZEN.inside, this.strips.moments.at(-1));
    if (!moment.folder || !moment.inside.length) return;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(async () => {
      const answer = await fetch(`/api/inside?name=${encodeURIComponent(this.store.name)}&folder=${encodeURIComponent(moment.folder)}`).catch(() => null);
      if (answer?.ok) this.showInside(await answer.json(), moment);
    }, 150);
  }

  showInside(inside, moment) {
    const name = this.store.name;
    const parts = [];
    const group = (title, hint, content) => parts.push(h("details", { open: true }, h("summary", {}, title), h("p.hint", {}, hint), content));
    if (inside.words?.length) group("Where each word is looked at", "The share of the attention to the text that a word gets, and the places that look at it most. The percentages of a prompt add up to 100.", wordsOf(name, inside.words));
    if (inside.noise?.length) group("What it takes pictures for through noise", "t = 1 is noise alone, t = 0 the picture.", noiseOf(name, inside.noise));
    if (inside.guidance) group("The same noise with the other kind of guidance", "Left as the run draws, right with the other.", guidanceOf(name, inside.guidance));
    this.part.inside.show(`${moment.step}`, () => parts.length && [h("h2", {}, `What goes on inside, at step ${whole(moment.step)}`), parts]);
  }
}
