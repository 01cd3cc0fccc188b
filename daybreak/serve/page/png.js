// PNG files: from base64, and the settings in their text chunk (PNG specification, third edition, 11.3.3.4, iTXt).

export function fromBase64(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

/** The settings that the server put into a PNG, or null where there are none. */
export async function settingsInside(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const view = new DataView(bytes.buffer);
  const keyword = "parameters\0";
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "iTXt" && new TextDecoder("latin1").decode(data.subarray(0, keyword.length)) === keyword) {
      let start = keyword.length + 2; // compression flag and method
      for (let zeros = 0; zeros < 2; start++) if (data[start] === 0) zeros++; // language, translated keyword
      try {
        return JSON.parse(new TextDecoder().decode(data.subarray(start)));
      } catch {
        return null;
      }
    }
    at += 12 + length;
  }
  return null;
}
