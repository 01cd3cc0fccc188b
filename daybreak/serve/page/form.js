// The form: models, sizes and limits; its settings as an object, and as the link that holds them all.

import { chosenLoras, offerLoras, setLoras } from "./adapters.js";

const $ = (id) => document.getElementById(id);
const SEED = "a seed"; // beside the picture, the same with another seed; models have no spaces before a colon
const FIELDS = { model: "model", prompt: "prompt", negative_prompt: "negative", size: "size", steps: "steps", guidance: "guidance", seed: "seed", beside: "beside", seed_beside: "seed-beside" };
const SHAPES = [[1, 1, "square"], [1.25, 0.8, "landscape"], [0.8, 1.25, "portrait"], [1.5, 2 / 3, "wide"], [2 / 3, 1.5, "tall"], [2, 2, "large"]];
const NEAR = 1.3; // by so much a picture may have more pixels, or fewer, than those that the model was trained at

let catalogue = [];
let picture = null; // [width, height] of what is started from

export const chosenModel = () => catalogue.find((m) => m.id === $("model").value) ?? catalogue[0];
const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
const seedIn = (id) => ($(id).value.trim() === "" ? null : Number($(id).value));

/** Takes what the server serves now; what is in the form stays where it still fits. */
export function setCatalogue(models) {
  const before = chosenModel();
  const values = JSON.stringify(models.find((m) => m.id === before?.id)) === JSON.stringify(before);
  catalogue = models;
  $("model").replaceChildren(...models.map((m) => new Option(m.id, m.id)));
  if (before && models.some((m) => m.id === before.id)) $("model").value = before.id;
  $("model-row").hidden = models.length < 2;
  $("model-name").textContent = models.length < 2 ? models[0].id : "";
  if (!before || !values) fitForm();
}

/** Puts the chosen model's limits and defaults into the form. */
export function fitForm() {
  const model = chosenModel();
  $("size").replaceChildren(); // another model's would stay chosen
  offerSizes({ sides: [model.size], ratio: 1 });
  const others = catalogue.filter((m) => m.id !== model.id);
  const beside = $("beside").value;
  $("beside").replaceChildren(new Option("nothing", ""), new Option("another seed", SEED), ...others.map((m) => new Option(m.id, `: ${m.id}`)));
  $("beside").value = [...$("beside").options].some((o) => o.value === beside) ? beside : "";
  $("expand-field").hidden = !model.expands;
  offerLoras(model.loras);
  $("steps").max = Math.min(model.max_steps, Math.max(100, model.steps));
  $("steps").value = model.steps;
  $("guidance").max = Math.max(12, model.guidance);
  $("guidance").value = model.guidance;
  showValues();
}

const fitSide = (model, x) => Math.min(model.max_size, Math.max(model.size_multiple, Math.round(x / model.size_multiple) * model.size_multiple));

/** The sizes that a model has, those that it was trained near first. known: {sides, ratio} (serve/about.py). */
export function offerSizes(known) {
  const model = chosenModel();
  const chosen = $("size").value;
  const sides = known.sides.length ? known.sides : [model.size];
  const fit = (x) => fitSide(model, x);
  const near = (w, h) => Math.max(w / h, h / w) <= known.ratio * 1.01 && sides.some((s) => w * h <= NEAR * s * s && w * h >= (s * s) / NEAR);
  const groups = { trained: new Map(), other: new Map() };
  const smaller = sides.filter((s) => s !== model.size).map((s) => [s / model.size, s / model.size, "square"]);
  for (const [x, y, name] of [...SHAPES.slice(0, 1), ...smaller, ...SHAPES.slice(1)]) {
    const [w, h] = [fit(model.size * x), fit(model.size * y)];
    const group = near(w, h) ? groups.trained : groups.other;
    if (!groups.trained.has(`${w}x${h}`) && !group.has(`${w}x${h}`)) group.set(`${w}x${h}`, name);
  }
  const made = ([label, sizes]) => {
    const group = document.createElement("optgroup");
    group.label = label;
    group.append(...[...sizes].map(([size, name]) => new Option(`${size.replace("x", " × ")}  ${name}`, size)));
    return group;
  };
  const named = [["trained at", groups.trained], ["not trained at: may repeat or fall apart", groups.other]];
  $("size").replaceChildren(...named.filter(([, sizes]) => sizes.size).map(made));
  const own = picture ? offerPicture() : `${model.size}x${model.size}`;
  setSize(chosen || own);
}

/** Offers and chooses the size of a picture of so many px that is started from; of none, the model's own again. */
export function followPicture(width, height) {
  picture = width ? [width, height] : null;
  if (picture) $("size").value = offerPicture();
  else {
    $("size").querySelector("[data-picture]")?.remove();
    setSize(`${chosenModel().size}x${chosenModel().size}`);
  }
  $("form").dispatchEvent(new Event("input"));
}

/** The picture's shape at as many pixels as the model was trained at, as an option of its own. */
function offerPicture() {
  const model = chosenModel();
  const scale = model.size / Math.sqrt(picture[0] * picture[1]);
  const size = picture.map((side) => fitSide(model, side * scale)).join("x");
  $("size").querySelector("[data-picture]")?.remove();
  if (![...$("size").options].some((o) => o.value === size)) {
    const option = new Option(`${size.replace("x", " × ")}  as the picture`, size);
    option.dataset.picture = "yes";
    $("size").prepend(option);
  }
  return size;
}

function setSize(size) {
  if (![...$("size").options].some((o) => o.value === size)) $("size").add(new Option(size.replace("x", " × "), size));
  $("size").value = size;
}

