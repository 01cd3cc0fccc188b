// Small things that all parts use: elements, numbers in words, addresses of pictures. Text goes in as text only.
const FROZEN = JSON.parse(document.getElementById("frozen").textContent);

function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list" && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

const fixed = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
const whole = (value) => Math.round(value).toLocaleString("en");

function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e5) return short(value);
  if (size >= 100) return whole(value);
  if (size < 1e-3) return value.toExponential(1).replace("e-", "e−");
  return String(Number(value.toPrecision(3)));
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${Number((value / 1e9).toPrecision(3))} G`;
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))} M`;
  if (size >= 1e3) return `${Number((value / 1e3).toPrecision(3))} k`;
  return String(Number(value.toPrecision(3)));
}

const percent = (share, digits = 0) => `${fixed(100 * share, digits)}\u00a0%`;

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const total = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const two = (n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

function date(seconds) {
  return new Date(1000 * seconds).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

function ago(seconds) {
  const past = Date.now() / 1000 - seconds;
  if (past < 90) return "just now";
  if (past < 5400) return `${Math.round(past / 60)} min ago`;
  if (past < 129600) return `${Math.round(past / 3600)} h ago`;
  return `${Math.round(past / 86400)} days ago`;
}

// Where a picture of a run is: in this page, or at the server.
function address(run, path) {
  if (FROZEN) return FROZEN.files[path] ?? "";
  return `/file?name=${encodeURIComponent(run)}&path=${encodeURIComponent(path)}`;
}

function picture(run, path, alt, attributes) {
  return h("img", { src: address(run, path), alt, loading: "lazy", decoding: "async", ...attributes });
}

// Small pictures keep their pixels. Called as a picture's onload.
function keepPixels(event) {
  const image = event.target;
  image.classList.toggle("pixels", image.naturalWidth > 0 && image.naturalWidth < image.clientWidth);
}

// A part of the page that is made anew only where what it shows has changed.
class Part {
  constructor(name) {
    this.root = h("section", { hidden: true });
    this.root.dataset.part = name;
    this.key = null;
  }
  show(key, make) {
    if (key === this.key) return;
    this.key = key;
    const children = make();
    this.root.replaceChildren(...[children].flat(Infinity).filter(Boolean));
    this.root.hidden = !this.root.childElementCount;
  }
}

const STATES = { waiting: "begins", training: "trains", judging: "is being judged", finished: "finished", stopped: "stands still" };
const stateChip = (state) => h(`span.state.${state}`, {}, STATES[state] ?? state);
