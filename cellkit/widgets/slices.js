const MOST = 1024; // a plane is fetched whole up to so many pixels of its longer side, else what is on the screen

function render({ model, el, signal }) {
  const { root, fail, say } = screen("slices", "Slice browser");
  const title = make("div", { class: "ck-head" });
  const tools = make("div", { class: "ck-tools" });
  const picture = make("canvas", {});
  const marks = make("canvas", { class: "ck-marks" });
  const stage = make("div", { class: "ck-stage" }, picture, marks);
  const height = slider("plane", { min: 0, max: 0, step: 1, value: 0, onmove: (z) => go(z) });
  const legend = make("div", { class: "ck-legend" });
  const about = make("div", { class: "ck-about" });
  const channels = make("div", { class: "ck-viewing" });
  const side = make("div", { class: "ck-side" }, legend, channels, about);
  root.append(title, tools, make("div", { class: "ck-body" }, make("div", { class: "ck-left" }, stage, height.node), side));
  el.replaceChildren(root);

  let data = null; // what Python sent: name, shape, voxel_um, diameter_um, roles, classes, styles, judges
  let points = [];
  let z = 0;
  let depth = 1;
  let shown = "signal";
  let toolName = "look";
  let selected = null;
  let saved = "saved";
  let heading = 1;
  let last = null; // the part that was painted last
  let stopKeys = null;
  const hidden = new Set();
  const cam = camera();
  const limits = { signal: { low: 0, high: 1.2 }, background: { low: 0, high: 1.2 } };
  const shelf = planeShelf(model, draw);

  function receive(message, buffers) {
    if (message.op === "open") open(message);
    if (message.op === "view") shelf.arrive(message, buffers);
    if (message.op === "points") {
      points = unpack(message, buffers);
      saved = "saved";
      root.dataset.rev = message.revision;
      root.dataset.labelled = points.filter((point) => point.answer).length;
      if (message.said) say(message.said);
      fail("");
      describe();
      drawMarks();
    }
    if (message.op === "error") {
      shelf.fail();
      saved = message.saved === false ? "failed" : "saved";
      fail(message.saved === false ? `Not saved: ${message.text}` : message.text);
      describe();
    }
  }

  function open(message) {
    data = message;
    z = Math.floor(data.shape[0] / 2);
    height.input.max = data.shape[0] - 1;
    height.node.hidden = data.shape[0] === 1;
    resize(true);
    stopKeys?.abort();
    stopKeys = new AbortController();
    listen(root, sliceKeys(data, actions), stopKeys.signal);
    describe();
    root.dataset.ready = "1";
  }

  /** Points travel as numbers: z, y, x, p in one buffer; call and answer in another. */
  function unpack({ n, classes }, [numbers, codes]) {
    const told = ["", ...classes, "unsure"];
    const float = new Float32Array(numbers.buffer.slice(numbers.byteOffset, numbers.byteOffset + numbers.byteLength));
    return Array.from({ length: n }, (_, i) => {
      const [pz, py, px, p] = float.subarray(4 * i, 4 * i + 4);
      const call = ["negative", "positive", "open"][codes.getUint8(2 * i)];
      const answer = told[codes.getUint8(2 * i + 1)];
      const kind = answer === classes[0] ? "positive" : answer === classes[1] ? "negative" : answer ? "open" : call;
      return { i, z: pz, y: py, x: px, p, call, answer, kind };
    });
  }

  // ---- what is seen -----------------------------------------------------------------------------------
  const planes = () => [Math.max(0, z - Math.floor((depth - 1) / 2)), Math.min(data.shape[0] - 1, z + Math.ceil((depth - 1) / 2))];
  const roles = () => (shown === "overlay" ? ["signal", "background"] : [shown]);

  /** The part of the plane on the screen, no finer than the screen shows; the whole plane where that is small. */
  function request(at = z) {
    const [, ny, nx] = data.shape;
    const [, vy, vx] = data.voxel_um;
    const ratio = window.devicePixelRatio || 1;
    const step = 2 ** Math.max(0, Math.floor(Math.log2(1 / (cam.scale * ratio * Math.min(vy, vx)))));
    if (Math.max(ny, nx) / step <= MOST) return { z: at, depth, roles: roles(), box: [0, ny, 0, nx], step };
    const [top, left] = cam.toImage(0, 0);
    const [bottom, right] = cam.toImage(cam.height, cam.width);
    const cut = (um, voxel, n, up) => Math.min(n, Math.max(0, (up ? Math.ceil : Math.floor)(um / voxel / 128) * 128));
    return { z: at, depth, roles: roles(), box: [cut(top, vy, ny), cut(bottom, vy, ny, true), cut(left, vx, nx), cut(right, vx, nx, true)], step };
  }

  function draw() {
    if (!data) return;
    const wanted = request();
    const found = wanted.box[0] < wanted.box[1] && wanted.box[2] < wanted.box[3] ? shelf.get(wanted) : null;
    if (found) {
      last = found;
      shelf.expect(request(Math.min(Math.max(z + heading, 0), data.shape[0] - 1)));
    }
    if (last) paintPlane(last); // until the wanted part is here, the last one, where it belongs now
    drawMarks();
  }

  function paintPlane(found) {
    const [, vy, vx] = data.voxel_um;
    const [top, left] = cam.toScreen(found.box[0] * vy, found.box[2] * vx);
    const context = fresh(picture);
    context.imageSmoothingEnabled = cam.scale * vx * found.step < 4;
    context.drawImage(sheetOf(found), left, top, found.columns * found.step * vx * cam.scale, found.rows * found.step * vy * cam.scale);
    root.dataset.shown = found.z;
  }

  /** The painted pixels of a part, painted anew only when the contrast has changed. */
  function sheetOf(found) {
    const tables = roles().slice(0, found.pixels.length).map((role) => limits[role]);
    const contrastNow = JSON.stringify(tables);
    if (found.contrast !== contrastNow) {
      found.sheet ??= make("canvas", { width: found.columns, height: found.rows });
      const [first, second] = tables.map(({ low, high }) => greys(low, high));
      paint(found.sheet, found.pixels[0], first, found.pixels[1] ?? null, second ?? null);
      found.contrast = contrastNow;
    }
    return found.sheet;
  }

  function fresh(canvas) {
    const ratio = window.devicePixelRatio || 1;
    const [wide, high] = [Math.round(cam.width * ratio), Math.round(cam.height * ratio)];
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, cam.width, cam.height);
    return context;
  }

  /** The candidates in or near the shown planes, with their distance from them in cell radii (0 inside, 1 far). */
  function near() {
    const [first, last] = planes();
    const radius = data.diameter_um / 2;
    return points.flatMap((point) => {
      const away = (Math.max(first - point.z, point.z - last, 0) * data.voxel_um[0]) / radius;
      return away > 1 || hidden.has(groupOf(point)) ? [] : [{ point, away }];
    });
  }

  const groupOf = ({ answer, call }) => (answer ? `labelled ${answer}` : call === "positive" ? `called ${data.classes[0]}` : call === "negative" ? `called ${data.classes[1]}` : "not called");
  const place = (point) => cam.toScreen((point.y + 0.5) * data.voxel_um[1], (point.x + 0.5) * data.voxel_um[2]);

  function drawMarks() {
    if (!data) return;
    const context = fresh(marks);
    const [positive, negative] = data.classes;
    const radius = (data.diameter_um / 2) * cam.scale;
    const colors = { positive: data.styles[positive].mark, negative: data.styles[negative].mark, open: data.styles.unsure.mark };
    for (const { point, away } of near()) {
      const [y, x] = place(point);
      if (y < -20 || x < -20 || y > cam.height + 20 || x > cam.width + 20) continue;
      context.globalAlpha = 1 - 0.6 * away;
      drawMark(context, { y, x, radius: radius * Math.sqrt(1 - (0.9 * away) ** 2), kind: point.kind, style: colors[point.kind], letter: data.styles[point.answer]?.letter, selected: point.i === selected });
    }
    context.globalAlpha = 1;
    drawScaleBar(context, cam.scale, cam.height);
  }

  function describe() {
    if (!data) return;
    const [first, last] = planes();
    const um = (n) => (n * data.voxel_um[0]).toFixed(0);
    const where = data.shape[0] === 1 ? "one plane" : depth > 1 ? `planes ${first} to ${last} of ${data.shape[0]} (${um(first)} to ${um(last)} µm)` : `plane ${z} of ${data.shape[0]} (${um(z)} µm)`;
    const state = make("span", { class: "ck-saved", "data-state": saved }, { saved: "All saved", saving: "Saving", failed: "Not saved" }[saved]);
    title.replaceChildren(make("strong", {}, data.name), make("span", { class: "ck-count" }, where), make("span", { class: "ck-count" }, data.judges ? "judges: look only" : ""), state, button("keys", "?", actions.help));
    tools.replaceChildren(...sliceTools(data, { toolName, shown, depth }, actions, root));
    channels.replaceChildren(...roles().map((role) => make("div", {}, make("div", { class: "ck-quiet" }, role), contrast(limits[role], draw))));
    legend.replaceChildren(...legendRows(data, points.map(groupOf), hidden, drawMarks));
    const point = points[selected];
    about.replaceChildren(...(point ? [
      make("div", { class: "ck-answer" }, point.answer || "open"),
      make("div", {}, `z ${point.z.toFixed(1)}  y ${point.y.toFixed(1)}  x ${point.x.toFixed(1)} voxels`),
      point.call !== "open" && make("div", {}, `p ${point.p.toFixed(2)}, called ${point.call === "positive" ? data.classes[0] : data.classes[1]}`),
    ].filter(Boolean) : [data.judges ? "" : make("div", {}, "Click a candidate to select it, then a key to label it.")]));
    height.input.value = z;
    root.dataset.z = z;
    root.dataset.tool = toolName;
    root.dataset.selected = selected ?? "";
  }

  // ---- what a person does -----------------------------------------------------------------------------

  function go(to) {
    const next = Math.min(Math.max(Math.round(to), 0), data.shape[0] - 1);
    if (next === z) return;
    heading = Math.sign(next - z);
    z = next;
    draw();
    describe();
  }

  function tell(message) {
    if (data.judges) return fail(`${data.name} judges: its labels come from the audit only.`);
    saved = "saving";
    describe();
    model.send(message);
  }

  const actions = {
    go: (by) => go(z + by),
    end: (by) => go(by > 0 ? data.shape[0] : 0),
    tool: (name) => { toolName = name; describe(); },
    /** Label the selected candidate; without one, let every click label so. */
    answer(answer) {
      if (selected !== null) tell({ op: "label", index: selected, answer });
      else if (answer) actions.tool(answer);
    },
    channel(name) { shown = shown === name ? "signal" : data.roles.includes("background") ? name : shown; draw(); describe(); },
    thicker(by) { depth = Math.min(Math.max(depth + by, 1), data.shape[0]); draw(); describe(); },
    zoom: (by) => { cam.zoom(by); draw(); },
    pan: (down, right) => { cam.pan(down, right); draw(); },
    fit: () => { cam.fit(data.shape[1] * data.voxel_um[1], data.shape[2] * data.voxel_um[2]); draw(); },
    undo: () => tell({ op: "undo" }),
    redo: () => tell({ op: "redo" }),
    help: () => help(root, sliceHelp(data)),
    leave() {
      if (selected === null && toolName === "look") return root.blur();
      selected = null;
      actions.tool("look");
      drawMarks();
    },
  };

  function click(at) {
    const far = ({ point }) => { const [y, x] = place(point); return Math.hypot(y - at.y, x - at.x); };
    const nearest = near().sort((a, b) => far(a) - far(b))[0];
    const hit = nearest && far(nearest) < Math.max(12, (data.diameter_um / 2) * cam.scale) ? nearest.point : null;
    if (toolName === "missed") {
      const [y, x] = cam.toImage(at.y, at.x);
      tell({ op: "missed", z, y: y / data.voxel_um[1] - 0.5, x: x / data.voxel_um[2] - 0.5 });
    } else if (toolName === "look" || toolName === "rectangle" || !hit) selected = hit?.i ?? null;
    else tell({ op: "label", index: hit.i, answer: toolName });
    describe();
    drawMarks();
  }

  function sampleInside({ left, top, width, height: high }) {
    const [y0, x0] = cam.toImage(top, left);
    const [y1, x1] = cam.toImage(top + high, left + width);
    const [, vy, vx] = data.voxel_um;
    const thick = data.diameter_um / 2 / data.voxel_um[0];
    const [first, last] = planes();
    tell({ op: "rectangle", box: [[first - thick, last + thick], [y0 / vy - 0.5, y1 / vy - 0.5], [x0 / vx - 0.5, x1 / vx - 0.5]] });
  }

  stage.addEventListener("pointerdown", (down) => {
    if (down.button !== 0 || !data) return;
    root.focus({ preventScroll: true });
    const start = spot(stage, down);
    if (toolName === "rectangle") {
      rubberBand(stage, down, () => {}, (moved, box) => (moved ? sampleInside(box) : click(start)));
      return;
    }
    const stop = new AbortController();
    let last = start;
    let moved = false;
    stage.setPointerCapture(down.pointerId);
    stage.addEventListener("pointermove", (event) => {
      const now = spot(stage, event);
      moved ||= Math.hypot(now.x - start.x, now.y - start.y) > 4;
      if (moved) actions.pan(now.y - last.y, now.x - last.x);
      last = now;
    }, { signal: stop.signal });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { stop.abort(); if (!moved) click(start); }, { signal: stop.signal });
  }, { signal });

  stage.addEventListener("wheel", (event) => {
    if (!root.contains(document.activeElement)) return; // else the page could not be scrolled past
    event.preventDefault();
    const at = spot(stage, event);
    if (event.ctrlKey || event.metaKey) { cam.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, at.y, at.x); draw(); } else go(z + Math.sign(event.deltaY));
  }, { signal, passive: false });

  function resize(first = false) {
    const box = stage.getBoundingClientRect();
    if (!data || !box.width) return;
    [cam.width, cam.height] = [box.width, box.height];
    if (first || root.dataset.fitted !== "1") { actions.fit(); root.dataset.fitted = "1"; } else draw();
  }

  const sizes = new ResizeObserver(() => resize());
  sizes.observe(stage);
  model.on("msg:custom", receive);
  model.send({ op: "ready" });
  return () => { sizes.disconnect(); model.off("msg:custom", receive); };
}

export default { render };
