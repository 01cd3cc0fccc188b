// The history with its search, and the viewer of its pictures.

import * as store from "./history.js";
import { linkOf, reuse } from "./form.js";
import { clearStage, isSmall } from "./stage.js";
import { startFrom, startFromNothing } from "./start.js";

const $ = (id) => document.getElementById(id);
let pictures = []; // newest first
let found = []; // those that the search leaves
let shown = -1; // what the viewer shows, of `found`

export async function openHistory() {
  pictures = await store.all().catch(() => []); // no history in a private window
  showHistory();
}

/** Keeps a picture and returns what opens it. */
export async function keep(picture, number) {
  const kept = await store.add(picture).catch(() => ({ ...picture, id: -picture.time - number })); // a full or forbidden store
  pictures.unshift(kept);
  showHistory();
  return () => {
    if (!found.includes(kept)) clearSearch(); // it may have been searched away
    openViewer(found.indexOf(kept));
  };
}

function clearSearch() {
  $("search").value = "";
  showHistory();
}

/** All words of the search, anywhere in a picture's settings. */
function matches(picture, words) {
  const s = picture.settings;
  const text = [s.prompt, s.negative_prompt, s.revised_prompt, s.model, s.size, s.seed].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function showHistory() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  found = words.length ? pictures.filter((p) => matches(p, words)) : [...pictures];
  $("history").hidden = pictures.length === 0;
  $("found").textContent = words.length ? `${found.length} of ${pictures.length}` : "kept in this browser";
  const have = new Map([...$("grid").children].map((item) => [item.dataset.id, item]));
  $("grid").replaceChildren(...found.map((picture) => have.get(String(picture.id)) ?? makeThumb(picture)));
}

function makeThumb(picture) {
  const item = document.createElement("li");
  item.dataset.id = picture.id;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "thumb";
  button.title = picture.settings.prompt;
  button.setAttribute("aria-label", `Open: ${picture.settings.prompt}`);
  const image = document.createElement("img");
  image.alt = "";
  image.src = URL.createObjectURL(picture.blob);
  if (isSmall(picture.settings.size)) image.className = "small";
  button.append(image);
  button.addEventListener("click", () => openViewer(found.findIndex((p) => p.id === picture.id)));
  item.append(button);
  return item;
}

$("search").addEventListener("input", showHistory);
$("clear").addEventListener("click", async () => {
  if (!confirm(`Delete all ${pictures.length} pictures from this browser?`)) return;
  await store.clear();
  pictures = [];
  showHistory();
  clearStage();
});

// ---- the viewer

function openViewer(index) {
  if (index < 0 || index >= found.length) return;
  shown = index;
  const picture = found[index];
  const s = picture.settings;
  const [width, height] = s.size.split("x").map(Number);
  if ($("viewer-image").src) URL.revokeObjectURL($("viewer-image").src);
  const url = URL.createObjectURL(picture.blob);
  $("viewer-image").src = url;
  $("viewer-image").alt = s.prompt;
  $("viewer-image").className = isSmall(s.size) ? "small" : "";
  $("viewer-image").style.setProperty("--ratio", width / height);
  $("viewer-prompt").textContent = s.prompt;
  const took = picture.seconds === undefined ? undefined : `${picture.seconds.toFixed(1)} s, waiting included`;
  const facts = { "Written out as": s.revised_prompt, Negative: s.negative_prompt, Model: s.model, Size: `${width} × ${height} px`, Steps: s.steps, Guidance: s.guidance === 1 ? "off" : s.guidance, Seed: s.seed, Adapters: Object.entries(s.loras ?? {}).map(([name, strength]) => `${name} ${strength}`).join(", "), Strength: s.strength, Drawn: new Date(picture.time).toLocaleString(), Took: took };
  $("viewer-facts").replaceChildren(...Object.entries(facts).filter(([, value]) => value !== "" && value !== undefined).flatMap(([name, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
  $("download").href = url;
  $("download").download = fileName(s);
  $("copied").textContent = "";
  $("onward").hidden = $("start").hidden;
  $("before").hidden = index === 0;
  $("after").hidden = index === found.length - 1;
  if (!$("viewer").open) $("viewer").showModal();
}

/** A name that any file system takes: letters and digits of the prompt, and the seed. */
const fileName = (s) => `${s.prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "picture"}-${s.seed}.png`;

async function copyLink() {
  const link = linkOf(found[shown].settings);
  const copied = await navigator.clipboard?.writeText(link).then(() => true, () => false);
  const same = found[shown].settings.strength ? "Copied; the picture that this one starts from is not in it" : "Copied: whoever opens it draws the same picture";
  $("copied").textContent = copied ? same : link;
}

$("close").addEventListener("click", () => $("viewer").close());
$("before").addEventListener("click", () => openViewer(shown - 1));
$("after").addEventListener("click", () => openViewer(shown + 1));
$("viewer").addEventListener("click", (event) => event.target === $("viewer") && $("viewer").close());
$("link").addEventListener("click", copyLink);
$("onward").addEventListener("click", () => {
  $("viewer").close();
  startFrom(found[shown].blob);
  $("prompt").focus();
});
$("reuse").addEventListener("click", async () => {
  $("viewer").close();
  const { settings, start } = found[shown];
  if (start) await startFrom(start.picture, start.mask, settings.strength);
  else startFromNothing();
  reuse(settings);
  $("form").dispatchEvent(new Event("input"));
  $("prompt").focus();
});
$("remove").addEventListener("click", async () => {
  await store.remove(found[shown].id);
  pictures = pictures.filter((p) => p !== found[shown]);
  showHistory();
  if (found.length) openViewer(Math.min(shown, found.length - 1));
  else $("viewer").close();
});

/** What a key does while the viewer is open; false where nothing. */
export function viewerKey(key) {
  const does = { ArrowLeft: () => openViewer(shown - 1), ArrowRight: () => openViewer(shown + 1), r: () => $("reuse").click(), s: () => $("onward").click(), d: () => $("download").click(), l: copyLink }[key];
  does?.();
  return does !== undefined;
}
