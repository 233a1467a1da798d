const SETTLED_MS = 300; // of a pause, after which Python looks up what else an answer changed
const ABOUT_LABELS = new Set(["label", "missed", "undo", "redo", "region"]); // each gets one reply

function render({ model, el, signal }) {
  const { root, fail, say } = screen("slices", "Slice browser");
  const title = make("div", { class: "ck-head" });
  const tools = make("div", { class: "ck-tools" });
  const stage = make("div", { class: "ck-stage" });
  const plane = slider("plane", { min: 0, max: 0, step: 1, value: 0, onmove: (to) => actions.move(0, to) });
  const time = slider("frame", { min: 0, max: 0, step: 1, value: 0, onmove: (to) => actions.frameTo(to) });
  const legend = make("div", { class: "ck-legend" });
  const filters = make("div", {});
  const about = make("div", { class: "ck-about" });
  const channels = make("div", { class: "ck-viewing" });
  const side = make("div", { class: "ck-side" }, legend, filters, channels, about);
  root.append(title, tools, make("div", { class: "ck-body" }, make("div", { class: "ck-left" }, stage, plane.node, time.node), side));
  el.replaceChildren(root);

  const now = {
    data: null, // what Python sent: name, shape, voxel_um, diameter_um, roles, classes, styles, judges
    at: [0, 0, 0], // the planes shown: voxels along z, y, x
    depth: 1, frame: 0, heading: 1,
    shown: "signal", layout: "one", tool: "look", selected: null, saved: "saved",
    still: 0, passing: false, // the timer of a plane that has come, and whether it came right after another
    pending: 0, // messages about labels that wait for their reply
    corners: [], // of what is being outlined: y and x in µm
    panes: [],
  };
  let stopKeys = null;
  let stopPanes = null;
  let due = 0;
  let settled = 0;
  const cam = camera();
  const points = pointShelf();
  const queue = queueShelf();
  const limits = { signal: { low: 0, high: 1.2 }, background: { low: 0, high: 1.2 } };
  const shelf = planeShelf(model, draw);
  const { actions, hands } = sliceActions({ model, root, now, cam, points, queue, limits, say, fail, arrange, describe, locate, draw });

  function receive(message, buffers) {
    if (message.op === "open") open(message);
    if (message.op === "keys") { setKeys(message.keymap); describe(); }
    if (message.op === "view") shelf.arrive(message, buffers);
    if (message.op === "views") shelf.arriveAll(message, buffers);
    if (message.op === "points" || message.op === "changed") {
      const whole = message.op === "points";
      if (whole) points.fill(message, buffers);
      else points.change(message, buffers);
      if (message.said) now.pending = Math.max(0, now.pending - 1);
      if (message.queue) queue.take(message.queue, now.pending > 0);
      clearTimeout(settled);
      if (message.said && !now.data.box) settled = setTimeout(() => post(model, { op: "settled" }), SETTLED_MS);
      if (root.dataset.unsaved !== "1") { now.saved = now.pending ? "saving" : "saved"; fail(""); }
      if (whole) filters.replaceChildren(...(now.data.box ? [] : [filterBox(now.data, points, sift)]));
      Object.assign(root.dataset, { rev: message.revision, sent: message.n });
      if (message.said) say(message.said);
      if (whole && queue.n) actions.enter();
      describe();
      draw();
    }
    if (message.op === "go") actions.visit(message.row);
    if (message.op === "error") {
      shelf.fail(message.key);
      queue.waiting = false;
      if (ABOUT_LABELS.has(message.asked)) now.pending = Math.max(0, now.pending - 1);
      if (message.saved === false) now.saved = "failed";
      if (message.saved === false || root.dataset.unsaved !== "1") fail(message.saved === false ? `Not saved: ${message.text}` : message.text, message.saved === false);
      describe();
    }
  }

  function open(message) {
    const data = message;
    Object.assign(now, { data, frame: data.frame, tool: data.judges ? "look" : data.tool, selected: null, pending: 0,
      at: (data.box ?? data.shape.map((n) => [0, n])).map(([first, stop]) => Math.floor((first + stop) / 2)) });
    points.open(data);
    shelf.clear();
    for (const [input, n] of [[plane, data.shape[0]], [time, data.frames]]) {
      input.input.max = n - 1;
      input.node.hidden = n === 1;
    }
    setKeys(data.keymap);
    arrange();
    root.dataset.ready = "1";
  }

  function setKeys(keymap) {
    now.data.keymap = keymap;
    stopKeys?.abort();
    stopKeys = new AbortController();
    listen(root, sliceKeys(now.data, actions), stopKeys.signal);
    if (root.querySelector(".ck-help")) { actions.help(); actions.help(); root.focus({ preventScroll: true }); }
  }

  /** Lay the pictures out: one, signal and background side by side, or three planes. */
  function arrange() {
    const kinds = { one: [[0]], side: [[0, "signal"], [0, "background"]], three: [[0], [2], [1]] }[now.layout];
    now.panes = kinds.map(([along, role]) => makePane(along, role));
    stopPanes?.abort();
    stopPanes = new AbortController();
    now.panes.forEach((pane) => handle(pane, root, hands, stopPanes.signal));
    stage.replaceChildren(...now.panes.map(({ node }) => node));
    stage.dataset.layout = root.dataset.layout = now.layout;
    now.panes.forEach((pane) => pane.measure());
    actions.fit();
    describe();
  }

  function draw() {
    if (!due) due = requestAnimationFrame(() => { due = 0; drawNow(); });
  }

  function drawNow() {
    const { data, at, panes, heading } = now;
    if (!data) return;
    const ahead = [];
    panes.forEach((pane, i) => {
      const wish = { at, depth: now.depth, frame: now.frame, roles: pane.role ? [pane.role] : hands.roles() };
      const sharp = (z) => requestOf(data, cam, pane, { ...wish, at: [z, at[1], at[2]] });
      const rough = (z) => (now.passing && !shelf.peek(sharp(z)) ? coarser(sharp(z)) : sharp(z));
      const wanted = rough(at[0]);
      const inside = wanted.box.every(([first, stop]) => first < stop);
      const passes = now.passing && pane.along === 0 && !wanted.slow;
      const found = !inside ? null : passes ? shelf.peek(wanted) : shelf.get(`${i}`, wanted, at[0]);
      const seen = found ?? (passes && inside ? nearest(pane, rough) : null);
      if (seen) pane.last = seen;
      if (seen && i === 0) Object.assign(root.dataset, { shown: planeOf(seen), step: seen.step[0] });
      pane.settled = !inside || Boolean(found && !found.partial && wanted.step[0] === sharp(at[0]).step[0]);
      const many = pane.along !== 0 || !inside ? 0 : passes ? PASSING : found ? AHEAD : 0;
      const next = Array.from({ length: many }, (_, k) => at[0] + heading * (k + 1)).filter((z) => z >= 0 && z < data.shape[0]);
      ahead.push(...(passes && inside ? [wanted] : []), ...next.map(rough));
      const context = fresh(pane);
      if (pane.last) paintPane(context, pane, pane.last, { data, cam, limits });
      drawPoints(context, pane);
      const late = wanted.slow && !(found && !found.partial);
      pane.name.textContent = (pane.role ?? (now.layout === "three" ? `${"zyx"[pane.along]} ${at[pane.along]}` : "")) + (late ? " · reading" : "");
    });
    root.dataset.settled = panes.every(({ settled }) => settled) ? "1" : "0";
    shelf.expect(ahead, now.passing);
  }

  /** While planes pass: what is there of the planes since the one that is shown, the newest first. */
  function nearest(pane, requestAt) {
    if (!pane.last) return null;
    const by = Math.sign(planeOf(pane.last) - now.at[0]);
    for (let z = now.at[0] + by; by && z !== planeOf(pane.last); z += by) {
      const found = shelf.peek(requestAt(z));
      if (found) return found;
    }
    return null;
  }

  function drawPoints(context, pane) {
    const { data, at, selected, panes } = now;
    const size = data.diameter_um / 2;
    const colors = { positive: data.styles[data.classes[0]].mark, negative: data.styles[data.classes[1]].mark, open: data.styles.unsure.mark };
    const planes = planesOf(data, pane.along, at, now.depth);
    for (let i = 0; i < points.n; i += 1) {
      if (points.gone(i) || (!points.mask[i] && i !== selected)) continue;
      const far = hands.away(pane, i, planes);
      if (far > 1) continue;
      const [y, x] = pane.place(cam, hands.um(points.at(i)));
      if (y < -20 || x < -20 || y > pane.height + 20 || x > pane.width + 20) continue;
      const kind = points.look(i);
      context.globalAlpha = 1 - 0.6 * far;
      drawMark(context, { y, x, radius: size * cam.scale * Math.sqrt(1 - (0.9 * far) ** 2), kind, style: colors[kind], letter: data.styles[points.told(i)]?.letter, selected: i === selected });
    }
    context.globalAlpha = 1;
    if (now.layout === "three") drawCross(context, ...pane.place(cam, hands.um(at)), pane.height, pane.width);
    if (data.box) drawBox(context, ...[0, 1].map((end) => pane.place(cam, data.box.map((ends, axis) => ends[end] * data.voxel_um[axis]))), planes[0] >= data.box[pane.along][0] && planes[1] <= data.box[pane.along][1]);
    if (pane.along === 0) drawOutline(context, now.corners.map(([y, x]) => pane.place(cam, [0, y, x])));
    if (pane === panes[0]) drawScaleBar(context, cam.scale, pane.height);
  }

  /** Say where one is: this is all that scrolling changes. */
  function locate() {
    const { data, at, depth, saved } = now;
    if (!data) return;
    const [first, stop] = planesOf(data, 0, at, depth);
    const deep = (n) => (n * data.voxel_um[0]).toFixed(0);
    const where = data.shape[0] === 1 ? "one plane" : depth > 1 ? `planes ${first} to ${stop - 1} of ${data.shape[0]} (${deep(first)} to ${deep(stop - 1)} µm)` : `plane ${at[0]} of ${data.shape[0]} (${deep(at[0])} µm)`;
    const state = make("span", { class: "ck-saved", "data-state": saved }, { saved: "All saved", saving: "Saving", failed: "Not saved" }[saved]);
    const facts = [data.progress ?? queue.progress, where, data.frames > 1 && `frame ${now.frame} of ${data.frames}`, `${points.visible.toLocaleString("en")} ${data.box ? "marked" : "points"}`, data.judges && "judges: look only"];
    title.replaceChildren(make("strong", {}, data.name), ...facts.filter(Boolean).map((fact) => make("span", { class: "ck-count" }, fact)), state, tool(root, "keys", "?", actions.help));
    [plane.input.value, time.input.value] = [at[0], now.frame];
    Object.assign(root.dataset, { z: at[0], at: at.join(" "), tool: now.tool, selected: now.selected ?? "", points: points.n, visible: points.visible, labelled: points.labelled(), saved, frame: now.frame, depth, row: queue.n ? queue.at : "", open: queue.open });
  }

  function describe() {
    const { data } = now;
    if (!data) return;
    locate();
    tools.replaceChildren(...sliceTools(data, now, actions, root));
    legend.replaceChildren(...legendRows(data, points, sift));
    const used = now.layout === "side" ? ["signal", "background"] : hands.roles();
    channels.replaceChildren(...used.map((role) => make("div", {}, make("div", { class: "ck-quiet" }, role), contrast(limits[role], draw))), tool(root, "automatic contrast", "⇧a", actions.automatic));
    about.replaceChildren(...aboutPoint(data, points, now.selected));
  }

  function sift() {
    points.sift();
    describe();
    draw();
  }

  const sizes = new ResizeObserver(() => {
    now.panes.forEach((pane) => pane.measure());
    if (now.data && root.dataset.fitted !== "1" && stage.clientWidth) actions.fit();
    draw();
  });
  sizes.observe(stage);
  root.addEventListener("ck-told", () => { if (root.dataset.unsaved !== "1" && now.saved === "failed") { now.saved = "saved"; describe(); } }, { signal });
  model.on("msg:custom", receive);
  model.send({ op: "ready" });
  return () => { [settled, now.still].forEach(clearTimeout); sizes.disconnect(); stopPanes?.abort(); stopKeys?.abort(); cancelAnimationFrame(due); model.off("msg:custom", receive); };
}

export default { render };