export function showValues() {
  $("steps-shown").textContent = $("steps").value;
  const guidance = Number($("guidance").value);
  $("guidance-shown").textContent = guidance === 1 ? "off" : guidance.toFixed(1);
  const untrained = $("size").selectedOptions[0]?.parentElement.label?.startsWith("not");
  $("size-note").hidden = !untrained;
  $("seed-beside-field").hidden = $("beside").value !== SEED;
  $("pictures").disabled = $("beside").value !== "";
  const beside = $("beside").value && ` · beside ${$("beside").selectedOptions[0].textContent}`;
  const loras = Object.keys(chosenLoras()).map((name) => ` · ${name}`).join("");
  $("summary").textContent = `${$("size").value.replace("x", " × ")} · ${$("steps").value} steps · guidance ${$("guidance-shown").textContent}${loras}${beside}`;
}

/** What the form says, as a request for pictures. */
export function settings() {
  const seed = seedIn("seed");
  const loras = chosenLoras();
  return {
    model: chosenModel().id,
    prompt: $("prompt").value.trim(),
    negative_prompt: $("negative").value.trim(),
    size: $("size").value,
    n: Number(document.querySelector("[name=n]:checked").value),
    steps: Number($("steps").value),
    guidance: Number($("guidance").value),
    ...(seed === null ? {} : { seed }),
    ...(Object.keys(loras).length ? { loras } : {}),
    ...(chosenModel().expands && !$("expand").checked ? { expand: false } : {}),
  };
}

/** The requests that the form asks for, with a label for each where there are two side by side: [{wanted, label}]. */
export function plan() {
  const wanted = settings();
  const beside = $("beside").value;
  if (!beside) return [{ wanted, label: "" }];
  const one = { ...wanted, n: 1, seed: wanted.seed ?? randomSeed() };
  if (beside !== SEED) {
    const other = asOf(one, catalogue.find((m) => m.id === beside.slice(2)));
    return [one, other].map((w) => ({ wanted: w, label: w.model }));
  }
  const other = { ...one, seed: seedIn("seed-beside") ?? (one.seed + 1) % 2 ** 32 };
  return [one, other].map((w) => ({ wanted: w, label: `seed ${w.seed}` }));
}

/** A request for another model: its own defaults where the form has the chosen model's, else what is in the form. */
function asOf(one, model) {
  const mine = chosenModel();
  const [width, height] = one.size.split("x").map(Number);
  const own = (one.size === `${mine.size}x${mine.size}`) || Math.max(width, height) > model.max_size || width % model.size_multiple || height % model.size_multiple;
  const { expand, loras, ...rest } = one;
  const shared = Object.entries(loras ?? {}).filter(([name]) => model.loras.includes(name));
  return {
    ...rest,
    model: model.id,
    size: own ? `${model.size}x${model.size}` : one.size,
    steps: one.steps === mine.steps ? model.steps : Math.min(one.steps, model.max_steps),
    guidance: one.guidance === mine.guidance ? model.guidance : one.guidance,
    ...(shared.length ? { loras: Object.fromEntries(shared) } : {}),
    ...(model.expands && !$("expand").checked ? { expand: false } : {}),
  };
}

/** Fills the form with the settings of a picture, or of a link. */
export function reuse(s) {
  if (catalogue.some((m) => m.id === s.model) && $("model").value !== s.model) {
    $("model").value = s.model;
    fitForm();
    $("model").dispatchEvent(new Event("change"));
  }
  $("prompt").value = s.prompt ?? "";
  $("negative").value = s.negative_prompt ?? "";
  $("expand").checked = s.expand !== false;
  setLoras(s.loras);
  if (/^[1-9]\d{0,4}x[1-9]\d{0,4}$/.test(s.size)) setSize(s.size);
  if (s.steps) $("steps").value = s.steps;
  if (s.guidance !== undefined) $("guidance").value = s.guidance;
  $("seed").value = s.seed ?? "";
  if (s.beside !== undefined) $("beside").value = s.beside;
  if ($("beside").selectedIndex < 0 || s.beside === undefined) $("beside").value = "";
  $("seed-beside").value = s.seed_beside ?? "";
  const n = document.querySelector(`[name=n][value='${Number(s.n) || 1}']`) ?? document.querySelector("[name=n][value='1']");
  n.checked = true;
  showValues();
}

// ---- links

/** The address of this page with settings in it. */
export function linkOf(s) {
  const values = { ...s, loras: Object.keys(s.loras ?? {}).length ? JSON.stringify(s.loras) : "" };
  const kept = Object.entries(values).filter(([name, value]) => name !== "revised_prompt" && value !== "" && value !== undefined && value !== null);
  return `${location.origin}${location.pathname}#${new URLSearchParams(kept)}`;
}

let writing;
/** Keeps the form in the page's own address, a little later: browsers refuse a hundred changes at once. */
export function keepInAddress() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    const fields = Object.fromEntries(Object.entries(FIELDS).map(([name, id]) => [name, $(id).value.trim()]));
    const n = document.querySelector("[name=n]:checked").value;
    window.history.replaceState(null, "", linkOf({ ...fields, n, loras: chosenLoras(), ...($("expand").checked ? {} : { expand: false }) }));
  }, 250);
}

/** The settings that the page's address holds, or null. */
export function fromAddress() {
  const found = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (!("prompt" in found)) return null;
  return { ...found, loras: objectIn(found.loras), expand: found.expand !== "false" };
}

function objectIn(text) {
  try {
    return JSON.parse(text ?? "{}");
  } catch {
    return {}; // an address that somebody has cut off
  }
}
