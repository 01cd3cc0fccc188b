// Below the prompt: captions of the model's own to begin with, and words that it never met.

import { known, unseen } from "./api.js";
import { chosenModel, offerSizes } from "./form.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 3;
let examples = [];
let first = 0;

/** What is known of the chosen model: its sizes, and examples. A server that can't tell is no trouble. */
export async function showKnown() {
  const model = chosenModel().id;
  const found = await known(model).catch(() => null);
  if (!found || chosenModel().id !== model) return;
  offerSizes(found);
  [examples, first] = [found.examples, 0];
  showExamples();
  checkWords();
}

function showExamples() {
  $("examples").hidden = examples.length === 0;
  const some = Array.from({ length: Math.min(SHOWN, examples.length) }, (_, i) => examples[(first + i) % examples.length]);
  $("example-list").replaceChildren(...some.map((text) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "example";
    button.textContent = button.title = text;
    button.addEventListener("click", () => {
      $("prompt").value = text;
      $("prompt").dispatchEvent(new Event("input", { bubbles: true }));
      $("prompt").focus();
    });
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  $("more-examples").hidden = examples.length <= SHOWN;
}

$("more-examples").addEventListener("click", () => {
  first = (first + SHOWN) % examples.length;
  showExamples();
});

let asking = null;
let soon;

/** Asks, once typing rests, which words of the prompt no caption has. */
export function checkWords() {
  clearTimeout(soon);
  asking?.abort();
  const prompt = $("prompt").value.trim();
  if (!prompt) return say(null);
  soon = setTimeout(async () => {
    asking = new AbortController();
    const found = await unseen(chosenModel().id, prompt, asking.signal).catch(() => null);
    if (found && $("prompt").value.trim() === prompt) say(found);
  }, 350);
}

function say(found) {
  const words = found?.words ?? [];
  $("words").hidden = words.length === 0;
  if (!words.length) return $("words").replaceChildren();
  const parts = words.flatMap(({ word, close }, i) => {
    const strong = document.createElement("b");
    strong.textContent = word;
    if (!close) return [i ? ", " : "", strong];
    const instead = document.createElement("button");
    instead.type = "button";
    instead.className = "instead";
    instead.textContent = close;
    instead.addEventListener("click", () => replace(word, close));
    return [i ? ", " : "", strong, " (", instead, "?)"];
  });
  $("words").replaceChildren(`Not in the ${found.captions.toLocaleString()} captions looked at: `, ...parts);
}

function replace(word, other) {
  const escaped = word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  $("prompt").value = $("prompt").value.replace(new RegExp(`(?<![\\p{L}\\p{N}])${escaped}(?![\\p{L}\\p{N}])`, "giu"), other);
  $("prompt").dispatchEvent(new Event("input", { bubbles: true }));
  $("prompt").focus();
}
