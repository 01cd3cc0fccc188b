// The server's API: models, what the page asks of them, and pictures as a stream of events.

let key = sessionStorage.getItem("daybreak-key");

export function setKey(value) {
  key = value;
  sessionStorage.setItem("daybreak-key", value);
}

/** An answer that is no success; `status` is HTTP's. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  const wait = answer.headers.get("Retry-After");
  const message = body?.error?.message ?? `The server answered ${answer.status}`;
  throw new ApiError(answer.status, wait ? `${message}; try again in ${wait} s` : message);
}

export async function models() {
  return (await (await request("/v1/models")).json()).data;
}

const named = (model) => `model=${encodeURIComponent(model)}`;

/** {examples, sides, ratio}: some of a model's captions, and the sizes that it was trained at. */
export const known = async (model) => (await request(`/page/known?${named(model)}`)).json();

/** {words: [{word, close}], captions}: the words of a prompt that none of so many captions has. */
export async function unseen(model, prompt, signal) {
  return (await request("/page/unseen", { method: "POST", signal, ...asJson({ model, prompt }) })).json();
}

/** Whether the server answers at all. */
export const alive = () => fetch("/health", { cache: "no-store" }).then((answer) => answer.ok, () => false);

const WAITING = ": waiting ";

const asJson = (settings) => ({ headers: { "Content-Type": "application/json" }, body: JSON.stringify(settings) });

/** Settings as a form, with the picture and the mask that they start from. */
function asForm({ loras, ...settings }, { picture, mask }) {
  const body = new FormData();
  for (const [name, value] of Object.entries(settings)) body.append(name, value);
  for (const [name, strength] of Object.entries(loras ?? {})) body.append(`loras[${name}]`, strength);
  body.append("image", picture, "picture.png");
  if (mask) body.append("mask", mask, "mask.png");
  return { body };
}

/** Draws, from a picture where `start` is one; yields the server's events in order, and {type: "waiting", before, seconds}. `signal` gives up, which frees
 * the server too. */
export async function* draw(settings, start, signal) {
  const asked = { ...settings, stream: true };
  const [path, sent] = start ? ["edits", asForm(asked, start)] : ["generations", asJson(asked)];
  const answer = await request(`/v1/images/${path}`, { method: "POST", signal, ...sent });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let left = settings.n;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      if (left) throw new TypeError("the stream ended early"); // as fetch says where the server went away
      return;
    }
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith(WAITING)) yield { type: "waiting", ...JSON.parse(block.slice(WAITING.length)) };
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (!data) continue; // a comment
      const event = JSON.parse(data.slice(6));
      if (event.error) throw new ApiError(500, event.error.message);
      if (event.type.endsWith(".completed")) left--;
      yield event;
    }
  }
}
