const NEAR_PIXELS = 30; // that a cell is wide at least where a queue begins
const STILL_MS = 150; // without another plane, after which the picture becomes sharp

/** What a person does in the slice browser: `actions` by key and button, `hands` by pointer. */
function sliceActions({ model, root, now, cam, points, queue, limits, say, fail, arrange, describe, locate, draw }) {
  const clamp = (value, n) => Math.min(Math.max(Math.round(value), 0), n - 1);
  const sizeOf = (axis) => now.data.voxel_um[axis];
  const um = (voxels) => [0, 1, 2].map((axis) => (voxels[axis] + 0.5) * sizeOf(axis)); // a voxel's centre lies at a whole number
  const voxel = (axis, length) => length / sizeOf(axis) - 0.5;

  function show() {
    describe();
    draw();
  }

  /** Bring a place into every picture that does not show it. */
  function reveal(place, margin = 0) {
    for (const pane of now.panes) {
      const [y, x] = pane.place(cam, place);
      const [high, wide] = [y < margin || y > pane.height - margin, x < margin || x > pane.width - margin];
      if (high) cam.at[pane.down] = place[pane.down];
      if (wide) cam.at[pane.across] = place[pane.across];
      if (margin && (high || wide)) cam.keepInside(pane, now.data.shape.map((n, axis) => n * sizeOf(axis)));
    }
  }

  function move(axis, to) {
    const next = clamp(to, now.data.shape[axis]);
    if (next === now.at[axis]) return;
    if (axis === 0) now.heading = Math.sign(next - now.at[0]);
    now.at = now.at.map((old, each) => (each === axis ? next : old));
    if (now.layout === "three") reveal(um(now.at));
    pass();
    locate();
    draw();
  }

  /** Planes that follow each other quickly are shown roughly, the one where it ends sharply. */
  function pass() {
    now.passing = now.still !== 0;
    clearTimeout(now.still);
    now.still = setTimeout(() => { Object.assign(now, { still: 0, passing: false }); draw(); }, STILL_MS);
  }

  /** After an answer that could not be saved a person goes on by closing the reason, never unaware of it. */
  function halted() {
    const opening = queue.waiting || (now.data.queued && !queue.n);
    if (opening) say("The image is being opened");
    else if (root.dataset.unsaved === "1") say("Not saved: close the message to go on");
    return opening || root.dataset.unsaved === "1";
  }

  function tell(message) {
    if (halted()) return;
    if (now.data.judges) return fail(`${now.data.name} judges: its labels come from the audit only.`);
    now.saved = post(model, message) ? "saving" : "failed";
    if (ABOUT_LABELS.has(message.op)) now.pending += 1;
    if (now.saved === "failed") fail("Not saved: the kernel is gone. Run the cell again; what was saved is still there.", true);
    show();
  }

  /** Label a point: drawn at once, and as it is on disk when Python has answered. In a queue the next one follows. */
  function label(index, answer) {
    if (halted()) return;
    const [row, code] = [queue.rowOf.get(index), points.answers.indexOf(answer)];
    if (!now.data.judges) points.change({ rows: [index], codes: [code], n: 0 });
    tell({ op: "label", index, row, answer });
    if (row === undefined || now.data.judges) return;
    queue.told[row] = code;
    queue.at = row;
    if (answer) lead(1);
  }

  /** Go to the next open row of the queue, or the one before. */
  function lead(by) {
    const row = queue.next(by, now.data.ordered);
    if (row !== null) return visit(row);
    say(`All ${queue.n} are answered`);
    show();
  }

  /** Select a row of the queue; one of another image is opened by Python. */
  function visit(row) {
    if (queue.points[row] >= 0) {
      queue.at = row;
      return select(queue.points[row]);
    }
    Object.assign(now, { selected: null });
    queue.waiting = post(model, { op: "go", row });
    show();
  }

  /** Stand at a row when its image is opened: near enough to see a cell. */
  function enter() {
    const point = queue.points[queue.at];
    if (point === undefined || point < 0 || queue.frame !== now.frame) return;
    cam.scale = Math.max(cam.scale, NEAR_PIXELS / now.data.diameter_um);
    cam.at = [um(points.at(point))[0], -Infinity, -Infinity]; // so that it is brought into view
    select(point);
  }

  function select(index) {
    now.selected = index;
    now.at = [...points.at(index)].map((v, axis) => clamp(v, now.data.shape[axis]));
    reveal(um(points.at(index)), 30);
    show();
  }

  const actions = {
    move,
    go: (by) => move(0, now.at[0] + by),
    end: (by) => move(0, by > 0 ? now.data.shape[0] - 1 : 0),
    frame: (by) => actions.frameTo(now.frame + by),
    frameTo(to) {
      const next = clamp(to, now.data.frames);
      if (next === now.frame) return;
      Object.assign(now, { frame: next, selected: null });
      post(model, { op: "frame", frame: next });
      show();
    },
    tool(name) { now.tool = name; now.corners = []; show(); },
    /** Label the selected candidate; without one, let every click label so. */
    answer(answer) {
      if (halted()) return;
      if (now.selected !== null) label(now.selected, answer);
      else if (answer) actions.tool(answer);
    },
    layout(name) {
      if (name === "side" && !now.data.roles.includes("background")) return;
      now.layout = now.layout === name || (name === "three" && now.data.shape[0] === 1) ? "one" : name;
      arrange();
    },
    channel(name) { now.shown = now.shown === name ? "signal" : now.data.roles.includes("background") ? name : now.shown; show(); },
    thicker(by) { now.depth = clamp(now.depth + by - 1, now.data.shape[0]) + 1; show(); },
    automatic() { for (const each of Object.values(limits)) Object.assign(each, { low: 0, high: 1.2 }); show(); },
    /** Zoom, and keep the selected place or the crosshair where it is. */
    zoom(by) {
      const [pane] = now.panes;
      const kept = now.selected !== null ? um(points.at(now.selected)) : now.layout === "three" ? um(now.at) : null;
      const [top, left] = kept ? pane.place(cam, kept) : [-1, -1];
      const seen = top >= 0 && left >= 0 && top <= pane.height && left <= pane.width;
      cam.zoom(by, pane, ...(seen ? [top, left] : []));
      if (seen) reveal(kept);
      draw();
    },
    pan: (down, right) => { cam.pan(now.panes[0], down, right); draw(); },
    fit() {
      const [pane] = now.panes;
      const ends = now.data.box ?? now.data.shape.map((n) => [0, n]);
      const sides = ends.map(([first, stop], axis) => (stop - first) * sizeOf(axis) * (now.data.box ? 1.3 : 1));
      cam.scale = Math.min(pane.width / sides[pane.across], pane.height / sides[pane.down]);
      cam.at = ends.map(([first, stop], axis) => ((first + stop) / 2) * sizeOf(axis));
      root.dataset.fitted = pane.width > 1 ? "1" : "0";
      draw();
    },
    enter, visit,
    before: () => queue.n && lead(-1),
    next() {
      if (queue.n) return lead(1);
      const found = points.next(now.selected === null ? now.at : points.at(now.selected), now.data.voxel_um);
      if (found === null) say("All that are shown are labelled");
      else select(found);
    },
    /** Open what is in view in the gallery: the selected first, then the nearest without a label. */
    gallery() {
      const middle = now.selected === null ? null : points.at(now.selected);
      const away = (i) => (middle ? [0, 1, 2].reduce((sum, axis) => sum + ((points.at(i)[axis] - middle[axis]) * sizeOf(axis)) ** 2, 0) : i);
      const rows = inView().filter((i) => i === now.selected || !points.answer[i]).sort((a, b) => away(a) - away(b)).slice(0, 40);
      if (rows.length) post(model, { op: "gallery", rows });
      else say("No candidate without a label is in view");
    },
    close() {
      const outline = now.corners.map(([y, x]) => [voxel(1, y), voxel(2, x)]);
      if (now.tool !== "outline" || outline.length < 3) return;
      now.corners = [];
      const sides = [0, 1].map((i) => outline.map((corner) => corner[i])).map((side) => [Math.min(...side), Math.max(...side)]);
      tell({ op: "region", box: [depths(), ...sides], outline });
    },
    done: () => now.data.box && tell({ op: "done" }),
    box: (by) => now.data.box && post(model, { op: "box", by }),
    undo: () => tell({ op: "undo" }),
    redo: () => tell({ op: "redo" }),
    help: () => help(root, sliceHelp(now.data), keyChoices(now.data, model)),
    leave() {
      if (root.dataset.failed === "1") return fail("");
      if (now.corners.length) now.corners = [];
      else if (now.selected !== null) now.selected = null;
      else if (now.tool !== "look") now.tool = "look";
      else return root.blur();
      show();
    },
  };

  /** The planes that a region reaches through: those shown, and half a cell on either side. */
  function depths() {
    const thick = now.data.diameter_um / 2 / sizeOf(0);
    const [first, stop] = planesOf(now.data, 0, now.at, now.depth);
    return [first - thick, stop - 1 + thick];
  }

  /** How far a point lies from the planes of a picture, in cell radii: 0 inside, beyond 1 not to be seen. */
  function away(pane, i, [first, stop]) {
    const at = points.zyx[3 * i + pane.along];
    const beyond = Math.max(first - 0.5 - at, at - (stop - 0.5), 0); // a plane is as thick as its voxels
    return (beyond * sizeOf(pane.along)) / (now.data.diameter_um / 2);
  }

  function inView(pane = now.panes[0]) {
    const planes = planesOf(now.data, pane.along, now.at, now.depth);
    const seen = [];
    for (let i = 0; i < points.n; i += 1) {
      if (!points.mask[i] || away(pane, i, planes) > 1) continue;
      const [y, x] = pane.place(cam, um(points.at(i)));
      if (y >= 0 && x >= 0 && y <= pane.height && x <= pane.width) seen.push(i);
    }
    return seen;
  }

  const hands = {
    um, away,
    ready: () => now.data !== null,
    roles: () => (now.shown === "overlay" ? ["signal", "background"] : [now.shown]),
    tool: () => now.tool,
    pan: (pane, down, right) => { cam.pan(pane, down, right); draw(); },
    zoom: (by, pane, top, left) => { cam.zoom(by, pane, top, left); draw(); },
    go: (by, axis) => move(axis, now.at[axis] + by),
    contrast({ down, right }) {
      const each = limits[now.shown === "background" ? "background" : "signal"];
      each.high = Math.min(Math.max(each.high + down / 150, each.low + 0.05), 3.5);
      each.low = Math.min(Math.max(each.low + right / 150, -0.5), each.high - 0.05);
      show();
    },
    box(pane, { left, top, width, height }) {
      const [y0, x0] = pane.where(cam, top, left);
      const [y1, x1] = pane.where(cam, top + height, left + width);
      tell({ op: "region", box: [depths(), [voxel(1, y0), voxel(1, y1)], [voxel(2, x0), voxel(2, x1)]] });
    },
    open: () => now.tool === "look" && now.selected !== null && actions.gallery(),
    corner(pane, at, clicked = false) {
      const [first] = now.corners.map(([y, x]) => pane.place(cam, [0, y, x]));
      if (clicked && now.corners.length > 2 && Math.hypot(first[0] - at.y, first[1] - at.x) < 10) return actions.close();
      now.corners.push(pane.where(cam, at.y, at.x));
      draw();
    },
    close: () => actions.close(),
    click(pane, at) {
      const far = (i) => { const [y, x] = pane.place(cam, um(points.at(i))); return Math.hypot(y - at.y, x - at.x); };
      const [nearest] = inView(pane).sort((a, b) => far(a) - far(b));
      const hit = nearest !== undefined && far(nearest) < Math.max(12, (now.data.diameter_um / 2) * cam.scale) ? nearest : null;
      const place = [...now.at];
      const [down, across] = pane.where(cam, at.y, at.x);
      [place[pane.down], place[pane.across]] = [voxel(pane.down, down), voxel(pane.across, across)];
      if (now.tool === "missed") return tell({ op: "missed", z: place[0], y: place[1], x: place[2] });
      if (now.layout === "three") now.at = place.map((v, axis) => clamp(v, now.data.shape[axis]));
      if (["look", "rectangle", "outline"].includes(now.tool) || hit === null) now.selected = hit;
      else return label(hit, now.tool);
      show();
    },
  };
  return { actions, hands };
}

/** What is known of the selected point. */
function aboutPoint({ judges, box, classes, styles }, points, selected) {
  if (selected === null || selected >= points.n) return [box ? `Click every ${classes[0]} whose centre lies in the box, in all its planes.` : judges ? "" : "Click a candidate to select it, then a key to label it."];
  const [z, y, x] = points.at(selected);
  const told = points.told(selected);
  return [
    make("div", { class: "ck-answer" }, styles[told] && make("span", { class: "ck-badge", style: `--ck-answer:${styles[told].color}` }, styles[told].letter), told || "open"),
    make("div", {}, `z ${z.toFixed(1)}  y ${y.toFixed(1)}  x ${x.toFixed(1)} voxels`),
    points.call[selected] < 2 && make("div", {}, `p ${points.p[selected].toFixed(2)}, called ${classes[points.call[selected] === 1 ? 0 : 1]}`),
  ].filter(Boolean);
}
