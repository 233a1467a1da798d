const GAP = 6; // as in the style of a line of tiles
const HEADING = 28;
const BEYOND = 200; // pixels above and below the visible part in which tiles are made too, when there is time
const STRIPE = 240; // pixels of the sheet, about, whose pictures share a canvas
const SPARE_MS = 5; // that such a moment must last for one line of tiles
const BORDER = 3; // of a tile, around its picture
const whenIdle = window.requestIdleCallback?.bind(window) ?? ((run) => setTimeout(run, 30));

/** Where every tile lies: rows in the order shown, in lines of tiles, under the headings of their groups. */
function gridLayout(groups, width, wish) {
  const columns = Math.max(1, Math.floor((width + GAP) / (wish + GAP)));
  const size = Math.floor((width - GAP * (columns - 1)) / columns); // whole pixels: tiles and canvases are rounded alike
  const layout = { columns, size, order: [], places: new Map(), tops: [], lefts: [], numbers: [], lines: [], starts: [], headings: [], height: 0, striped: Math.ceil(STRIPE / (size + GAP)) };
  let top = 0;
  for (const { name, rows } of groups) {
    if (name) layout.headings.push({ name: `${name} · ${rows.length}`, top });
    if (name) top += HEADING;
    for (let i = 0; i < rows.length; i += columns) {
      const line = rows.slice(i, i + columns);
      line.forEach((row, column) => {
        layout.places.set(row, layout.order.length);
        layout.order.push(row);
        layout.tops.push(top);
        layout.lefts.push(column * (size + GAP));
        layout.numbers.push(layout.lines.length);
      });
      layout.lines.push(line);
      layout.starts.push(top);
      top += size + GAP;
    }
  }
  return Object.assign(layout, { height: top });
}

