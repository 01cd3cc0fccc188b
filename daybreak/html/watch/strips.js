// The same prompts over time: a picture for each, the moments as a film strip below it, and one slider for all.
function chips(shown) {
  const told = shown.told ?? [];
  if (!told.length && shown.followed === undefined) return null;
  return h("ul.chips", {}, told.map((t) =>
    h(`li.chip.${t.right ? "right" : "wrong"}`, {}, `${ATTRIBUTES[t.name] ?? t.name} ${t.right ? "✓" : "✗"}`, t.saw ? h("span", {}, `: saw ${t.saw}`) : null)));
}
const ATTRIBUTES = { number: "number", background: "background", outline: "outline", shape: "shape", color: "colour", size: "size", position: "position" };

class Strips {
  constructor(run) {
    this.run = run;
    this.moments = [];
    this.at = -1;
    this.cards = [];
    this.slider = h("input", { type: "range", min: 0, step: 1, "aria-label": "Moment", oninput: () => this.select(Number(this.slider.value)) });
    this.told = h("output", {});
    this.play = h("button.second", { type: "button", onclick: () => this.film() }, "▶ Play");
    this.place = h("ul.grid.strips");
    this.listeners = [];
    this.root = [
      h("div.head", {}, h("h2", {}, "The same prompts over time")),
      h("div.scrub", {}, this.play, this.slider, this.told),
      this.place,
    ];
    this.dialog = null;
  }

  show(moments) {
    const followed = this.at === this.moments.length - 1;
    this.moments = moments;
    this.slider.max = Math.max(0, moments.length - 1);
    const prompts = moments.at(-1)?.pictures.map((p) => p.prompt) ?? [];
    if (prompts.join("\n") !== this.prompts) {
      this.prompts = prompts.join("\n");
      this.cards = prompts.map((prompt, i) => this.card(prompt, i));
      this.place.replaceChildren(...this.cards.map((c) => c.root));
    }
    for (const card of this.cards) this.fill(card);
    this.select(followed || this.at < 0 ? moments.length - 1 : Math.min(this.at, moments.length - 1));
  }

  card(prompt, index) {
    const image = h("img", { alt: prompt, decoding: "async", onload: keepPixels });
    const strip = h("div.strip", { role: "group", "aria-label": `Over time: ${prompt}` });
    const said = h("div");
    const root = h("li.card", {},
      h("button.tile", { type: "button", title: "Larger", onclick: () => this.open(index) }, image),
      strip, h("p.caption", {}, prompt), said);
    return { root, image, strip, said, index, prompt };
  }

  at_(card, moment) {
    return moment.pictures[card.index]?.prompt === card.prompt ? moment.pictures[card.index] : moment.pictures.find((p) => p.prompt === card.prompt);
  }

  fill(card) {
    for (let i = card.strip.childElementCount; i < this.moments.length; i++) {
      const shown = this.at_(card, this.moments[i]);
      card.strip.append(h("button.frame", { type: "button", tabindex: -1, "aria-label": `step ${whole(this.moments[i].step)}`, onclick: () => this.select(i) },
        shown ? picture(this.run, shown.file, "") : null));
    }
  }

  select(at) {
    this.at = at;
    const moment = this.moments[at];
    if (!moment) return;
    this.slider.value = at;
    const followed = moment.followed === null ? "" : `, ${percent(moment.followed)} of the prompts followed`;
    this.told.textContent = `step ${whole(moment.step)}, ${duration(moment.seconds)} of training, ${short(moment.images)} pictures seen${followed}`;
    for (const card of this.cards) {
      const shown = this.at_(card, moment);
      if (shown) card.image.src = address(this.run, shown.file);
      card.image.hidden = !shown;
      card.said.replaceChildren(...[shown && chips(shown)].filter(Boolean));
      [...card.strip.children].forEach((frame, i) => frame.toggleAttribute("data-on", i === at));
      const frame = card.strip.children[at];
      if (frame) card.strip.scrollLeft = frame.offsetLeft - card.strip.clientWidth / 2 + frame.clientWidth / 2;
    }
    if (this.dialog?.open) this.enlarge();
    for (const listener of this.listeners) listener(moment);
  }

  film() {
    if (this.timer) return this.halt();
    this.play.textContent = "❚❚ Pause";
    let at = this.at >= this.moments.length - 1 ? 0 : this.at;
    this.timer = setInterval(() => {
      this.select(at++);
      if (at >= this.moments.length) this.halt();
    }, 300);
  }

  halt() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.textContent = "▶ Play";
  }

  open(index) {
    this.shownCard = index;
    if (!this.dialog) {
      this.large = h("img", { onload: keepPixels });
      this.caption = h("p.viewer-prompt");
      this.facts = h("p.soft");
      this.chips = h("div");
      this.larger = h("input", { type: "range", min: 0, step: 1, "aria-label": "Moment", oninput: () => this.select(Number(this.larger.value)) });
      this.save = h("a.second", {}, "Download this picture");
      this.dialog = h("dialog.large", { "aria-label": "Picture" },
        h("div.viewer", {}, h("div.viewer-picture", {}, this.large),
          h("div.viewer-side", {}, this.caption, this.chips, this.larger, this.facts, this.save,
            h("button.second", { type: "button", onclick: () => this.dialog.close() }, "Close"))));
      this.dialog.addEventListener("click", (e) => { if (e.target === this.dialog) this.dialog.close(); });
      this.dialog.addEventListener("keydown", (e) => {
        const by = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
        if (by && e.target !== this.larger) this.select(Math.max(0, Math.min(this.moments.length - 1, this.at + by)));
      });
      document.body.append(this.dialog);
    }
    this.enlarge();
    if (!this.dialog.open) this.dialog.showModal();
  }

  enlarge() {
    const card = this.cards[this.shownCard];
    const moment = this.moments[this.at];
    const shown = this.at_(card, moment);
    this.larger.max = this.moments.length - 1;
    this.larger.value = this.at;
    this.caption.textContent = card.prompt;
    this.facts.textContent = this.told.textContent;
    this.chips.replaceChildren(...[shown && chips(shown)].filter(Boolean));
    if (!shown) return;
    this.large.src = address(this.run, shown.file);
    this.large.alt = card.prompt;
    this.save.href = this.large.src;
    const kind = shown.file.split(".").pop();
    this.save.download = `${card.prompt.replace(/[^a-z0-9]+/gi, "-").slice(0, 60)}-step-${moment.step}.${kind}`;
  }
}
