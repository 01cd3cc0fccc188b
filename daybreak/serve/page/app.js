// The page, top-down: models, drawing, a server that goes away, keys, pictures that are brought, colours.

import { ApiError, alive, draw, models, setKey } from "./api.js";
import { fitForm, fromAddress, keepInAddress, plan, reuse, setCatalogue, showValues } from "./form.js";
import { keep, openHistory, viewerKey } from "./gallery.js";
import { checkWords, showKnown } from "./hints.js";
import { fromBase64, settingsInside } from "./png.js";
import { setStage } from "./stage.js";
import { fitStart, startFrom, startingPicture } from "./start.js";

const $ = (id) => document.getElementById(id);
const PARTIAL_IMAGES = 24;
const TRY_SECONDS = 2; // from one look for a server that went away to the next

let ready = false; // whether the models are known
let drawing = null; // the AbortController of what is drawn

async function loadModels() {
  try {
    setCatalogue(await models());
  } catch (error) {
    if (error.status === 401) return askForKey();
    return error instanceof ApiError ? tell(error.message) : goneAway();
  }
  if (!ready && fromAddress()) reuse(fromAddress());
  ready = true;
  fitStart();
  tell(null);
  showKnown();
}

function tell(problem) {
  $("problem").hidden = !problem;
  $("problem").textContent = problem ?? "";
}

function askForKey() {
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

/** The server does not answer: the page stays as it is, and looks for it until it is back. */
async function goneAway() {
  if (!$("away").hidden) return;
  $("away").hidden = false;
  do await new Promise((later) => setTimeout(later, 1000 * TRY_SECONDS));
  while (!(await alive()));
  $("away").hidden = true;
  $("status").textContent = "The server is back";
  loadModels();
}

// ---- the form

/** What follows from a change of the form, by hand or by a picture's settings. */
function changed() {
  showValues();
  checkWords();
  keepInAddress();
}

$("key-form").addEventListener("submit", () => {
  setKey($("key").value.trim());
  loadModels();
});
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (drawing) drawing.abort();
  else start();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!drawing) $("form").requestSubmit();
});
$("form").addEventListener("input", changed);
$("model").addEventListener("change", () => {
  fitForm();
  fitStart();
  showKnown();
  keepInAddress();
});
$("dice").addEventListener("click", () => {
  $("seed").value = "";
  $("seed").focus();
  keepInAddress();
});
window.addEventListener("hashchange", () => {
  if (ready && fromAddress()) reuse(fromAddress());
});

// ---- drawing

async function start() {
  if (!ready) return loadModels();
  drawing = new AbortController();
  tell(null);
  setBusy(true);
  const from = await startingPicture();
  const requests = plan().map(({ wanted, label }) => ({ label, wanted: from ? { ...wanted, strength: from.strength } : wanted }));
  const { tiles, restore } = setStage(requests);
  const results = await Promise.allSettled(requests.map(({ wanted }, i) => drawOne(wanted, from, tiles[i], drawing.signal)));
  const failed = results.find((r) => r.status === "rejected")?.reason;
  if (failed) restore();
  drawing = null;
  setBusy(false);
  if (!failed) $("status").textContent = "Done";
  else if (failed.name === "AbortError") $("status").textContent = "Stopped";
  else if (failed.status === 401) askForKey();
  else if (failed instanceof ApiError) tell(failed.message);
  else goneAway();
}

/** One request: its tiles show what comes. Throws what it fails by, after its tiles have given up. */
async function drawOne(wanted, from, tiles, signal) {
  try {
    for await (const event of draw({ ...wanted, partial_images: Math.min(PARTIAL_IMAGES, wanted.steps) }, from, signal)) {
      if (event.type === "waiting") for (const tile of tiles) tile.wait(event);
      else if (event.type.endsWith(".partial_image")) tiles[event.image_index].progress(event.step, event.steps, fromBase64(event.b64_json));
      else await finish(tiles[event.image_index], event, wanted, from);
    }
  } catch (error) {
    const why = error.name === "AbortError" ? "stopped" : error instanceof ApiError ? "failed" : "the server went away";
    for (const tile of tiles) tile.giveUp(why);
    throw error;
  }
}

async function finish(tile, event, wanted, from) {
  const { n, ...rest } = wanted;
  const blob = fromBase64(event.b64_json);
  let open = () => {};
  const seconds = tile.finish(blob, () => open());
  const size = event.size ?? rest.size; // the nearest that the model has
  const start = from && { picture: from.picture, mask: from.mask };
  open = await keep({ blob, start, settings: { ...rest, size, seed: event.seed, revised_prompt: event.revised_prompt }, time: Date.now(), seconds }, event.image_index);
}

function setBusy(busy) {
  $("go").toggleAttribute("data-busy", busy);
  $("go").firstElementChild.textContent = busy ? "Stop" : "Generate";
  $("stage").setAttribute("aria-busy", busy);
  if (busy) $("status").textContent = "Generating";
}

// ---- keys

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if ($("viewer").open) {
    if (!typing && viewerKey(event.key)) event.preventDefault();
  } else if (event.key === "Escape" && drawing) drawing.abort();
  else if (event.key === "/" && !typing) {
    event.preventDefault();
    $("prompt").focus();
  }
});

// ---- pictures that are dropped, pasted or chosen: for their settings, or to start from

/** as: "settings" or "start"; else for its settings where it holds some, and to start from where not. */
async function take(file, as) {
  const found = as === "start" ? null : await settingsInside(file).catch(() => null);
  if (found) {
    reuse(found);
    changed();
    $("prompt").focus();
    return tell(null);
  }
  if (as === "settings" || $("start").hidden) return tell("This file holds no settings of daybreak's");
  const taken = await startFrom(file);
  tell(taken ? null : "This file is no picture that this browser reads");
  if (taken) $("start").scrollIntoView({ behavior: "smooth", block: "nearest" });
}

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = false;
  for (const zone of $("drop").children) zone.toggleAttribute("data-over", zone.contains(event.target));
});
document.addEventListener("dragleave", (event) => event.relatedTarget === null && ($("drop").hidden = true));
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = true;
  take(event.dataTransfer.files[0], event.target.closest?.("[data-as]")?.dataset.as);
});
document.addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files[0]));
for (const [id, as] of [["file", "settings"], ["start-file", "start"]]) $(id).addEventListener("change", async () => {
  if ($(id).files.length) await take($(id).files[0], as);
  $(id).value = "";
});

// ---- colours

const THEMES = { "": "as the system", light: "light", dark: "dark" };
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("daybreak-theme", theme);
  $("theme").title = `Colours: ${THEMES[theme]}`;
  $("theme").setAttribute("aria-label", $("theme").title);
}
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length]);
});
setTheme(localStorage.getItem("daybreak-theme") ?? "");

// ---- at the start

if (matchMedia("(max-width: 820px)").matches) $("more").open = false;
loadModels();
openHistory();
$("prompt").focus();