/** The first place whose top is at or below `y`; tops never fall. */
function firstBelow(tops, y) {
  let [low, high] = [0, tops.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tops[middle] < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

const span = (first, stop) => Array.from({ length: Math.max(0, stop - first) }, (_, i) => first + i);

/** A grid that holds any number of tiles and draws those in view; `tileOf(row)` makes one, `onview(rows)` hears which. */
function tileGrid(box, tileOf, onview) {
  const sheet = make("div", { class: "ck-sheet", role: "presentation" });
  box.append(sheet);
  let layout = gridLayout([], 1, 84);
  let [scrolled, high] = [0, 0]; // of the box, as last seen: to ask it after a change makes the browser lay out all at once
  let [looking, waiting] = [0, 0]; // for the next frame, for a moment to make tiles that are not seen yet
  const stripes = new Map(); // number -> canvas under the tiles of some lines: one a tile would be a layer each, one for all is slow to roll on
  const lines = new Map(); // that are drawn: number -> element
  const tiles = new Map(); // of the rows that are drawn
  const stripeOf = (n) => Math.floor(n / layout.striped);

  function put(n) {
    if (!stripes.has(stripeOf(n))) unroll(stripeOf(n));
    const rows = layout.lines[n];
    for (const row of rows) tiles.set(row, tileOf(row));
    const line = make("div", { class: "ck-line", role: "row", style: `top:${layout.starts[n]}px` }, ...rows.map((row) => tiles.get(row)));
    const after = Math.min(...[...lines.keys()].filter((other) => other > n)); // lines stand in the order shown
    sheet.insertBefore(line, lines.get(after) ?? null);
    lines.set(n, line);
  }

  /** The canvas of a stripe, from the top of its first line to the bottom of its last. */
  function unroll(stripe) {
    const [top, last] = [layout.starts[stripe * layout.striped], Math.min((stripe + 1) * layout.striped, layout.lines.length) - 1];
    const ratio = window.devicePixelRatio || 1;
    const [wide, tall] = [layout.columns * (layout.size + GAP), layout.starts[last] + layout.size - top].map((side) => Math.max(1, Math.round(side * ratio)));
    const canvas = make("canvas", { class: "ck-pictures", width: wide, height: tall, style: `top:${top}px;width:${wide / ratio}px;height:${tall / ratio}px` });
    stripes.set(stripe, Object.assign(canvas, { top, ratio }));
    sheet.prepend(canvas);
  }

  /** Take away the stripes that are far from the view, with their tiles. */
  function rollUp() {
    const [first, stop] = within(2 * BEYOND).map(stripeOf);
    for (const [stripe, canvas] of stripes) {
      if (stripe >= first && stripe <= stop) continue;
      stripes.delete(stripe);
      canvas.remove();
      for (const n of span(stripe * layout.striped, (stripe + 1) * layout.striped)) {
        layout.lines[n]?.forEach((row) => tiles.delete(row));
        lines.get(n)?.remove();
        lines.delete(n);
      }
    }
  }

  const within = (beyond) => [firstBelow(layout.starts, scrolled - beyond - layout.size), firstBelow(layout.starts, scrolled + Math.max(high, 300) + beyond)];

  /** Make the lines in view that are missing, and some of those beyond; the others when the browser has time. */
  function fill(more) {
    const [[seen, unseen], [first, stop]] = [within(0), within(BEYOND)];
    if (seen >= unseen) return;
    const missing = (n) => !lines.has(n);
    const now = span(seen, unseen).filter(missing);
    const soon = [...span(unseen, stop), ...span(first, seen).reverse()].filter(missing);
    const news = [...now, ...soon.slice(0, more)];
    if (soon.length > more) waiting ||= whenIdle((moment) => { waiting = 0; fill(moment?.timeRemaining() < SPARE_MS ? 0 : 1); });
    if (!news.length) return;
    news.forEach(put);
    rollUp();
    onview(news.flatMap((n) => layout.lines[n]));
  }

  const grid = {
    tiles,
    width: 0, // for which the tiles were laid out
    get columns() { return layout.columns; },
    get order() { return layout.order; },
    place: (row) => layout.places.get(row) ?? 0,
    /** What is said in the place of tiles stays until the next time. */
    clear(said) {
      box.querySelector(".ck-empty")?.remove();
      if (said) box.append(said);
    },
    arrange(groups, wish) {
      [grid.width, high] = [box.clientWidth, box.clientHeight];
      layout = gridLayout(groups, Math.max(1, grid.width - 10), wish);
      sheet.style.height = `${layout.height}px`;
      sheet.style.setProperty("--ck-side", `${layout.size}px`);
      sheet.replaceChildren(...layout.headings.map(({ name, top }) => make("div", { class: "ck-heading", style: `top:${top}px` }, name)));
      [stripes, lines, tiles].forEach((drawn) => drawn.clear());
      scrolled = box.scrollTop;
      fill(0);
    },
    /** The box was scrolled or has another height. */
    look() {
      [scrolled, high] = [box.scrollTop, box.clientHeight];
      looking ||= requestAnimationFrame(() => { looking = 0; fill(0); }); // after all that is asked of the page in this frame
    },
    /** Show the picture of a row that is drawn, a canvas, or that there is none yet. */
    picture(row, source) {
      const place = grid.place(row);
      const canvas = stripes.get(stripeOf(layout.numbers[place]));
      const [left, top, side] = [layout.lefts[place] + BORDER, layout.tops[place] - canvas.top + BORDER, layout.size - 2 * BORDER].map((at) => at * canvas.ratio);
      const context = canvas.getContext("2d");
      tiles.get(row).bare = !source; // no class: a change of style would cost the frame
      if (source) context.drawImage(source, left, top, side, side);
      else Object.assign(context, { fillStyle: "#222" }).fillRect(left, top, side, side);
    },
    /** The rows in view, those that come next when the box is scrolled (four pages down, one up), and whether these end the order. */
    nearest() {
      const place = (y) => firstBelow(layout.tops, y);
      const [seen, unseen] = [place(scrolled - layout.size), place(scrolled + high)];
      const [first, stop] = [place(scrolled - high), place(scrolled + 5 * high)];
      return [layout.order.slice(seen, unseen), [...layout.order.slice(unseen, stop), ...layout.order.slice(first, seen).reverse()], stop === layout.order.length];
    },
    /** The rows whose tiles touch a rectangle of the box. */
    touched({ left, top, width, height }) {
      const { tops, lefts, size, order } = layout;
      const found = [];
      const edge = 5; // of the box's padding
      for (let i = firstBelow(tops, top - edge - size); i < order.length && tops[i] < top - edge + height; i += 1) {
        if (lefts[i] < left - edge + width && lefts[i] + size > left - edge) found.push(order[i]);
      }
      return found;
    },
    reveal(row) {
      const top = layout.tops[grid.place(row)] ?? 0;
      const below = top + layout.size + 12 - high;
      const to = below > scrolled ? below : top < scrolled ? Math.max(0, top - HEADING) : scrolled;
      if (to !== scrolled) scrolled = box.scrollTop = to;
      fill(0);
    },
  };
  return grid;
}

/** Show on a tile its answer, and whether it is chosen and looked at; nothing is touched that is as it was. */
function dressTile(tile, { row, answer, style, chosen, here }) {
  if (tile.answer === answer && tile.chosen === chosen && tile.here === here) return;
  Object.assign(tile, { answer, chosen, here });
  tile.classList.toggle("ck-chosen", chosen);
  tile.classList.toggle("ck-cursor", here);
  tile.dataset.answer = answer;
  tile.style.setProperty("--ck-answer", style?.color ?? "transparent");
  tile.lastChild.textContent = style?.letter ?? "";
  tile.setAttribute("aria-selected", chosen);
  tile.setAttribute("aria-label", `candidate ${row + 1}, ${answer || "open"}`);
}

/** The fifth of the probabilities in which one lies. */
function band(p) {
  const fifth = Math.min(4, Math.floor(5 * p));
  return p == null ? "not called" : `p ${(fifth / 5).toFixed(1)} to ${((fifth + 1) / 5).toFixed(1)}`;
}

const ORDERS = { "as drawn": null, "p, highest first": (row) => -row.p, "p, lowest first": (row) => row.p, "least sure first": (row) => Math.abs(row.p - 0.5) };

/** The rows in the order and the groups that a person wants; both stay as they are while labels change. */
function groupRows({ rows, classes, styles }, answers, { order, group }) {
  const by = ORDERS[order];
  const sorted = rows.map((_, row) => row);
  if (by) sorted.sort((a, b) => by(rows[a]) - by(rows[b]) || a - b);
  const name = {
    none: () => "", image: (row) => rows[row].image, category: (row) => rows[row].category || "no category",
    called: (row) => (rows[row].p == null ? "not called" : `called ${classes[rows[row].called ? 0 : 1]}`),
    answer: (row) => answers[row] || "open", p: (row) => band(rows[row].p), region: (row) => rows[row].region || "no region",
  }[group];
  const named = { answer: ["open", ...Object.keys(styles)], p: [0.95, 0.75, 0.55, 0.35, 0.15].map(band) }[group] ?? [];
  const groups = new Map(named.map((title) => [title, []]));
  for (const row of sorted) {
    if (!groups.has(name(row))) groups.set(name(row), []);
    groups.get(name(row)).push(row);
  }
  return [...groups].filter(([, found]) => found.length).map(([title, found]) => ({ name: title, rows: found }));
}

/** Which ways to order and group make sense for these rows. */
function orderChoices({ rows, blind, ordered }) {
  if (blind || ordered) return { orders: ["as drawn"], groups: ["none"] };
  const called = rows.some((row) => row.p != null);
  const many = (name) => new Set(rows.map((row) => row[name] ?? "")).size > 1;
  return {
    orders: called ? Object.keys(ORDERS) : ["as drawn"],
    groups: ["none", "answer", called && "called", called && "p", many("region") && "region", many("image") && "image", many("category") && "category"].filter(Boolean),
  };
}
