// The stage: pictures on their way, each with its place in line, its step and the seconds that are left.

const $ = (id) => document.getElementById(id);
const PIXELATED_BELOW = 160; // pictures of fewer pixels a side are enlarged without smoothing
const $dawn = $("dawn");

export const isSmall = (size) => Math.max(...size.split("x").map(Number)) < PIXELATED_BELOW;

/** Sets out tiles for requests, [{wanted, label}]; returns them by request, and `restore`, which brings back what stood
 * there before, where nothing came of them. */
export function setStage(requests) {
  const before = { tiles: [...$("stage").children], count: $("stage").dataset.count, ratio: $("stage").style.getPropertyValue("--ratio") };
  const tiles = requests.map(({ wanted, label }) => Array.from({ length: wanted.n }, () => makeTile(wanted, label)));
  const all = tiles.flat();
  const [width, height] = requests[0].wanted.size.split("x").map(Number);
  $("stage").dataset.count = all.length;
  $("stage").style.setProperty("--ratio", width / height);
  $("stage").replaceChildren(...all.map((t) => t.element));
  if (matchMedia("(max-width: 820px)").matches) $("stage").scrollIntoView({ behavior: "smooth", block: "center" });
  return {
    tiles,
    restore() {
      if (all.some((t) => t.began())) return;
      $("stage").dataset.count = before.count;
      $("stage").style.setProperty("--ratio", before.ratio);
      $("stage").replaceChildren(...before.tiles);
    },
  };
}

export function clearStage() {
  $("stage").dataset.count = 0;
  $("stage").replaceChildren($dawn);
}

const rounded = (seconds) => (seconds < 1 ? "under 1 s" : seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);

function part(kind, className, parent) {
  const element = document.createElement(kind);
  element.className = className;
  parent?.append(element);
  return element;
}

function makeTile(wanted, label) {
  const [width, height] = wanted.size.split("x").map(Number);
  const element = part("button", "tile waiting");
  element.type = "button";
  element.disabled = true;
  element.style.setProperty("--ratio", width / height);
  const image = part("img", isSmall(wanted.size) ? "small" : "", element);
  image.alt = wanted.prompt;
  image.hidden = true;
  if (label) part("span", "tile-label", element).textContent = label;
  const note = part("span", "tile-note", element);
  note.textContent = "waiting in line";
  const bar = part("span", "tile-bar", element);
  const filled = part("div", "", bar);
  const asked = performance.now();
  let url = null;
  let begun = null; // {step, at} of the first picture that came
  let ended = false;
  const show = (blob) => {
    if (url) URL.revokeObjectURL(url);
    image.src = url = URL.createObjectURL(blob);
    image.hidden = false;
    element.classList.remove("waiting");
  };
  const seconds = () => (performance.now() - asked) / 1000;
  return {
    element,
    began: () => begun !== null || ended,
    wait({ before, seconds: left }) {
      if (begun || ended) return;
      const about = left === null ? "" : `, about ${rounded(left)}`;
      note.textContent = before === null ? `starting, ${rounded(seconds())} so far` : before === 0 ? `next in line${about}` : `${before} before this one${about}`;
    },
    progress(step, steps, blob) {
      show(blob);
      begun ??= { step, at: performance.now() };
      const rate = (performance.now() - begun.at) / 1000 / (step - begun.step);
      const left = step > begun.step ? ` · ${rounded(rate * (steps - step))} left` : "";
      note.textContent = `step ${step} of ${steps}${left}`;
      filled.style.width = `${(100 * step) / steps}%`;
    },
    finish(blob, open) {
      show(blob);
      ended = true;
      note.remove();
      bar.remove();
      element.disabled = false;
      element.setAttribute("aria-label", `Open: ${wanted.prompt}`);
      element.addEventListener("click", open);
      return seconds();
    },
    /** No more comes: what was seen so far stays, and says that it is not finished. */
    giveUp(why) {
      if (ended) return;
      if (!begun) return element.remove();
      note.textContent = `${why} at ${note.textContent.split(" · ")[0]}`;
      element.classList.add("unfinished");
    },
  };
}
