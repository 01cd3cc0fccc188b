// The voter's page. The server says what is shown next (GET state) and counts votes (POST votes); the page keeps a vote
// that has not been acknowledged, in this browser too, and sends it again under the same id until it is.
"use strict";

const base = location.pathname;                 // /v/TOKEN/
const KEPT = "unsent " + base;                  // where an unacknowledged vote waits
const KEYS = { 1: "left", 2: "right", 0: "tie" };
const ARROWS = {                                // as the pictures lie: side by side, or one above the other
  wide: { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" },
  narrow: { ArrowUp: "left", ArrowDown: "right", ArrowRight: "tie" },
};
const SMALL_PX = 192;                           // smaller pictures are shown with square pixels, not blurred
const SHOWN_MS = 160;                           // how long a choice stays marked before the next pair

const $ = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-choice]")];
const ahead = new Map();                        // pictures of the next pairs, loading or loaded
let state = null, busy = true, shownAt = 0;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function ask(path, body) {
  // Tries until the server answers: a vote must survive a server that restarts and a phone that loses its network.
  for (let wait = 300; ; wait = Math.min(wait * 1.6, 5000)) {
    let answer = null;
    try {
      answer = await fetch(base + path, body && {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
      });
    } catch { /* no connection */ }
    if (answer && answer.ok) { notice(null); return answer.json(); }
    if (answer && answer.status < 500) {
      notice(answer.status === 404 ? "This link is no longer valid." : "The server did not accept this. Please reload the page.");
      throw new Error("HTTP " + answer.status);
    }
    notice("No connection to the server. Trying again; your votes are safe.");
    await pause(wait);
  }
}

function notice(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text || "";
}

function picture(path) {
  // An image element that is loaded and decoded once awaited; a failed load is tried again.
  if (!ahead.has(path)) {
    const image = new Image();
    ahead.set(path, (async () => {
      for (let wait = 300; ; wait = Math.min(wait * 1.6, 5000)) {
        image.src = base + path;
        try { await image.decode(); return image; } catch { await pause(wait); image.removeAttribute("src"); }
      }
    })());
  }
  return ahead.get(path);
}

async function show(next) {
  const same = state && !state.finished && !next.finished && state.pair === next.pair;
  state = next;
  const finished = next.finished;
  $("voting").hidden = finished;
  $("finished").hidden = !finished;
  $("undo").disabled = !next.undo;
  $("bar").firstElementChild.style.width = (100 * next.step) / next.steps + "%";
  $("bar").setAttribute("aria-valuemax", next.steps);
  $("bar").setAttribute("aria-valuenow", next.step);
  $("count").textContent = `${finished ? next.pairs : next.pair + 1} of ${next.pairs}`;
  $("dots").replaceChildren();
  for (const marked of document.querySelectorAll(".chosen")) marked.classList.remove("chosen");
  if (finished) {
    $("summary").textContent = `You have judged all ${next.pairs} pairs. You can close this page.`;
    busy = false;
    return;
  }
  if (next.questions > 1) {
    for (let i = 0; i < next.questions; i++) {
      const dot = document.createElement("i");
      dot.className = i < next.question_number ? "done" : i === next.question_number ? "now" : "";
      $("dots").append(dot);
    }
  }
  $("prompt").textContent = next.prompt;
  $("prompt").hidden = !next.prompt;
  $("question").textContent = next.question;
  if (!same) {
    // Both appear together: which one took longer to load must not be seen.
    $("pair").classList.add("loading");
    const [left, right] = await Promise.all([picture(next.left), picture(next.right)]);
    if (state !== next) return;
    for (const [id, image] of [["left", left], ["right", right]]) {
      $(id).src = image.src;
      $(id).classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL_PX);
    }
    await Promise.all([$("left").decode(), $("right").decode()]).catch(() => {});
    $("pair").classList.remove("loading");
    for (const path of ahead.keys()) if (![next.left, next.right, ...next.ahead].includes(path)) ahead.delete(path);
  }
  shownAt = performance.now();
  busy = false;
  next.ahead.forEach(picture);
}

async function vote(choice) {
  if (busy || !state || state.finished) return;
  busy = true;
  const side = choice === "tie" ? null : $(choice);
  if (side) side.classList.add("chosen");
  buttons.find((b) => b.dataset.choice === choice).classList.add("chosen");
  const id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  const ballot = { step: state.step, choice, submission: id, seconds: Math.min(86400, (performance.now() - shownAt) / 1000) };
  keep(ballot);
  const [next] = await Promise.all([send(ballot), pause(SHOWN_MS)]);
  await show(next);
}

async function send(ballot) {
  try { return await ask("votes", ballot); } finally { keep(null); }
}

function keep(ballot) {
  try {
    if (ballot) localStorage.setItem(KEPT, JSON.stringify(ballot));
    else localStorage.removeItem(KEPT);
  } catch { /* storage is switched off: the vote then lives as long as the page */ }
}

function kept() {
  try { return JSON.parse(localStorage.getItem(KEPT)); } catch { return null; }
}

async function undo() {
  if (busy || !state || !state.undo) return;
  busy = true;
  await show(await ask("undo", { submission: state.undo }));
}

for (const button of buttons) button.addEventListener("click", () => vote(button.dataset.choice));
// A click on a picture votes for it; a finger on it may only mean to scroll or enlarge.
for (const id of ["left", "right"]) {
  $(id).addEventListener("click", () => { if (!matchMedia("(pointer: coarse)").matches) vote(id); });
}
$("undo").addEventListener("click", undo);
addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const arrows = ARROWS[matchMedia("(max-aspect-ratio: 1/1)").matches ? "narrow" : "wide"];
  const choice = KEYS[event.key] ?? arrows[event.key];
  const scrolls = event.key.startsWith("Arrow") && document.activeElement === $("prompt"); // a long prompt, focused
  if (choice && !scrolls) vote(choice);
  else if (event.key === "z" || event.key === "Z" || event.key === "Backspace") undo();
  else return;
  event.preventDefault();
});

(async () => {
  const unsent = kept();
  await show(unsent ? await send(unsent) : await ask("state"));
})();
