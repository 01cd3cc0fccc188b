// The parts of a run's page besides curves and pictures: where it stands, what it scored, its settings.
function tiles(facts) {
  const memory = [["host_memory_gib", "main memory"], ["memory_gib", "GPU memory"]].filter(([name]) => facts[name] !== undefined);
  const running = facts.state === "training" || facts.state === "judging";
  const rows = [
    ["loss", facts.loss, figure],
    ["prompts followed", facts["prompts followed"], percent],
    ["images/s", facts.images_per_second, figure],
    ["pictures seen", facts.images, short],
    ["steps", facts.step, whole],
    ["training time", facts.seconds, duration],
    ["total time", facts.wall_seconds, duration],
    ["left, with drawing and judging", running ? facts.seconds_to_end ?? facts.seconds_left : null, duration],
    ...memory.map(([name, label]) => [`${label}, the most so far`, facts[name], (v) => `${figure(v)} GiB`]),
    ["waiting for data", facts.waiting, percent],
    ["cost so far", facts.cost, (v) => `${fixed(v, 2)} USD`],
    ["cost at the end", running ? facts.cost_forecast : null, (v) => `${fixed(v, 2)} USD`],
  ];
  return h("dl.tiles", {}, rows.filter(([, value]) => value !== null && value !== undefined).map(([name, value, show]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, show(value)))));
}

function alarms(events) {
  const told = events.filter((e) => e.event === "alarm");
  if (!told.length) return null;
  const shown = told.slice(-30).reverse();
  return [h("h2", {}, `Alarms (${whole(told.length)})`), h("ul.alarms", {}, shown.map((e) =>
    h("li", {}, h("b", {}, e.name), h("span.soft", {}, ` step ${whole(e.step)} `), e.text)))];
}

function interval(row) {
  if (row.low === null || row.low === undefined) return null;
  const whisker = h("i");
  whisker.style.left = percentCss(row.low);
  whisker.style.width = percentCss(row.high - row.low);
  return whisker;
}
const percentCss = (share) => `${(100 * Math.max(0, Math.min(1, share))).toFixed(2)}%`;

function scoreRows(rows) {
  return h("table.scores", {}, h("tbody", {}, rows.map((row) => {
    const bar = h("div");
    bar.style.width = percentCss(row.share);
    const range = row.low === null || row.low === undefined ? null : `${percent(row.low)} to ${percent(row.high)}`;
    const said = [range, row.n ? `n = ${whole(row.n)}` : null].filter(Boolean).join(", ");
    return h("tr", {}, h("th", { scope: "row" }, row.title), h("td", {}, h("div.bar-of", {}, bar, interval(row))),
      h("td.number", {}, h("b", {}, percent(row.share))), h("td.number.soft", {}, said));
  })));
}

function scores(found) {
  if (!found.tasks) return null;
  const parts = [h("h2", {}, "Does it follow its prompts?"), scoreRows(found.tasks),
    h("p.hint", {}, "Share of prompts whose picture satisfies them in every attribute, as a program reads it from the pixels, with its 95 % interval and the number of prompts. Held-out combinations never occur in training. Overall is the mean of the six tasks.")];
  if (found.attributes?.length) {
    parts.push(h("h3", {}, "One attribute at a time"), scoreRows(found.attributes),
      h("p.hint", {}, "The share that has it right, where the prompt names it. What is said of objects holds for pictures that show as many as were asked for."));
  }
  return parts;
}

function figures(run, found) {
  if (!found.measures) return null;
  const parts = [h("h2", {}, "Figures"), h("div.scroll", {}, h("table", {},
    h("thead", {}, h("tr", {}, ["metric", "value", "95 % interval", "better", "pictures", "what it is"].map((t) => h("th", {}, t)))),
    h("tbody", {}, found.measures.map((m) => h("tr", {}, h("td", {}, h("b", {}, m.title)), h("td.number", {}, h("b", {}, m.value)), h("td.number", {}, m.interval),
      h("td", {}, m.better), h("td.number", {}, m.pictures), h("td.soft", {}, m.meaning + (m.details ? `. ${m.details}` : "")))))))];
  const notes = [...found.warnings, ...found.notes];
  if (notes.length) parts.push(h("ul.alarms", {}, notes.map((n) => h("li", {}, n))));
  for (const m of found.measures.filter((m) => m.tasks.length)) {
    parts.push(h("h3", {}, m.title), scoreRows(m.tasks.map(([title, share]) => ({ title, share }))));
  }
  for (const image of found.measures.flatMap((m) => m.images)) parts.push(sheet(run, image.sheet, image.caption));
  if (found.pictures) parts.push(sheet(run, found.pictures.sheet, "The first pictures, not chosen by how they came out"));
  parts.push(h("details", {}, h("summary", {}, "How this was measured"), settingsTable(found.conditions),
    found.licences.length ? h("p.hint", {}, `Licences of what was measured with. ${found.licences.join("; ")}.`) : null));
  return parts;
}

