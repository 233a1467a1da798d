const PICTURES = 6000; // parts of crops that are kept, a few kB each; others are asked for again when they come into view
const CHUNK = 32; // few enough that an answer does not wait long behind them
const WAITING = 2; // messages that are under way at once

/** The parts of crops that came so far ("plane", "projection", "sides"), what is asked for, and how they are drawn. */
function cropShelf(model, onarrival) {
  const pixels = new Map(); // part and row -> uint16 words
  const asked = new Set(); // of which the answer is under way, or an error came
  const limits = [{ low: 0, high: 1.2 }, { low: 0, high: 1.2 }];
  const scratch = make("canvas");
  let tables = [];
  let underway = 0;
  const keyOf = (row, part) => `${part} ${row}`;
  const shelf = {
    crop: [1, 1, 1],
    limits,
    has: (row, part) => pixels.has(keyOf(row, part)),
    refresh: () => (tables = limits.map(({ low, high }) => greys(low, high))),

    /** Begin anew: a message that was under way when the kernel went will not be answered. */
    open(crop) {
      shelf.crop = crop;
      underway = 0;
      asked.clear();
    },

    /** Ask for what is not there yet: wishes `[part, rows, least]`, the first wish first; fewer than `least` can wait. */
    ask(wishes) {
      for (const [part, rows, least = 1] of wishes) {
        if (underway >= WAITING) return;
        const fresh = [...new Set(rows)].filter((row) => !pixels.has(keyOf(row, part)) && !asked.has(keyOf(row, part))).slice(0, CHUNK);
        if (fresh.length < least) continue;
        fresh.forEach((row) => asked.add(keyOf(row, part)));
        underway += 1;
        if (!post(model, { op: "crops", rows: fresh, part })) return;
      }
    },

    arrive({ rows, part }, buffers) {
      underway -= 1;
      rows.forEach((row, i) => {
        const key = keyOf(row, part);
        asked.delete(key);
        pixels.delete(key);
        pixels.set(key, words(buffers[i]));
        if (pixels.size > PICTURES) pixels.delete(pixels.keys().next().value);
      });
      onarrival(rows, part);
    },
    failed: () => (underway -= 1),

    /** Paint a picture of a part on a canvas of its size, from `offset` of its words on; false if it is not there yet. */
    draw(canvas, row, part, channel, offset = 0) {
      const [d, h, w] = shelf.crop;
      const whole = part === "sides" ? d * w + d * h : h * w;
      const from = channel * whole + offset;
      const found = pixels.get(keyOf(row, part))?.subarray(from, from + canvas.width * canvas.height);
      if (found?.length) paint(canvas, found, tables[channel]);
      return Boolean(found);
    },

    /** A canvas with a picture of a row, until the next is asked for; null if it is not there yet. */
    picture(row, part, channel) {
      const [, height, width] = shelf.crop;
      if (scratch.width !== width || scratch.height !== height) Object.assign(scratch, { width, height });
      return shelf.draw(scratch, row, part, channel) ? scratch : null;
    },

    /** Paint the plane or projection, and the side planes beside it, on the canvases of a `planesBox`. */
    planes(canvases, row, { thick, channel }) {
      const [d, h, w] = shelf.crop;
      for (const [kind, canvas] of Object.entries(canvases)) {
        const context = canvas.getContext("2d");
        if (kind === "ck-zy") {
          const lying = make("canvas", { width: h, height: d });
          shelf.draw(lying, row, "sides", channel, d * w);
          context.setTransform(0, 1, 1, 0, 0, 0);
          context.clearRect(0, 0, h, d);
          context.drawImage(lying, 0, 0);
        } else if (!shelf.draw(canvas, row, kind === "ck-zx" ? "sides" : thick ? "projection" : "plane", channel)) {
          context.clearRect(0, 0, canvas.width, canvas.height);
        }
      }
    },
  };
  shelf.refresh();
  return shelf;
}

/** The plane or projection of a candidate with the two side planes beside it, in physical proportions. */
function planesBox([d, h, w], flat) {
  const canvases = Object.fromEntries([["ck-yx", w, h], ["ck-zy", d, h], ["ck-zx", w, d]].slice(0, flat ? 1 : 3).map(([kind, width, height]) => [kind, make("canvas", { width, height })]));
  const aims = Object.entries(canvases).map(([kind, canvas]) => make("div", { class: `ck-aim ${kind}` }, canvas));
  return { canvases, node: make("div", { class: flat ? "ck-planes ck-flat" : "ck-planes" }, ...aims) };
}

/** The candidate that is looked at: its pictures, of one channel or two, and what is known of it. */
function closeLook(shelf, side) {
  const about = make("div", { class: "ck-about" });
  let boxes = []; // kept from one candidate to the next
  return {
    clear() { boxes = []; side.replaceChildren(); },
    show(row, { channels, thick, flat, facts }) {
      if (boxes.length !== channels.length) {
        boxes = channels.map(() => planesBox(shelf.crop, flat));
        side.replaceChildren(make("div", { class: "ck-looks" }, ...boxes.map(({ node }) => node)), about);
      }
      channels.forEach((channel, i) => shelf.planes(boxes[i].canvases, row, { thick, channel }));
      about.replaceChildren(...facts);
    },
  };
}
