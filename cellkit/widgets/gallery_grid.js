const GAP = 6;
const HEADING = 28;
const BEYOND = 300; // pixels above and below the visible part in which tiles are drawn too
const BORDER = 3; // of a tile, around its picture
const whenIdle = window.requestIdleCallback?.bind(window) ?? ((run) => setTimeout(run, 30));

/** Where every tile lies: rows in the order shown, under the headings of their groups. */
function gridLayout(groups, width, wish) {
  const columns = Math.max(1, Math.floor((width + GAP) / (wish + GAP)));
  const size = (width - GAP * (columns - 1)) / columns;
  const layout = { columns, size, order: [], tops: [], lefts: [], headings: [], height: 0 };
  let top = 0;
  for (const { name, rows } of groups) {
    if (name) layout.headings.push({ name: `${name} · ${rows.length}`, top });
    if (name) top += HEADING;
    rows.forEach((row, i) => {
      layout.order.push(row);
      layout.tops.push(top + Math.floor(i / columns) * (size + GAP));
      layout.lefts.push((i % columns) * (size + GAP));
    });
    top += Math.ceil(rows.length / columns) * (size + GAP);
  }
  return Object.assign(layout, { height: top, places: new Map(layout.order.map((row, place) => [row, place])) });
}

/** The first place whose tile begins at or below `y`; tops never fall. */
function firstBelow(tops, y) {
  let [low, high] = [0, tops.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tops[middle] < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A grid that holds any number of tiles and draws those in view; `tileOf(row)` makes one, `onview(rows)` hears which. */
function tileGrid(box, tileOf, onview) {
  const sheet = make("div", { class: "ck-sheet", role: "presentation" });
  const canvas = make("canvas", { class: "ck-pictures" }); // of all tiles that are drawn: to a browser every canvas is a layer
  let from = 0; // where it begins on the sheet
  box.append(sheet);
  let layout = gridLayout([], 1, 84);
  let [scrolled, high] = [0, 0]; // of the box, as last seen: to ask it after a change makes the browser lay out all at once
  let drawn = null; // the places that are drawn: first, stop
  let waiting = 0; // for a moment to draw what is not seen yet
  let anew = true; // the order has changed: every tile is put in again
  const tiles = new Map(); // of the rows that are drawn
  /** Let the canvas lie under the tiles from one place up to another; what it showed of them it shows again, or it is empty. */
  function spread(first, stop, again) {
    const ratio = window.devicePixelRatio || 1;
    const old = again && make("canvas", { width: canvas.width, height: canvas.height });
    if (old) old.getContext("2d").drawImage(canvas, 0, 0);
    const before = from;
    from = layout.tops[first] ?? 0;
    const high = stop > first ? layout.tops[stop - 1] + layout.size - from : 1;
    Object.assign(canvas, { width: Math.max(1, Math.round(grid.width * ratio)), height: Math.max(1, Math.round(high * ratio)) });
    Object.assign(canvas.style, { top: `${from}px`, width: `${canvas.width / ratio}px`, height: `${canvas.height / ratio}px` });
    if (old) canvas.getContext("2d").drawImage(old, 0, Math.round((before - from) * ratio));
  }
  const within = (beyond) => [firstBelow(layout.tops, scrolled - beyond - layout.size), firstBelow(layout.tops, scrolled + Math.max(high, 300) + beyond)];
  const grid = {
    tiles,
    width: 0, // for which the tiles were laid out
    get columns() { return layout.columns; },
    get order() { return layout.order; },
    place: (row) => layout.places.get(row) ?? 0,
    /** Forget the tiles; what is said in their place stays until the next time. */
    clear(said) {
      tiles.clear();
      box.querySelector(".ck-empty")?.remove();
      if (said) box.append(said);
    },
    arrange(groups, wish) {
      [grid.width, high] = [box.clientWidth, box.clientHeight];
      layout = gridLayout(groups, Math.max(1, grid.width - 10), wish);
      sheet.style.height = `${layout.height}px`;
      sheet.replaceChildren(canvas, ...layout.headings.map(({ name, top }) => make("div", { class: "ck-heading", style: `top:${top}px` }, name)));
      scrolled = box.scrollTop;
      drawn = null;
      anew = true;
      grid.drawNow();
    },
    /** The box was scrolled or has another height. */
    look() {
      [scrolled, high] = [box.scrollTop, box.clientHeight];
      grid.draw();
    },
    /** Draw the tiles in view and some beyond: at once where a visible one is missing, else when the browser has time. */
    draw() {
      const covered = (beyond) => { const [first, stop] = within(beyond); return drawn && drawn[0] <= first && stop <= drawn[1]; };
      if (covered(BEYOND / 2)) return;
      if (!covered(0)) grid.drawNow();
      else waiting ||= whenIdle(() => { waiting = 0; grid.drawNow(); });
    },
    drawNow() {
      const { tops, size, order } = layout;
      const again = drawn !== null;
      const [first, stop] = drawn = within(BEYOND);
      const rows = order.slice(first, stop);
      const kept = new Set(rows);
      for (const [row, tile] of tiles) if (!kept.has(row) && tiles.delete(row)) tile.remove();
      const news = [];
      let after = null; // tiles stand in the order shown; only those that come into view are put in
      for (let i = rows.length - 1; i >= 0; i -= 1) {
        const fresh = !tiles.has(rows[i]);
        if (fresh) tiles.set(rows[i], tileOf(rows[i]));
        if (fresh || !again) news.push(rows[i]);
        const tile = tiles.get(rows[i]);
        const place = `${layout.lefts[first + i]}px ${tops[first + i]}px ${size}px`;
        if (tile.place !== place) {
          tile.place = place;
          Object.assign(tile.style, { left: `${layout.lefts[first + i]}px`, top: `${tops[first + i]}px`, width: `${size}px`, height: `${size}px` });
        }
        if (fresh || anew) sheet.insertBefore(tile, after);
        after = tile;
      }
      anew = false;
      spread(first, stop, again);
      onview(news);
    },
    /** Show the picture of a row that is drawn, a canvas, or nothing yet. */
    picture(row, source) {
      const [place, ratio] = [grid.place(row), window.devicePixelRatio || 1];
      const side = (layout.size - 2 * BORDER) * ratio;
      const [left, top] = [(layout.lefts[place] + BORDER) * ratio, (layout.tops[place] - from + BORDER) * ratio];
      const context = canvas.getContext("2d");
      if (source) context.drawImage(source, left, top, side, side);
      else context.clearRect(left, top, side, side);
    },
    /** The rows that are drawn: those in view first, then those below and above. */
    nearest() {
      const seen = firstBelow(layout.tops, scrolled - layout.size);
      const at = (row) => grid.place(row) - seen;
      return [...tiles.keys()].sort((a, b) => (at(a) < 0) - (at(b) < 0) || Math.abs(at(a)) - Math.abs(at(b)));
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
      grid.draw();
    },
  };
  return grid;
}

/** Show on a tile its answer, and whether it is chosen and looked at; nothing is touched that is as it was. */
function dressTile(tile, { row, answer, style, chosen, here }) {
  const look = `${answer} ${chosen} ${here}`;
  if (tile.look === look) return;
  tile.look = look;
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