const sheet = (run, file, caption) => h("figure", {}, h("div.scroll", {}, picture(run, file, caption)), h("figcaption.soft", {}, caption));

function judgedPictures(run, title, rows, hint) {
  if (!rows.length) return null;
  return [h("h2", {}, title), hint ? h("p.hint", {}, hint) : null, h("ul.grid.small-tiles", {}, rows.map((shown) =>
    h("li.card", {}, h("div.tile", {}, picture(run, shown.file, shown.prompt, { onload: keepPixels })), h("p.caption", {}, shown.prompt), chips(shown))))];
}

function finetuned(run, found) {
  if (!found.verdict) return null;
  const parts = [h("h2", {}, found.heading ?? "What was gained, what was forgotten"), h("ul.verdict", {}, found.verdict.map((line) => h("li", {}, line)))];
  if (found.rows) {
    parts.push(h("div.scroll", {}, h("table", {}, h("thead", {}, h("tr", {}, ["", ...(found.columns ?? ["base", "fine-tuned"]), "better"].map((t) => h("th", {}, t)))),
      h("tbody", {}, found.rows.map(([what, base, tuned, better]) => h("tr", {}, h("td", {}, what), h("td.number", {}, base), h("td.number", {}, h("b", {}, tuned)), h("td", {}, better)))))));
  }
  if (found.notes?.length) parts.push(h("ul.alarms", {}, found.notes.map((n) => h("li", {}, n))));
  if (found.general?.length) {
    parts.push(h("h3", {}, found.general_heading ?? "General prompts, before and after, from the same noise"), h("ul.grid", {}, found.general.map((pair) =>
      h("li", {}, h("div.pair", {}, [[pair.file, "before"], [pair.other, "after"]].map(([file, label]) =>
        h("figure", {}, h("div.tile", {}, picture(run, file, `${pair.prompt}, ${label}`, { onload: keepPixels })), h("figcaption.soft", {}, label)))),
      h("p.caption", {}, pair.prompt)))));
  }
  if (found.contact?.length) parts.push(h("h3", {}, "Prompts that share few words, not chosen by how they came out"), contact(run, found.contact));
  for (const s of found.sheets ?? []) parts.push(sheet(run, s.sheet, s.caption));
  return parts;
}

// Ten pictures of each prompt, by the base and by what it became.
function contact(run, rows) {
  const prompts = [...new Set(rows.map((r) => r.prompt))];
  return prompts.map((prompt) => h("article.looked", {}, h("p.caption", {}, prompt), [["other", "base"], ["file", "fine-tuned"]].map(([which, label]) =>
    h("div.row-of", {}, h("span.soft", {}, label), h("ul.words", {}, rows.filter((r) => r.prompt === prompt).map((r) =>
      h("li", {}, h("div.tile", {}, picture(run, r[which], `${prompt}, ${label}`, { onload: keepPixels })))))))));
}

function settingsTable(rows) {
  return h("table.settings", {}, h("tbody", {}, rows.map(([name, ...values]) => h("tr", {}, h("th", { scope: "row" }, name), values.map((v) => h("td", {}, v))))));
}

function settings(still) {
  const rows = Object.entries(still.settings);
  if (!rows.length) return null;
  const table = settingsTable(rows);
  const search = h("input", { type: "search", placeholder: "Find a setting", "aria-label": "Find a setting", oninput: () => {
    for (const row of table.querySelectorAll("tr")) row.hidden = !row.textContent.toLowerCase().includes(search.value.toLowerCase());
  } });
  const skipped = still.skipped ? h("p.hint", {}, `${whole(still.skipped)} items of the data could not be used; skipped.jsonl lists each with its reason.`) : null;
  return h("details", {}, h("summary", {}, `Settings (${rows.length})`), skipped, search, table);
}

function keepsake(notes) {
  return notes.text || notes.favourite ? h("p", {}, notes.favourite ? h("span.star", { title: "A favourite" }, "★ ") : null, notes.text) : null;
}

function begun(store) {
  const runs = store.events.filter((e) => e.event === "begin");
  if (!runs.length) return null;
  const [first, last] = [runs[0], runs.at(-1)];
  const rows = [
    ["command", h("code", {}, last.command)],
    ["begun", date(first.time) + (runs.length > 1 ? `, gone on with ${runs.length - 1} times` : "")],
    ["device", last.device],
    ["parameters", `${fixed(last.parameters / 1e6, 2)} M trained`],
    ["daybreak", last.version + (last.commit ? `, commit ${last.commit}` : "")],
  ];
  return h("dl.begun", {}, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
