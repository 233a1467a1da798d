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

/** The crosshair of linked planes, open in the middle so that it hides nothing. */
function drawCross(context, y, x, height, width) {
  cased(context, "#56b4e9", 1, () => {
    for (const [x0, y0, x1, y1] of [[0, y, x - 14, y], [x + 14, y, width, y], [x, 0, x, y - 14], [x, y + 14, x, height]]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
  });
}

/** What a person outlines, while it is drawn. */
function drawOutline(context, corners) {
  if (!corners.length) return;
  cased(context, "#e69f00", 2, () => {
    corners.forEach(([y, x], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (corners.length > 2) context.closePath();
  });
  const [y, x] = corners[0];
  cased(context, "#e69f00", 2, () => context.arc(x, y, 5, 0, 2 * Math.PI));
}

/** A box to be marked whole; dashed in planes that do not go through it. */
function drawBox(context, [top, left], [bottom, right], inside) {
  context.setLineDash(inside ? [] : [4, 6]);
  cased(context, "#e69f00", 2, () => context.rect(left, top, right - left, bottom - top));
  context.setLineDash([]);
}
