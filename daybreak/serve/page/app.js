// The page, top-down: the form, drawing, the stage, the history, the viewer, dropped pictures, colours.

import { ApiError, draw, models, setKey } from "./api.js";
import * as history from "./history.js";
import { fromBase64, settingsInside } from "./png.js";

const $ = (id) => document.getElementById(id);
const PARTIAL_IMAGES = 24;
const PIXELATED_BELOW = 160; // pictures of fewer pixels a side are enlarged without smoothing

let catalogue = [];
let drawing = null; // the AbortController of the request under way
let pictures = []; // the history, newest first
let shown = -1; // what the viewer shows

// ---- the form

const chosenModel = () => catalogue.find((m) => m.id === $("model").value) ?? catalogue[0];

async function loadModels() {
  try {
    catalogue = await models();
  } catch (error) {
    if (error.status === 401) return askForKey();
    return tell(error instanceof ApiError ? error.message : "The server cannot be reached");
  }
  $("model").replaceChildren(...catalogue.map((m) => new Option(m.id, m.id)));
  $("model-row").hidden = catalogue.length < 2;
  $("model-name").textContent = catalogue.length < 2 ? catalogue[0].id : "";
  fitForm();
}

/** Puts the chosen model's sizes, limits and defaults into the form. */
function fitForm() {
  const model = chosenModel();
  const sides = (w, h) => {
    const fit = (x) => Math.min(model.max_size, Math.max(model.size_multiple, Math.round((model.size * x) / model.size_multiple) * model.size_multiple));
    return `${fit(w)}x${fit(h)}`;
  };
  const names = [[1, 1, "square"], [1.25, 0.8, "landscape"], [0.8, 1.25, "portrait"], [1.5, 2 / 3, "wide"], [2 / 3, 1.5, "tall"], [2, 2, "large"]];
  const options = new Map(names.map(([w, h, name]) => [sides(w, h), name]).reverse());
  $("size").replaceChildren(...[...options].reverse().map(([size, name]) => new Option(`${size.replace("x", " × ")}  ${name}`, size)));
  $("expand-field").hidden = !model.expands;
  $("steps").max = Math.min(model.max_steps, Math.max(100, model.steps));
  $("steps").value = model.steps;
  $("guidance").max = Math.max(12, model.guidance);
  $("guidance").value = model.guidance;
  showValues();
}

function showValues() {
  $("steps-shown").textContent = $("steps").value;
  const guidance = Number($("guidance").value);
  $("guidance-shown").textContent = guidance === 1 ? "off" : guidance.toFixed(1);
  $("summary").textContent = `${$("size").value.replace("x", " × ")} · ${$("steps").value} steps · guidance ${$("guidance-shown").textContent}`;
}

function settings() {
  const seed = $("seed").value.trim();
  return {
    model: chosenModel().id,
    prompt: $("prompt").value.trim(),
    negative_prompt: $("negative").value.trim(),
    size: $("size").value,
    n: Number(document.querySelector("[name=n]:checked").value),
    steps: Number($("steps").value),
    guidance: Number($("guidance").value),
    ...(seed === "" ? {} : { seed: Number(seed) }),
    ...(chosenModel().expands && !$("expand").checked ? { expand: false } : {}),
  };
}

/** Fills the form with the settings of a picture. */
function reuse(s) {
  if (catalogue.some((m) => m.id === s.model)) {
    $("model").value = s.model;
    fitForm();
  }
  $("prompt").value = s.prompt ?? "";
  $("negative").value = s.negative_prompt ?? "";
  $("expand").checked = s.expand !== false;
  if (s.size && ![...$("size").options].some((o) => o.value === s.size)) $("size").add(new Option(s.size.replace("x", " × "), s.size));
  if (s.size) $("size").value = s.size;
  if (s.steps) $("steps").value = s.steps;
  if (s.guidance !== undefined) $("guidance").value = s.guidance;
  $("seed").value = s.seed ?? "";
  document.querySelector("[name=n][value='1']").checked = true;
  showValues();
  $("prompt").focus();
}

