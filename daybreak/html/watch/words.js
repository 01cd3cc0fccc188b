// Where each word is looked at: the picture, grey and dim, and over it a map of patches in the colours of fire.
const FIRE = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

function fire(share) {
  const at = Math.min(share, 0.9999) * (FIRE.length - 1);
  const [low, part] = [Math.floor(at), at % 1];
  return FIRE[low].map((c, i) => c + part * (FIRE[low + 1][i] - c));
}

function heatMap(word) {
  const bytes = Uint8Array.from(atob(word.map), (c) => c.charCodeAt(0));
  const canvas = h("canvas", { width: word.columns, height: bytes.length / word.columns });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  bytes.forEach((heat, i) => pixels.data.set([...fire(heat / 255), heat], 4 * i));
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function wordsOf(run, rows) {
  return rows.map((row) =>
    h("article.looked", {},
      h("p.caption", {}, row.prompt),
      h("ul.words", {},
        h("li", {}, h("div.tile", {}, picture(run, row.file, row.prompt, { onload: keepPixels }))),
        row.words.map((word) =>
          h("li", {},
            h("div.tile.lit", {}, picture(run, row.file, ""), heatMap(word)),
            h("p", {}, h("b", {}, word.word), h("span.soft", {}, ` ${percent(word.share)}`)))))));
}

function noiseOf(run, rows) {
  return rows.map((row) =>
    h("article.looked", {},
      h("p.caption", {}, row.title),
      h("ul.words.wide", {}, row.pictures.map((p) =>
        h("li", {}, h("div.tile", {}, picture(run, p.file, p.label, { onload: keepPixels })), h("p.soft", {}, p.label))))));
}

function guidanceOf(run, guidance) {
  return h("ul.grid", {}, guidance.pairs.map((pair) =>
    h("li", {},
      h("div.pair", {}, [pair.file, pair.other].map((file, i) =>
        h("figure", {}, h("div.tile", {}, picture(run, file, `${pair.prompt}, ${guidance.names[i]}`, { onload: keepPixels })),
          h("figcaption.soft", {}, guidance.names[i])))),
      h("p.caption", {}, pair.prompt))));
}
