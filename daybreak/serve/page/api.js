// The server's API: models, and pictures as a stream of events.

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

/** Draws; yields the server's events in order. `signal` gives up, which frees the server too. */
export async function* draw(settings, signal) {
  const answer = await request("/v1/images/generations", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...settings, stream: true }),
    signal,
  });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (!data) continue; // a heartbeat
      const event = JSON.parse(data.slice(6));
      if (event.error) throw new ApiError(500, event.error.message);
      yield event;
    }
  }
}