function tell(problem) {
  $("problem").hidden = !problem;
  $("problem").textContent = problem ?? "";
}

function askForKey() {
  $("key-dialog").showModal();
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
$("form").addEventListener("input", showValues);
$("model").addEventListener("change", fitForm);
$("dice").addEventListener("click", () => {
  $("seed").value = "";
  $("seed").focus();
});

// ---- drawing

async function start() {
  if (!catalogue.length) return loadModels();
  const wanted = settings();
  drawing = new AbortController();
  tell(null);
  setBusy(true);
  const tiles = setStage(wanted);
  try {
    for await (const event of draw({ ...wanted, partial_images: Math.min(PARTIAL_IMAGES, wanted.steps) }, drawing.signal)) {
      const tile = tiles[event.image_index];
      if (event.type === "image_generation.partial_image") tile.progress(event);
      else await finish(tile, event, wanted);
    }
    $("status").textContent = "Done";
  } catch (error) {
    for (const tile of tiles) tile.giveUp();
    if (error.name === "AbortError") $("status").textContent = "Stopped";
    else if (error.status === 401) askForKey();
    else tell(error instanceof ApiError ? error.message : "The connection to the server broke");
    if (!$("stage").querySelector(".tile")) clearStage();
  } finally {
    drawing = null;
    setBusy(false);
  }
}

async function finish(tile, event, wanted) {
  const { n, ...rest } = wanted;
  const picture = { blob: fromBase64(event.b64_json), settings: { ...rest, seed: event.seed, revised_prompt: event.revised_prompt }, time: Date.now() };
  const kept = await history.add(picture).catch(() => ({ ...picture, id: -picture.time - event.image_index })); // a full or forbidden store
  pictures.unshift(kept);
  tile.finish(kept);
  showHistory();
}

function setBusy(busy) {
  $("go").toggleAttribute("data-busy", busy);
  $("go").firstElementChild.textContent = busy ? "Stop" : "Generate";
  $("stage").setAttribute("aria-busy", busy);
  if (busy) $("status").textContent = "Generating";
}

// ---- the stage

function setStage(wanted) {
  const [width, height] = wanted.size.split("x").map(Number);
  const tiles = Array.from({ length: wanted.n }, () => makeTile(width, height, wanted.prompt));
  $("stage").dataset.count = wanted.n;
  $("stage").style.setProperty("--ratio", width / height);
  $("stage").replaceChildren(...tiles.map((t) => t.element));
  if (matchMedia("(max-width: 820px)").matches) $("stage").scrollIntoView({ behavior: "smooth", block: "center" });
  return tiles;
}

function clearStage() {
  $("stage").dataset.count = 0;
  $("stage").replaceChildren($dawn);
}
const $dawn = $("dawn");

function makeTile(width, height, prompt) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "tile waiting";
  element.disabled = true;
  const image = document.createElement("img");
  image.alt = prompt;
  image.hidden = true;
  image.className = Math.max(width, height) < PIXELATED_BELOW ? "small" : "";
  const note = document.createElement("span");
  note.className = "tile-note";
  note.textContent = "waiting in line";
  const bar = document.createElement("span");
  bar.className = "tile-bar";
  const filled = document.createElement("div");
  bar.append(filled);
  element.append(image, note, bar);
  let url = null;
  const show = (blob) => {
    if (url) URL.revokeObjectURL(url);
    image.src = url = URL.createObjectURL(blob);
    image.hidden = false;
    element.classList.remove("waiting");
  };
  return {
    element,
    progress(event) {
      show(fromBase64(event.b64_json));
      note.textContent = `step ${event.step} of ${event.steps}`;
      filled.style.width = `${(100 * event.step) / event.steps}%`;
    },
    finish(picture) {
      show(picture.blob);
      note.remove();
      bar.remove();
      element.disabled = false;
      element.setAttribute("aria-label", `Open: ${prompt}`);
      element.addEventListener("click", () => openViewer(pictures.findIndex((p) => p.id === picture.id)));
    },
    giveUp() {
      if (element.disabled) element.remove();
    },
  };
}

