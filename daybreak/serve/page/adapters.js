// Adapters that the server may draw with: a slider each, at "off" until it is moved.

const $ = (id) => document.getElementById(id);
const [LEAST, MOST] = [-1, 2]; // strengths that the sliders offer; 1 is what was trained

/** A slider for each of the names. */
export function offerLoras(names) {
  const before = chosenLoras();
  $("loras").hidden = names.length === 0;
  $("lora-list").replaceChildren(...names.map((name) => {
    const row = document.createElement("div");
    row.className = "slide";
    const label = document.createElement("label");
    const shown = document.createElement("output");
    const slider = Object.assign(document.createElement("input"), { type: "range", min: LEAST, max: MOST, step: 0.05, id: `lora ${name}` });
    slider.dataset.name = name;
    slider.setAttribute("aria-valuetext", "off");
    slider.addEventListener("input", () => show(slider));
    label.htmlFor = slider.id;
    label.textContent = name;
    row.append(label, shown, slider);
    return row;
  }));
  setLoras(before);
}

function show(slider) {
  const value = Number(slider.value);
  slider.previousElementSibling.textContent = value ? value.toFixed(2) : "off";
  slider.setAttribute("aria-valuetext", slider.previousElementSibling.textContent);
}

const sliders = () => [...$("lora-list").querySelectorAll("input")];

/** {name: strength} of those that are not off. */
export const chosenLoras = () => Object.fromEntries(sliders().map((s) => [s.dataset.name, Number(s.value)]).filter(([, value]) => value));

/** Moves the sliders; those that are not in `loras` are off. */
export function setLoras(loras) {
  for (const slider of sliders()) {
    const value = Number(loras?.[slider.dataset.name]) || 0;
    slider.min = Math.min(LEAST, value);
    slider.max = Math.max(MOST, value);
    slider.value = value;
    show(slider);
  }
}
