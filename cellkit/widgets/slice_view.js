/** Planes of one image: asked for one at a time, the newest wish first, the last ones kept. */
function planeShelf(model, onarrival) {
  const kept = new Map();
  const KEEP = 48;
  let underway = null;
  let wish = null;
  const keyOf = ({ z, depth, roles, box, step }) => [z, depth, roles, box, step].join("|");
  const send = (request) => {
    underway = request;
    model.send({ op: "view", ...request, key: keyOf(request) });
  };
  return {
    get(request) {
      const key = keyOf(request);
      const found = kept.get(key);
      if (found) { kept.delete(key); kept.set(key, found); return found; }
      if (underway) wish = request;
      else send(request);
      return null;
    },
    /** Fetch what will probably be wanted next, if nothing else is. */
    expect(request) { if (!underway && !kept.has(keyOf(request))) send(request); },
    arrive(message, buffers) {
      kept.set(message.key, { ...message, pixels: buffers.map(words) });
      for (const key of [...kept.keys()].slice(0, Math.max(0, kept.size - KEEP))) kept.delete(key);
      underway = null;
      if (wish) { const next = wish; wish = null; if (!kept.has(keyOf(next))) send(next); }
      onarrival();
    },
    fail() { underway = wish = null; },
  };
}

/** Where the image lies on the screen: `scale` in screen pixels per µm, `middle` in µm. */
function camera() {
  const cam = { scale: 1, y: 0, x: 0, width: 1, height: 1 };
  return Object.assign(cam, {
    toScreen: (y, x) => [(y - cam.y) * cam.scale + cam.height / 2, (x - cam.x) * cam.scale + cam.width / 2],
    toImage: (top, left) => [(top - cam.height / 2) / cam.scale + cam.y, (left - cam.width / 2) / cam.scale + cam.x],
    fit(high, wide) {
      cam.scale = Math.min(cam.width / wide, cam.height / high);
      cam.y = high / 2;
      cam.x = wide / 2;
    },
    zoom(by, top = cam.height / 2, left = cam.width / 2) {
      const [y, x] = cam.toImage(top, left);
      cam.scale = Math.min(Math.max(cam.scale * by, 0.005), 60);
      cam.y = y - (top - cam.height / 2) / cam.scale;
      cam.x = x - (left - cam.width / 2) / cam.scale;
    },
    pan(down, right) { cam.y -= down / cam.scale; cam.x -= right / cam.scale; },
  });
}

/** A line in a colour over a dark casing, so that it is seen on any grey. */
function cased(context, color, width, path) {
  for (const [style, wide] of [["#000c", width + 2], [color, width]]) {
    context.strokeStyle = style;
    context.lineWidth = wide;
    context.beginPath();
    path();
    context.stroke();
  }
}

/** One candidate: a circle for a cell, a cross for an artefact, a square for what nobody called; a letter once labelled. */
function drawMark(context, { y, x, radius, kind, style, letter, selected }) {
  const r = Math.max(5, radius);
  cased(context, style, letter ? 2.2 : 1.4, () => {
    if (kind === "positive") context.arc(x, y, r, 0, 2 * Math.PI);
    else if (kind === "negative") {
      const d = r * 0.6;
      context.moveTo(x - d, y - d); context.lineTo(x + d, y + d);
      context.moveTo(x - d, y + d); context.lineTo(x + d, y - d);
    } else context.rect(x - r * 0.7, y - r * 0.7, r * 1.4, r * 1.4);
  });
  if (selected) cased(context, "#fff", 1.5, () => context.rect(x - r - 5, y - r - 5, 2 * r + 10, 2 * r + 10));
  if (letter) {
    context.fillStyle = style;
    context.fillRect(x + r * 0.6, y - r * 0.6 - 12, 13, 13);
    context.fillStyle = style === "#F0E442" ? "#000" : "#fff";
    context.font = "700 10px system-ui, sans-serif";
    context.textAlign = "center";
    context.fillText(letter, x + r * 0.6 + 6.5, y - r * 0.6 - 2);
  }
}

/** A bar of a round length in µm, near 120 screen pixels. */
function drawScaleBar(context, scale, height) {
  const near = 120 / scale;
  const power = 10 ** Math.floor(Math.log10(near));
  const length = [5, 2, 1].map((n) => n * power).find((n) => n <= near) ?? power;
  const text = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
  cased(context, "#fff", 3, () => { context.moveTo(14, height - 14); context.lineTo(14 + length * scale, height - 14); });
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "left";
  context.strokeStyle = "#000";
  context.lineWidth = 3;
  context.strokeText(text, 14, height - 22);
  context.fillStyle = "#fff";
  context.fillText(text, 14, height - 22);
}
