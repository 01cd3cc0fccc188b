// The picture that others start from: chosen or dropped, a mask painted on it, and how strongly it is drawn anew.

import { chosenModel, followPicture } from "./form.js";
import { isSmall } from "./stage.js";

const $ = (id) => document.getElementById(id);
const LONGEST = 1536; // px of the longer side that is sent; models draw at fewer
const WITHOUT_MASK = 0.6; // strength, as the server has it where it is told none
const STEP = 0.03; // of the width, from one press of an arrow key to the next
const $picture = $("start-picture");
const $mask = $("start-mask"); // painted: may change
const $ring = $("brush-ring");
const maskPen = $mask.getContext("2d", { willReadFrequently: true });

let there = false;
let masked = false;
let strengthChosen = false; // by hand; else it follows the mask
let from = null; // where the brush was last, as shares of width and height

/** Shows what the chosen model can do with pictures. */
export function fitStart() {
  $("start").hidden = !chosenModel()?.edits;
}

/** {picture, mask, strength} of what is drawn from, with files as blobs; null where nothing is. mask: null where all may change. */
export async function startingPicture() {
  if (!there || $("start").hidden) return null;
  const mask = masked ? await fileOf(opposite($mask, "#000")) : null; // transparent: may change
  return { picture: await fileOf($picture), mask, strength: Number($("strength").value) };
}

/** Takes a picture, and a mask as startingPicture gives it; false where the file is none. strength: as it was chosen. */
export async function startFrom(file, mask = null, strength = null) {
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) return false;
  const scale = Math.min(1, LONGEST / Math.max(image.width, image.height));
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale)));
  for (const canvas of [$picture, $mask]) {
    Object.assign(canvas, { width, height });
    canvas.className = isSmall(`${width}x${height}`) ? "small" : "";
  }
  const pen = $picture.getContext("2d");
  pen.drawImage(image, 0, 0, width, height);
  const kept = mask ? await createImageBitmap(mask) : image; // what is transparent in it may change
  paintOver(opposite(kept, colour()));
  pen.globalCompositeOperation = "destination-over";
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  $("start-canvas").style.setProperty("--ratio", width / height);
  there = true;
  strengthChosen = strength !== null;
  if (strengthChosen) $("strength").value = strength;
  $("start-choose").hidden = true;
  $("start-chosen").hidden = false;
  followPicture(width, height);
  maskChanged();
  return true;
}

export function startFromNothing() {
  if (!there) return;
  there = false;
  $("start-choose").hidden = false;
  $("start-chosen").hidden = true;
  followPicture(0, 0);
}

// ---- the mask

const colour = () => getComputedStyle(document.documentElement).getPropertyValue("--mask");
const fileOf = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));

/** Of the mask's size: `fill` where `image` is transparent. */
function opposite(image, fill) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [$mask.width, $mask.height];
  const pen = canvas.getContext("2d");
  pen.fillStyle = fill;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.globalCompositeOperation = "destination-out";
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

function paintOver(canvas) {
  maskPen.globalCompositeOperation = "copy";
  maskPen.drawImage(canvas, 0, 0);
}

function maskChanged() {
  const { data } = maskPen.getImageData(0, 0, $mask.width, $mask.height);
  let painted = 0;
  for (let i = 3; i < data.length; i += 4) if (data[i] > 127) painted++;
  masked = painted > 0;
  const share = Math.round((400 * painted) / data.length);
  $("mask-said").textContent = masked ? `${share} % may change, the rest stays as it is.` : "Paint what may change. Unpainted, all of it may.";
  if (!strengthChosen) $("strength").value = masked ? 1 : WITHOUT_MASK;
  showStrength();
}

function showStrength() {
  $("strength-shown").textContent = Number($("strength").value).toFixed(2);
}

/** A stroke from where the brush was to (x, y), shares of width and height. */
function stroke(x, y) {
  const [w, h] = [$mask.width, $mask.height];
  maskPen.globalCompositeOperation = $("erase").checked ? "destination-out" : "source-over";
  maskPen.strokeStyle = colour();
  maskPen.lineCap = maskPen.lineJoin = "round";
  maskPen.lineWidth = (Number($("brush").value) / 100) * w;
  maskPen.beginPath();
  maskPen.moveTo((from ?? { x }).x * w, (from ?? { y }).y * h);
  maskPen.lineTo(x * w, y * h + 0.01); // a dot is a line of some length
  maskPen.stroke();
  moveTo(x, y);
}

function moveTo(x, y) {
  from = { x, y };
  $ring.hidden = false;
  $ring.style.left = `${100 * x}%`;
  $ring.style.top = `${100 * y}%`;
  $ring.style.width = `${$("brush").value}%`;
}

const at = (event) => {
  const box = $mask.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
};
$mask.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  $mask.focus({ preventScroll: true });
  $mask.setPointerCapture(event.pointerId);
  from = null;
  stroke(...at(event));
});
$mask.addEventListener("pointermove", (event) => {
  if (!$mask.hasPointerCapture(event.pointerId)) return event.pointerType === "touch" || moveTo(...at(event));
  for (const one of event.getCoalescedEvents?.() ?? [event]) stroke(...at(one));
});
for (const name of ["pointerup", "pointercancel"]) $mask.addEventListener(name, maskChanged);
for (const name of ["pointerleave", "blur"]) $mask.addEventListener(name, () => ($ring.hidden = true));

// By keys: arrows move the brush, and paint while Space is held.
let holding = false;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
$mask.addEventListener("focus", () => $mask.matches(":focus-visible") && moveTo(from?.x ?? 0.5, from?.y ?? 0.5));
$mask.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { x, y } = from ?? { x: 0.5, y: 0.5 };
  const arrow = ARROWS[event.key];
  if (arrow) {
    const step = STEP * (event.shiftKey ? 4 : 1);
    const to = [x + arrow[0] * step, y + (arrow[1] * step * $mask.width) / $mask.height].map((v) => Math.min(1, Math.max(0, v)));
    (holding ? stroke : moveTo)(...to);
  } else if (event.key === " ") {
    holding = true;
    stroke(x, y);
  } else if (event.key === "[" || event.key === "]") {
    $("brush").value = Number($("brush").value) + (event.key === "[" ? -2 : 2);
    moveTo(x, y);
  } else return;
  event.preventDefault();
  if (event.key === " " || holding) maskChanged();
});
$mask.addEventListener("keyup", (event) => event.key === " " && (holding = false));

// ---- what stands beside it

const clear = () => maskPen.clearRect(0, 0, $mask.width, $mask.height);
const invert = () => paintOver(opposite($mask, colour()));
const all = () => {
  clear();
  invert();
};
for (const [id, does] of [["mask-clear", clear], ["mask-all", all], ["mask-invert", invert]]) $(id).addEventListener("click", () => {
  does();
  maskChanged();
});
$("strength").addEventListener("input", () => {
  strengthChosen = true;
  showStrength();
});
$("start-remove").addEventListener("click", () => {
  startFromNothing();
  $("start-file").focus();
});
