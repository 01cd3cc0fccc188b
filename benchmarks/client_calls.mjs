// The calls of benchmarks/clients.py that JavaScript clients make: `node client_calls.mjs URL MODEL OPTIONS`.
// Runs beside the node_modules that hold those clients. A line of JSON for each call.

import { readFileSync } from "node:fs";
import { deflateSync, crc32 } from "node:zlib";
import OpenAI, { toFile } from "openai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage } from "ai";

const [url, model, options] = process.argv.slice(2);
const baseURL = `${url}/v1`;
const prompt = "a red circle";
const ANY = "--any-model";
const openai = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const vercel = createOpenAI({ baseURL, apiKey: "none" });
const compatible = createOpenAICompatible({ name: "daybreak", baseURL });
const version = (name) => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;

/** A black PNG of 32 px. */
function png() {
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.from([0, 0, 0, 32, 0, 0, 0, 32, 8, 2, 0, 0, 0]);
  const parts = [chunk("IHDR", header), chunk("IDAT", deflateSync(Buffer.alloc(32 * 97))), chunk("IEND", Buffer.alloc(0))];
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), ...parts]);
}

/** "32x32" of PNGs as base64. */
function sizeOf(pictures) {
  const sizes = pictures.map((base64) => {
    const bytes = Buffer.from(base64, "base64");
    if (bytes.toString("latin1", 1, 4) !== "PNG") throw new Error(`no PNG, but ${base64.slice(0, 80)}`);
    return `${bytes.readUInt32BE(16)}x${bytes.readUInt32BE(20)}`;
  });
  return sizes.length === 1 ? sizes[0] : `${sizes.length} x ${sizes[0]}`;
}

const ofOpenai = async (promise) => (await promise).data.map((one) => one.b64_json);
const ofVercel = async (given) => (await generateImage({ prompt, maxRetries: 0, ...given })).images.map((one) => one.base64);
const file = () => toFile(png(), "picture.png", { type: "image/png" });

async function streamed() {
  const found = [];
  for await (const event of await openai.images.generate({ prompt, stream: true, partial_images: 2 })) found.push(event.b64_json);
  return found;
}

const CALLS = [
  ["openai", "`images.generate({prompt})`", "", () => ofOpenai(openai.images.generate({ prompt }))],
  ["openai", "`images.generate({model: 'gpt-image-2', size: '1024x1024', quality: 'high'})`", ANY, () => ofOpenai(openai.images.generate({ prompt, model: "gpt-image-2", size: "1024x1024", quality: "high" }))],
  ["openai", "`images.generate({stream: true, partial_images: 2})`", "", streamed],
  ["openai", "`images.edit({image})`", "", async () => ofOpenai(openai.images.edit({ image: await file(), prompt }))],
  ["openai", "`images.edit({image: [image, image]})`", "", async () => ofOpenai(openai.images.edit({ image: [await file(), await file()], prompt }))],
  ["openai", "`images.createVariation({image})`", "", async () => ofOpenai(openai.images.createVariation({ image: await file() }))],
  ["@ai-sdk/openai", "`generateImage({model: openai.image('MODEL')})`", "", () => ofVercel({ model: vercel.image(model) })],
  ["@ai-sdk/openai", "`generateImage({model: openai.image('gpt-image-1'), n: 2, size: '1024x1024'})`", ANY, () => ofVercel({ model: vercel.image("gpt-image-1"), n: 2, size: "1024x1024" })],
  ["@ai-sdk/openai", "`generateImage({prompt: {text, images: [image, image]}})`", "", () => ofVercel({ model: vercel.image(model), prompt: { text: prompt, images: [png(), png()] } })],
  ["@ai-sdk/openai-compatible", "`generateImage({model: provider.imageModel('MODEL')})`", "", () => ofVercel({ model: compatible.imageModel(model) })],
  ["@ai-sdk/openai-compatible", "`generateImage({n: 2, size: '1024x1024'})`", "", () => ofVercel({ model: compatible.imageModel(model), n: 2, size: "1024x1024" })],
  ["@ai-sdk/openai-compatible", "`generateImage({prompt: {text, images: [image]}})`", "", () => ofVercel({ model: compatible.imageModel(model), prompt: { text: prompt, images: [png()] } })],
];

for (const [name, call, needed, made] of CALLS) {
  if (needed !== options) continue;
  const result = await made().then((pictures) => `ok, ${sizeOf(pictures)}`, (error) => `${error.name}: ${String(error.message).slice(0, 300)}`);
  const client = name === "openai" ? `openai (JavaScript) ${version(name)}` : `ai ${version("ai")}, ${name} ${version(name)}`;
  console.log(JSON.stringify({ client, call: call.replace(/\bMODEL\b/g, model), options: needed, result }));
}
