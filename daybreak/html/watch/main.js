// Which view is shown, and when the server is asked again: it is not while nobody looks.
const BUSY_SECONDS = 2;
const IDLE_SECONDS = 15;
const main = document.getElementById("main");
const places = document.getElementById("places");
const status = document.getElementById("status");
const stores = new Map();
let view = null;
let ask = null;
let timer = null;
let round = 0;
let only = null;

function store(name) {
  if (!stores.has(name)) stores.set(name, new Store(name));
  return stores.get(name);
}

function route() {
  const [, kind, rest] = location.hash.match(/^#\/(run|compare)\/(.+)$/) ?? [];
  document.querySelector("dialog[open]")?.close();
  if (kind === "run") return openRun(decodeURIComponent(rest));
  if (kind === "compare") return openCompare(rest.split("|").map(decodeURIComponent));
  return openRuns();
}

function openRun(name) {
  const one = store(name);
  one.cursor = "";
  const shown = new RunView(one);
  open(shown, `${name}, daybreak`, async () => {
    await one.ask();
    shown.show();
    return ["training", "judging", "waiting"].includes(one.facts.state);
  });
}

function openCompare(names) {
  const all = names.map(store);
  for (const one of all) one.cursor = "";
  const shown = new CompareView(all);
  open(shown, `${names.length} runs, daybreak`, async () => {
    await Promise.all(all.map((s) => s.ask()));
    shown.show();
    return all.some((s) => ["training", "judging", "waiting"].includes(s.facts.state));
  });
}

function openRuns() {
  const shown = new RunsView((hash) => { location.hash = hash; });
  open(shown, "daybreak", async () => {
    const answer = await fetch("/api/runs");
    if (!answer.ok) throw new Error(`the server says ${answer.status}`);
    const runs = await answer.json();
    if (only === null) only = runs.length === 1 ? runs[0].name : "";
    if (only && location.hash.length < 3) {
      location.replace(`#/run/${encodeURIComponent(only)}`);
      return false;
    }
    shown.show(runs);
    return runs.some((r) => r.state === "training" || r.state === "judging");
  });
}

function open(shown, title, next) {
  view = shown;
  ask = next;
  document.title = title;
  round += 1;
  const back = !(view instanceof RunsView) && !only;
  places.replaceChildren(...(back ? [h("a.quiet", { href: "#/" }, "‹ All runs")] : []));
  main.replaceChildren(h("p.hint", {}, "…"));
  again(round, true);
}

// Asks, shows, and sets the next time. What was on the page stays there where the server does not answer.
async function again(mine, first = false) {
  clearTimeout(timer);
  let busy = true;
  try {
    busy = await ask();
    if (mine !== round) return;
    if (first) {
      main.replaceChildren(view.root);
      view.placed?.();
    }
    tell("");
  } catch (error) {
    if (mine !== round) return;
    if (first) main.replaceChildren(h("p.problem", {}, `This cannot be shown: ${error.message}.`));
    tell(`No answer from the server (${error.message}); the page shows what it had, and asks again.`);
  }
  if (!document.hidden) timer = setTimeout(() => again(mine, !view.root.isConnected), 1000 * (busy ? BUSY_SECONDS : IDLE_SECONDS));
}

function tell(text) {
  status.textContent = text;
  document.body.toggleAttribute("data-away", text !== "");
}

document.addEventListener("visibilitychange", () => {
  if (!FROZEN && !document.hidden) again(round, !view.root.isConnected);
});

const THEMES = { "": "as the system", light: "light", dark: "dark" };
const theme = document.getElementById("theme");
function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  try {
    localStorage.setItem("daybreak-theme", name);
  } catch { /* a page from a file may keep nothing */ }
  theme.title = `Colours: ${THEMES[name]}`;
  theme.setAttribute("aria-label", theme.title);
  view?.charts?.redraw();
}
theme.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view?.charts?.redraw());

let kept = "";
try {
  kept = localStorage.getItem("daybreak-theme") ?? "";
} catch { /* as above */ }

if (FROZEN) {
  const one = new Store(FROZEN.name);
  one.take(FROZEN.told);
  view = new RunView(one);
  view.show();
  main.replaceChildren(view.root);
  view.placed();
  setTheme(kept);
} else {
  setTheme(kept);
  window.addEventListener("hashchange", route);
  route();
}
