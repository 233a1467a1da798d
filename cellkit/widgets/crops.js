const PICTURES = 1600; // crops that are kept; others are asked for again when they come into view

/** The crops that came so far, and how they are drawn: pictures 0 plane, 1 projection, 2 (z, x), 3 (z, y). */
function cropShelf() {
  const pixels = new Map(); // row -> uint16 words
  const limits = [{ low: 0, high: 1.2 }, { low: 0, high: 1.2 }];
  let tables = [];
  const shelf = {
    crop: [1, 1, 1],
    limits,
    has: (row) => pixels.has(row),
    put(row, buffer) {
      pixels.delete(row);
      pixels.set(row, words(buffer));
      if (pixels.size > PICTURES) pixels.delete(pixels.keys().next().value);
    },
    refresh: () => (tables = limits.map(({ low, high }) => greys(low, high))),

    /** Paint one picture of a row on a canvas of its size; false if its pixels are not there yet. */
    draw(canvas, row, which, channel) {
      const [d, h, w] = shelf.crop;
      const sizes = [h * w, h * w, d * w, d * h];
      const sum = (part) => part.reduce((a, b) => a + b, 0);
      const offset = channel * sum(sizes) + sum(sizes.slice(0, which));
      const found = pixels.get(row)?.subarray(offset, offset + sizes[which]);
      if (found?.length) paint(canvas, found, tables[channel]);
      return pixels.has(row);
    },

    /** The plane or projection with the two side planes beside it, in physical proportions. */
    planes(row, { thick, channel, flat }) {
      const [d, h, w] = shelf.crop;
      const shown = [[thick ? 1 : 0, w, h, "ck-yx"], [3, d, h, "ck-zy"], [2, w, d, "ck-zx"]].slice(0, flat ? 1 : 3);
      const canvases = shown.map(([which, width, height, kind]) => {
        const canvas = make("canvas", { width, height, class: kind });
        if (which === 3) {
          const lying = make("canvas", { width: h, height: d });
          shelf.draw(lying, row, which, channel);
          const context = canvas.getContext("2d");
          context.transform(0, 1, 1, 0, 0, 0);
          context.drawImage(lying, 0, 0);
        } else shelf.draw(canvas, row, which, channel);
        return make("div", { class: `ck-aim ${kind}` }, canvas);
      });
      return make("div", { class: flat ? "ck-planes ck-flat" : "ck-planes" }, ...canvases);
    },
  };
  shelf.refresh();
  return shelf;
}
