const [SOON, FEW] = [8, 3]; // next open ones whose side planes are fetched ahead; fewer left than that: fetch again
const LATE_MS = 3000;
const SETTLED_MS = 300;

function render({ model, el, signal }) {
  const { root, fail, say } = screen("gallery", "Labelling gallery");
  const head = make("div", { class: "ck-head" });
  const tools = make("div", { class: "ck-tools" });
  const box = make("div", { class: "ck-grid", role: "grid", "aria-multiselectable": "true", "aria-label": "Candidates" });
  const side = make("div", {});
  const viewing = make("div", { class: "ck-viewing" });
  root.append(head, tools, make("div", { class: "ck-body" }, box, make("div", { class: "ck-side" }, side, viewing)));
  el.replaceChildren(root);

  const number = Math.floor(Math.random() * 1e9); // tells the tiles of two galleries on one page apart
  let data = null; // what Python sent: rows, styles, keymap, crop, background, flat
  let answers = [];
  let [cursor, anchor] = [0, 0];
  let chosen = new Set();
  let pending = []; // the rows of every message that waits for its reply, in the order sent
  const [timers, pace] = [{ late: 0, settled: 0 }, makePace()];
  let stopKeys = null;
  const shelf = cropShelf(model, arrive);
  const look = closeLook(shelf, side);
  const view = { background: false, thick: false, size: 84, large: false, order: "as drawn", group: "none" };
  const grid = tileGrid(box, makeTile, (rows) => { rows.forEach(drawTile); ask(); });
  const empty = () => !data?.rows.length;
  const front = () => (view.thick ? "projection" : "plane");

  // ---- what Python says -------------------------------------------------------------------------------
  function receive(message, buffers) {
    if (message.op === "open") open(message, buffers);
    if (message.op === "crops") shelf.arrive(message, buffers);
    if (message.op === "answers") {
      pending.shift();
      root.dataset.rev = message.revision;
      say(message.said);
      if (root.dataset.unsaved !== "1") fail("");
      adopt(message);
      clearTimeout(timers.settled);
      timers.settled = setTimeout(() => post(model, { op: "settled" }), SETTLED_MS);
    }
    if (message.op === "keys") setKeys(message.keymap);
    if (message.op === "error") {
      if (message.saved === false) pending.shift();
      if (message.asked === "crops") shelf.failed();
      const lost = message.saved === false;
      if (lost || root.dataset.unsaved !== "1") fail(lost ? `Not saved: ${message.text}` : message.text, lost);
      if (message.rows) adopt(message);
    }
    showSaved();
  }

  /** Take over what is on disk now, but for rows that wait for a later reply. */
  function adopt({ rows, told, cursor: to, noted }) {
    const later = new Set(pending.flat());
    const moved = rows.filter((row, i) => !later.has(row) && answers[row] !== told[i]);
    rows.forEach((row, i) => { if (!later.has(row)) answers[row] = told[i]; });
    const same = !moved.length && (noted === undefined || noted === data.noted);
    if (noted !== undefined) data.noted = noted;
    if (moved.length && !pending.length) { cursor = anchor = to; chosen.clear(); }
    if (!same) update(); // what was told is drawn already
  }

  function open(message, buffers) {
    data = message;
    data.rows = unpackTable(data.columns, buffers, data.n);
    answers = Array.from(new Uint8Array(buffers.at(-1).buffer, buffers.at(-1).byteOffset, data.n), (code) => data.answers[code]);
    cursor = anchor = data.cursor;
    shelf.open(data.crop);
    look.clear();
    chosen.clear();
    pending = [];
    const { orders, groups } = orderChoices(data);
    if (!groups.includes(view.group)) view.group = "none";
    if (data.group && groups.includes(data.group)) view.group = data.group;
    if (!orders.includes(view.order)) view.order = "as drawn";
    grid.clear(empty() && make("p", { class: "ck-empty" }, "Nothing to label in this queue."));
    setKeys(data.keymap);
    arrange();
    if (!empty() && !answers.includes("")) step(-answers.length); // nothing is open: begin at the first shown
    Object.assign(root.dataset, { ready: "1", rev: message.revision });
  }

  function setKeys(keymap) {
    data.keymap = keymap;
    stopKeys?.abort();
    stopKeys = new AbortController();
    listen(root, galleryKeys(data, actions), stopKeys.signal);
    if (root.querySelector(".ck-help")) { actions.help(); actions.help(); root.focus({ preventScroll: true }); }
    show();
  }

  function tell(message, rows = []) {
    if (halted()) return;
    pending.push(rows);
    clearTimeout(timers.late);
    timers.late = setTimeout(showSaved, LATE_MS, true);
    if (!post(model, message)) fail("Not saved: the kernel is gone. Run the cell again; what was saved is still there.", true);
    showSaved();
  }

  // ---- what a person does -----------------------------------------------------------------------------
  const inOrder = (rows) => [...rows].sort((a, b) => grid.place(a) - grid.place(b));
  const targets = () => (chosen.size ? inOrder(chosen) : [cursor]);
  const nextOpen = (from) => {
    const { order } = grid;
    for (let i = 1; i <= order.length; i += 1) {
      const row = order[(grid.place(from) + i) % order.length];
      if (answers[row] === "") return row;
    }
    return from;
  };

  // after an answer that could not be saved a person goes on by closing the reason, never unaware of it
  const halted = () => root.dataset.unsaved === "1" && (say("Not saved: close the message to go on"), true);

  function give(answer, rows = targets()) {
    if (empty() || !rows.length || halted()) return;
    tell({ op: "label", rows, answer }, rows);
    if (answer) pace.note(rows.filter((row) => answers[row] === "").length);
    rows.forEach((row) => (answers[row] = answer));
    chosen.clear();
    cursor = anchor = answer === "" ? rows[0] : nextOpen(rows[rows.length - 1]);
    update();
  }

  function giveOpen(answer) {
    const rows = chosen.size ? targets() : grid.order.filter((row) => answers[row] === "");
    if (rows.length) give(answer, rows);
    else say("All are answered already; select the ones to change");
  }

  function flip(row) {
    const [positive, negative] = data.classes;
    give(answers[row] === positive ? negative : positive, [row]);
    cursor = anchor = row;
    update();
  }

  function step(by, extend) {
    const at = Math.min(Math.max(grid.place(cursor) + by, 0), grid.order.length - 1);
    const to = grid.order[at] ?? 0;
    if (extend) chosen = range(anchor, to); else { anchor = to; chosen.clear(); }
    cursor = to;
    update();
  }

  const range = (a, b) => new Set(grid.order.slice(Math.min(grid.place(a), grid.place(b)), Math.max(grid.place(a), grid.place(b)) + 1));

  function point(row, event) {
    if (event.shiftKey) chosen = range(anchor, row);
    else if (event.ctrlKey || event.metaKey) { if (!chosen.delete(row)) chosen.add(row); } else chosen.clear();
    if (!event.shiftKey) anchor = row;
    cursor = row;
    update();
  }

  function drag(down) {
    if (down.button !== 0 || empty() || down.offsetX > box.clientWidth) return;
    root.focus({ preventScroll: true });
    const tile = down.target.closest(".ck-tile");
    const before = down.shiftKey || down.ctrlKey || down.metaKey ? [...chosen] : [];
    rubberBand(box, down, (band) => {
      chosen = new Set([...before, ...grid.touched(band)]);
      mark();
    }, (moved) => {
      if (!moved) return tile && point(Number(tile.dataset.index), down);
      if (chosen.size) cursor = anchor = inOrder(chosen)[0];
      update();
    });
  }

  // ---- drawing ----------------------------------------------------------------------------------------
  function makeTile(row) {
    const tile = make("div", { class: "ck-tile", role: "gridcell", "data-index": row, id: `ck-${number}-${row}` }, make("span", { class: "ck-badge" }));
    dress(tile, row);
    return tile;
  }

  function drawTile(row) {
    grid.picture(row, shelf.picture(row, front(), view.background ? 1 : 0));
  }

  function arrive(rows, part) {
    if (part === front()) for (const row of rows) if (grid.tiles.has(row)) drawTile(row);
    if (rows.includes(cursor)) drawSide();
    ask();
  }

  function redraw() {
    shelf.refresh();
    for (const row of grid.tiles.keys()) drawTile(row);
    drawSide();
  }

  function drawSide() {
    if (empty()) return look.clear();
    const channels = view.large && data.background ? [0, 1] : [view.background ? 1 : 0];
    look.show(cursor, { channels, thick: view.thick, flat: data.flat, facts: aboutRow(data, cursor, grid.place(cursor), answers[cursor]) });
  }

  function dress(tile, row) {
    dressTile(tile, { row, answer: answers[row], style: data.styles[answers[row]], chosen: chosen.has(row), here: row === cursor });
  }

  function mark() {
    for (const [row, tile] of grid.tiles) dress(tile, row);
    Object.assign(root.dataset, { cursor, chosen: chosen.size });
  }

  function update() {
    if (!data) return;
    const { nodes, bar, open: still } = galleryHead(data, answers, pace);
    head.replaceChildren(...nodes, saved, keysButton, bar);
    root.dataset.open = still;
    if (!empty()) grid.reveal(cursor);
    mark();
    drawSide();
    box.setAttribute("aria-activedescendant", `ck-${number}-${cursor}`);
    showSaved();
    ask();
  }

  // ---- buttons and keys -------------------------------------------------------------------------------
  const saved = make("span", { class: "ck-saved" });
  const keysButton = button("keys", "?", () => { actions.help(); root.focus(); });

  function showSaved(late = false) {
    const failed = root.dataset.unsaved === "1";
    if (!pending.length) clearTimeout(timers.late);
    saved.dataset.state = failed ? "failed" : pending.length ? "saving" : "saved";
    saved.textContent = failed ? "Not saved" : !pending.length ? "All saved" : late ? `Waiting for the kernel: ${pending.length} not saved yet` : "Saving";
    root.dataset.saved = saved.dataset.state;
  }

  const once = (action) => Object.assign(action, { once: true }); // a held key must not label a page
  const actions = {
    give: once(give),
    giveOpen,
    undo: once(() => tell({ op: "undo" })),
    redo: once(() => tell({ op: "redo" })),
    all: () => { chosen = new Set(grid.order); update(); },
    background: once(() => { view.background = data.background && !view.background; show(); }),
    thick: once(() => { view.thick = !view.thick; show(); }),
    large: once(() => { view.large = !view.large; root.classList.toggle("ck-large", view.large); show(); arrange(); }),
    step,
    down: (by, extend) => step(by * grid.columns, extend),
    end: (by) => step(by * answers.length),
    next: () => { cursor = anchor = nextOpen(cursor); chosen.clear(); update(); },
    flip: once(() => flip(cursor)),
    help: () => help(root, galleryHelp(data), keyChoices(data, model)),
    leave: () => { if (root.dataset.failed === "1") fail(""); else if (view.large) actions.large(); else if (chosen.size) { chosen.clear(); update(); } else root.blur(); },
    similar: once(() => { if (data.similar && !empty()) { say("Looking for what is alike"); post(model, { op: "similar", row: cursor }); } }),
    toggle: () => { if (!chosen.delete(cursor)) chosen.add(cursor); update(); },
    resize: (by) => { view.size = Math.min(192, Math.max(48, view.size + by)); arrange(); },
    sort: (order) => { view.order = order; arrange(); },
    group: (group) => { view.group = group; arrange(); },
  };

  function arrange() {
    if (!data) return;
    grid.arrange(empty() ? [] : groupRows(data, answers, view), view.size);
    root.dataset.group = view.group;
    update();
  }

  function show() {
    tools.replaceChildren(...galleryTools(data, actions, root));
    viewing.replaceChildren(...viewTools(data, view, actions, root), contrast(shelf.limits[view.background ? 1 : 0], redraw));
    redraw();
  }

  /** Ask for crops: the one looked at and those in view first, then what will be looked at next; far ones only many at once. */
  function ask() {
    if (empty()) return;
    const [near, next, last] = grid.nearest();
    const soon = [cursor];
    while (soon.length <= SOON) soon.push(nextOpen(soon.at(-1)));
    const sides = (rows) => (data.flat || soon.slice(0, FEW).every((row) => shelf.has(row, "sides")) ? [] : [["sides", rows]]);
    shelf.ask([[front(), [cursor, ...near.slice(0, CHUNK - 1)]], ...sides([cursor]), [front(), near], [front(), soon], ...sides(soon), [front(), next, last ? 1 : CHUNK]]);
  }

  box.addEventListener("pointerdown", drag, { signal });
  box.addEventListener("scroll", () => grid.look(), { signal, passive: true });
  box.addEventListener("dblclick", (event) => {
    const tile = event.target.closest(".ck-tile");
    if (tile) flip(Number(tile.dataset.index));
  }, { signal });
  root.addEventListener("ck-told", () => showSaved(), { signal });
  const sizes = new ResizeObserver(() => { if (box.clientWidth !== grid.width) arrange(); else grid.look(); });
  sizes.observe(box);
  model.on("msg:custom", receive);
  model.send({ op: "ready" });
  return () => { sizes.disconnect(); stopKeys?.abort(); Object.values(timers).forEach(clearTimeout); model.off("msg:custom", receive); };
}

export default { render };