// ---- the history

function showHistory() {
  $("history").hidden = pictures.length === 0;
  const have = new Map([...$("grid").children].map((item) => [item.dataset.id, item]));
  $("grid").replaceChildren(...pictures.map((picture) => have.get(String(picture.id)) ?? makeThumb(picture)));
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
  if (isSmall(picture)) image.className = "small";
  button.append(image);
  button.addEventListener("click", () => openViewer(pictures.findIndex((p) => p.id === picture.id)));
  item.append(button);
  return item;
}

const isSmall = (picture) => Math.max(...picture.settings.size.split("x").map(Number)) < PIXELATED_BELOW;

$("clear").addEventListener("click", async () => {
  if (!confirm(`Delete all ${pictures.length} pictures from this browser?`)) return;
  await history.clear();
  pictures = [];
  showHistory();
  clearStage();
});

// ---- the viewer

function openViewer(index) {
  if (index < 0 || index >= pictures.length) return;
  shown = index;
  const picture = pictures[index];
  const s = picture.settings;
  const [width, height] = s.size.split("x").map(Number);
  if ($("viewer-image").src) URL.revokeObjectURL($("viewer-image").src);
  const url = URL.createObjectURL(picture.blob);
  $("viewer-image").src = url;
  $("viewer-image").alt = s.prompt;
  $("viewer-image").className = isSmall(picture) ? "small" : "";
  $("viewer-image").style.setProperty("--ratio", width / height);
  $("viewer-prompt").textContent = s.prompt;
  const facts = { "Written out as": s.revised_prompt, Negative: s.negative_prompt, Model: s.model, Size: `${width} × ${height} px`, Steps: s.steps, Guidance: s.guidance === 1 ? "off" : s.guidance, Seed: s.seed, Drawn: new Date(picture.time).toLocaleString() };
  $("viewer-facts").replaceChildren(...Object.entries(facts).filter(([, value]) => value !== "" && value !== undefined).flatMap(([name, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
  $("download").href = url;
  $("download").download = fileName(s);
  $("before").hidden = index === 0;
  $("after").hidden = index === pictures.length - 1;
  if (!$("viewer").open) $("viewer").showModal();
}

/** A name that any file system takes: letters and digits of the prompt, and the seed. */
const fileName = (s) => `${s.prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "picture"}-${s.seed}.png`;

$("close").addEventListener("click", () => $("viewer").close());
$("before").addEventListener("click", () => openViewer(shown - 1));
$("after").addEventListener("click", () => openViewer(shown + 1));
$("viewer").addEventListener("click", (event) => event.target === $("viewer") && $("viewer").close());
$("reuse").addEventListener("click", () => {
  $("viewer").close();
  reuse(pictures[shown].settings);
});
$("remove").addEventListener("click", async () => {
  await history.remove(pictures[shown].id);
  pictures.splice(shown, 1);
  showHistory();
  if (pictures.length) openViewer(Math.min(shown, pictures.length - 1));
  else $("viewer").close();
});

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if ($("viewer").open) {
    if (event.key === "ArrowLeft") openViewer(shown - 1);
    else if (event.key === "ArrowRight") openViewer(shown + 1);
    else if (event.key === "r") $("reuse").click();
    else if (event.key === "d") $("download").click();
    else return;
    event.preventDefault();
  } else if (event.key === "Escape" && drawing) drawing.abort();
  else if (event.key === "/" && !typing) {
    event.preventDefault();
    $("prompt").focus();
  }
});

// ---- dropped pictures

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => event.relatedTarget === null && ($("drop").hidden = true));
document.addEventListener("drop", async (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = true;
  const found = await settingsInside(event.dataTransfer.files[0]).catch(() => null);
  if (found) reuse(found);
  tell(found ? null : "This file holds no settings of daybreak's");
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
history.all().then((found) => {
  pictures = found;
  showHistory();
}).catch(() => {}); // no history in a private window
$("prompt").focus();
