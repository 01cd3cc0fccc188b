// The page, top-down: models, drawing, a server that goes away, keys, dropped pictures, colours.

import { ApiError, alive, draw, models, setKey } from "./api.js";
import { fitForm, fromAddress, keepInAddress, plan, reuse, setCatalogue, showValues } from "./form.js";
import { keep, openHistory, viewerKey } from "./gallery.js";
import { checkWords, showKnown } from "./hints.js";
import { fromBase64, settingsInside } from "./png.js";
import { setStage } from "./stage.js";

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
  const requests = plan();
  drawing = new AbortController();
  tell(null);
  setBusy(true);
  const { tiles, restore } = setStage(requests);
  const results = await Promise.allSettled(requests.map(({ wanted }, i) => drawOne(wanted, tiles[i], drawing.signal)));
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
async function drawOne(wanted, tiles, signal) {
  try {
    for await (const event of draw({ ...wanted, partial_images: Math.min(PARTIAL_IMAGES, wanted.steps) }, signal)) {
      if (event.type === "waiting") for (const tile of tiles) tile.wait(event);
      else if (event.type === "image_generation.partial_image") tiles[event.image_index].progress(event.step, event.steps, fromBase64(event.b64_json));
      else await finish(tiles[event.image_index], event, wanted);
    }
  } catch (error) {
    const why = error.name === "AbortError" ? "stopped" : error instanceof ApiError ? "failed" : "the server went away";
    for (const tile of tiles) tile.giveUp(why);
    throw error;
  }
}

async function finish(tile, event, wanted) {
  const { n, ...rest } = wanted;
  const blob = fromBase64(event.b64_json);
  let open = () => {};
  const seconds = tile.finish(blob, () => open());
  const size = event.size ?? rest.size; // the nearest that the model has
  open = await keep({ blob, settings: { ...rest, size, seed: event.seed, revised_prompt: event.revised_prompt }, time: Date.now(), seconds }, event.image_index);
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

// ---- pictures that bring their settings: dropped, pasted or chosen

async function useSettingsOf(file) {
  const found = await settingsInside(file).catch(() => null);
  if (found) {
    reuse(found);
    changed();
    $("prompt").focus();
  }
  tell(found ? null : "This file holds no settings of daybreak's");
}

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => event.relatedTarget === null && ($("drop").hidden = true));
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = true;
  useSettingsOf(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => event.clipboardData.files.length && useSettingsOf(event.clipboardData.files[0]));
$("file").addEventListener("change", () => {
  if ($("file").files.length) useSettingsOf($("file").files[0]);
  $("file").value = "";
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
