// What a run that trains can be asked for, and what people keep with a run: a note, a star.
const CONTROLS = document.body.hasAttribute("data-controls");

async function send(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `the server says ${answer.status}`);
}

// Stop, checkpoint, sample: a request lies in the run's folder until the run has done it.
class Controls {
  constructor(name) {
    this.name = name;
    this.told = h("p.hint", { role: "status" });
    this.prompt = h("input", { type: "text", placeholder: "A prompt of yours (or none)", "aria-label": "Prompt", maxlength: 2000 });
    this.stop = h("button.second", { type: "button", onclick: () => this.sure() }, "Stop");
    const form = h("form.ask", { onsubmit: (e) => { e.preventDefault(); this.draw(); } },
      this.prompt, h("button.second", { type: "submit" }, "Draw samples now"));
    const save = h("button.second", { type: "button", onclick: () => this.ask("checkpoint") }, "Checkpoint now");
    this.root = h("div.controls", {}, form, save, this.stop, this.told);
  }

  draw() {
    const prompt = this.prompt.value.trim();
    this.ask("sample", prompt ? [prompt] : []);
  }

  // A second click within three seconds stops the run.
  sure() {
    if (this.stop.hasAttribute("data-sure")) {
      this.calm();
      this.ask("stop");
      return;
    }
    this.stop.setAttribute("data-sure", "");
    this.stop.textContent = "Really stop? It saves first";
    this.timer = setTimeout(() => this.calm(), 3000);
  }

  calm() {
    clearTimeout(this.timer);
    this.stop.removeAttribute("data-sure");
    this.stop.textContent = "Stop";
  }

  async ask(kind, prompts = []) {
    const what = { stop: "the end", checkpoint: "a checkpoint", sample: "samples" }[kind];
    try {
      await send("/api/ask", { name: this.name, kind, prompts });
      this.told.textContent = `Asked for ${what}. The run does it after the step it is at.`;
    } catch (error) {
      this.told.textContent = `It was not asked: ${error.message}.`;
    }
  }

  answered(events) {
    const last = events.filter((e) => e.event === "request").at(-1);
    if (last && this.last !== undefined && last.id !== this.last) this.told.textContent = `Done: ${last.text}.`;
    this.last = last?.id ?? null;
  }
}

class Keepsakes {
  constructor(name) {
    this.name = name;
    this.star = h("button.quiet.star", { type: "button", onclick: () => this.keep({ favourite: !this.notes.favourite }) });
    this.text = h("textarea", { rows: 1, placeholder: "A note on this run", "aria-label": "Note", maxlength: 20000, onchange: () => this.keep({ text: this.text.value }) });
    this.told = h("p.problem", { hidden: true });
    this.root = h("div.keepsakes", {}, this.star, this.text, this.told);
  }

  show(notes) {
    this.notes = { text: notes.text, favourite: notes.favourite };
    if (document.activeElement !== this.text) this.text.value = notes.text;
    this.told.textContent = notes.trouble ?? "";
    this.told.hidden = !notes.trouble;
    this.star.textContent = notes.favourite ? "★" : "☆";
    this.star.title = notes.favourite ? "A favourite; click to change that" : "Make it a favourite";
    this.star.setAttribute("aria-label", this.star.title);
  }

  async keep(change) {
    const before = this.notes;
    try {
      await send("/api/notes", { name: this.name, ...before, ...change });
      this.show({ ...before, ...change });
    } catch (error) {
      this.show({ ...before, trouble: `This is not kept: ${error.message}` });
    }
  }
}
