const CHUNK = 24;
const LATE_MS = 3000;

function render({ model, el, signal }) {
  const { root, fail, say } = screen("gallery", "Labelling gallery");
  const head = make("div", { class: "ck-head" });
  const tools = make("div", { class: "ck-tools" });
  const grid = make("div", { class: "ck-grid", role: "grid", "aria-multiselectable": "true", "aria-label": "Candidates" });
  const side = make("div", {});
  const viewing = make("div", { class: "ck-viewing" });
  root.append(head, tools, make("div", { class: "ck-body" }, grid, make("div", { class: "ck-side" }, side, viewing)));
  el.replaceChildren(root);

  const number = Math.floor(Math.random() * 1e9); // tells the tiles of two galleries on one page apart
  let data = null; // what Python sent: rows, styles, keymap, crop, background, flat
  let answers = [];
  let cursor = 0;
  let anchor = 0;
  let chosen = new Set();
  let pending = 0;
  let lateTimer = 0;
  let tiles = [];
  let stopKeys = null;
  const shelf = cropShelf();
  const asked = new Set();
  const view = { background: false, thick: false, size: 84 };

  // ---- what Python says -------------------------------------------------------------------------------
  function receive(message, buffers) {
    if (message.op === "open") open(message);
    if (message.op === "crops") {
      message.rows.forEach((row, i) => { shelf.put(row, buffers[i]); drawTile(row); });
      if (message.rows.includes(cursor)) drawSide();
    }
    if (message.op === "answers") {
      pending = Math.max(0, pending - 1);
      root.dataset.rev = message.revision;
      say(message.said);
      fail("");
      if (!pending) adopt(message);
    }
    if (message.op === "error") {
      pending = 0;
      fail(message.saved === false ? `Not saved: ${message.text}` : message.text);
      if (message.answers) adopt(message);
    }
    showSaved();
  }

  function adopt(message) {
    const moved = answers.some((answer, row) => answer !== message.answers[row]);
    answers = message.answers;
    data.counts = message.counts;
    if (moved) { cursor = message.cursor; chosen.clear(); anchor = cursor; }
    update();
  }

  function open(message) {
    data = message;
    ({ answers, cursor } = message);
    shelf.crop = data.crop;
    anchor = cursor;
    chosen.clear();
    tiles = data.rows.map((_, row) => makeTile(row));
    grid.replaceChildren(...tiles);
    if (!tiles.length) grid.append(make("p", { class: "ck-empty" }, "Nothing to label in this queue."));
    stopKeys?.abort();
    stopKeys = new AbortController();
    listen(root, galleryKeys(data, actions), stopKeys.signal);
    show();
    watch();
    update();
    root.dataset.ready = "1";
    root.dataset.rev = message.revision;
  }

  function tell(message) {
    pending += 1;
    clearTimeout(lateTimer);
    lateTimer = setTimeout(showSaved, LATE_MS, true);
    try { model.send(message); } catch (error) { pending = 0; fail(`Not saved: ${error.message}`); }
    showSaved();
  }

  // ---- what a person does -----------------------------------------------------------------------------
  const targets = () => (chosen.size ? [...chosen].sort((a, b) => a - b) : [cursor]);

  function give(answer, rows = targets()) {
    if (!data || !rows.length || !tiles.length) return;
    tell({ op: "label", rows, answer });
    rows.forEach((row) => (answers[row] = answer));
    chosen.clear();
    const last = rows[rows.length - 1];
    const order = answers.map((_, i) => (last + 1 + i) % answers.length);
    cursor = anchor = answer === "" ? rows[0] : order.find((row) => answers[row] === "") ?? last;
    update();
  }

  function giveOpen(answer) {
    const rows = chosen.size ? targets() : answers.flatMap((told, row) => (told === "" ? [row] : []));
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
    const to = Math.min(Math.max(cursor + by, 0), tiles.length - 1);
    if (extend) chosen = range(anchor, to); else { anchor = to; chosen.clear(); }
    cursor = to;
    update();
  }

  const range = (a, b) => new Set(Array.from({ length: Math.abs(b - a) + 1 }, (_, i) => Math.min(a, b) + i));
  const columns = () => Math.max(1, tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length);

  function point(row, event) {
    if (event.shiftKey) chosen = range(anchor, row);
    else if (event.ctrlKey || event.metaKey) { if (!chosen.delete(row)) chosen.add(row); } else chosen.clear();
    if (!event.shiftKey) anchor = row;
    cursor = row;
    update();
  }

  function drag(down) {
    if (down.button !== 0 || !data) return;
    root.focus({ preventScroll: true });
    const tile = down.target.closest(".ck-tile");
    const before = down.shiftKey || down.ctrlKey || down.metaKey ? [...chosen] : [];
    rubberBand(grid, down, (box) => {
      chosen = new Set(before);
      tiles.forEach((each, row) => { if (touches(each, box)) chosen.add(row); });
      mark();
    }, (moved) => {
      if (!moved) return tile && point(Number(tile.dataset.index), down);
      if (chosen.size) cursor = anchor = Math.min(...chosen);
      update();
    });
  }

  // ---- drawing ----------------------------------------------------------------------------------------
  function makeTile(row) {
    const [, h, w] = data.crop;
    return make("div", { class: "ck-tile", role: "gridcell", "data-index": row, id: `ck-${number}-${row}` },
      make("canvas", { width: w, height: h }), make("span", { class: "ck-badge" }));
  }

  function drawTile(row) {
    const drawn = shelf.draw(tiles[row].firstChild, row, view.thick ? 1 : 0, view.background ? 1 : 0);
    tiles[row].classList.toggle("ck-waiting", !drawn);
  }

  function redraw() {
    shelf.refresh();
    for (const row of shelf.rows()) drawTile(row);
    drawSide();
  }

  function drawSide() {
    if (!data?.rows.length) return side.replaceChildren();
    const row = data.rows[cursor];
    const answer = answers[cursor];
    const style = data.styles[answer];
    const opinion = row.p == null ? null : `p ${row.p.toFixed(2)}, called ${row.called ? data.classes[0] : data.classes[1]}`;
    side.replaceChildren(shelf.planes(cursor, { ...view, flat: data.flat }),
      make("div", { class: "ck-about" },
        make("div", { class: "ck-answer" }, style && make("span", { class: "ck-badge", style: `--ck-answer:${style.color}` }, style.letter), style ? ` ${answer}` : "open"),
        make("div", {}, `${cursor + 1} of ${data.rows.length} · ${row.image}`),
        make("div", {}, `${data.width_um.toFixed(0)} µm wide, at z ${row.z_um.toFixed(0)}  y ${row.y_um.toFixed(0)}  x ${row.x_um.toFixed(0)} µm`),
        opinion && make("div", { title: row.network ?? "" }, opinion)));
  }

  function mark() {
    tiles.forEach((tile, row) => {
      const look = `${answers[row]} ${chosen.has(row)} ${row === cursor}`;
      if (tile.look === look) return;
      tile.look = look;
      const style = data.styles[answers[row]];
      tile.classList.toggle("ck-chosen", chosen.has(row));
      tile.classList.toggle("ck-cursor", row === cursor);
      tile.dataset.answer = answers[row];
      tile.style.setProperty("--ck-answer", style?.color ?? "transparent");
      tile.lastChild.textContent = style?.letter ?? "";
      tile.setAttribute("aria-selected", chosen.has(row));
      tile.setAttribute("aria-label", `candidate ${row + 1}, ${answers[row] || "open"}`);
    });
    root.dataset.cursor = cursor;
    root.dataset.chosen = chosen.size;
    showSaved();
  }

  function update() {
    if (!data) return;
    data.counts = Object.fromEntries([...Object.keys(data.styles), ""].map((name) => [name, answers.filter((told) => told === name).length]));
    const [bar, text] = progressBar(data.styles, data.counts, answers.length);
    head.replaceChildren(make("strong", {}, data.title), text, saved, keysButton, bar);
    mark();
    drawSide();
    const tile = tiles[cursor];
    grid.setAttribute("aria-activedescendant", tile?.id ?? "");
    if (!tile) return;
    if (tile.offsetTop < grid.scrollTop) grid.scrollTop = tile.offsetTop - 6;
    const below = tile.offsetTop + tile.offsetHeight - grid.clientHeight;
    if (below > grid.scrollTop) grid.scrollTop = below + 6;
    ask([cursor]);
  }

  // ---- buttons and keys -------------------------------------------------------------------------------
  const saved = make("span", { class: "ck-saved" });
  const keysButton = button("keys", "?", () => { actions.help(); root.focus(); });

  function showSaved(late = false) {
    const failed = root.dataset.failed === "1";
    if (!pending) clearTimeout(lateTimer);
    saved.dataset.state = failed ? "failed" : pending ? "saving" : "saved";
    saved.textContent = failed ? "Not saved" : !pending ? "All saved" : late ? `Waiting for the kernel: ${pending} not saved yet` : "Saving";
    root.dataset.saved = saved.dataset.state;
  }

  const once = (action) => Object.assign(action, { once: true }); // a held key must not label a page
  const actions = {
    give: once(give),
    giveOpen,
    undo: once(() => tell({ op: "undo" })),
    redo: once(() => tell({ op: "redo" })),
    all: () => { chosen = range(0, tiles.length - 1); update(); },
    background: once(() => { view.background = data.background && !view.background; show(); }),
    thick: once(() => { view.thick = !view.thick; show(); }),
    step,
    down: (by, extend) => step(by * columns(), extend),
    end: (by) => step(by * tiles.length),
    next: () => { const ahead = answers.indexOf("", cursor + 1); step((ahead < 0 ? Math.max(answers.indexOf(""), 0) : ahead) - cursor); },
    flip: once(() => flip(cursor)),
    help: () => help(root, galleryHelp(data)),
    leave: () => { if (chosen.size) { chosen.clear(); update(); } else root.blur(); },
    toggle: () => { if (!chosen.delete(cursor)) chosen.add(cursor); update(); },
    resize: (by) => { view.size = Math.min(192, Math.max(48, view.size + by)); grid.style.setProperty("--ck-tile", `${view.size}px`); },
  };

  function show() {
    tools.replaceChildren(...galleryTools(data, actions, root));
    viewing.replaceChildren(...viewTools(data, view, actions, root), contrast(shelf.limits[view.background ? 1 : 0], redraw));
    redraw();
  }

  /** Ask for the crops of these rows, in chunks, each once. */
  function ask(rows) {
    const fresh = rows.filter((row) => !asked.has(row));
    fresh.forEach((row) => asked.add(row));
    for (let i = 0; i < fresh.length; i += CHUNK) model.send({ op: "crops", rows: fresh.slice(i, i + CHUNK) });
  }

  /** Crops are asked for when they come near the visible part of the grid. */
  function watch() {
    const seen = new IntersectionObserver((entries) => {
      ask(entries.filter((entry) => entry.isIntersecting).map((entry) => Number(entry.target.dataset.index)));
    }, { root: grid, rootMargin: "300px" });
    tiles.forEach((tile) => seen.observe(tile));
    signal.addEventListener("abort", () => seen.disconnect());
  }

  grid.addEventListener("pointerdown", drag, { signal });
  grid.addEventListener("dblclick", (event) => {
    const tile = event.target.closest(".ck-tile");
    if (tile) flip(Number(tile.dataset.index));
  }, { signal });
  model.on("msg:custom", receive);
  model.send({ op: "ready" });
  return () => model.off("msg:custom", receive);
}

export default { render };
