const WIDE = 440;
const HIGH = 190;
const EDGE = { left: 40, right: 74, top: 22, bottom: 26 };

/** One chart of one or two curves over the epochs; their names stand at their ends, the best epoch is marked,
    and behind them lie the held-out curves of former networks. */
function chart(title, rows, [first, second], { best, range, former = [], unit = (value) => value.toFixed(2) }) {
  const shown = second ?? first;
  const old = former.map(({ name, rows: past }) => ({ name, past: past.filter((row) => Number.isFinite(row[shown])) })).filter(({ past }) => past.length);
  const values = [...rows.flatMap((row) => [row[first], row[second]]), ...old.flatMap(({ past }) => past.map((row) => row[shown]))].filter((value) => Number.isFinite(value));
  const [low, high] = range ?? [Math.min(0, ...values), Math.max(...values, 1e-6)];
  const last = Math.max(2, rows.length, ...old.map(({ past }) => past.length));
  const x = (epoch) => EDGE.left + ((epoch - 1) / (last - 1)) * (WIDE - EDGE.left - EDGE.right);
  const y = (value) => HIGH - EDGE.bottom - ((value - low) / (high - low || 1)) * (HIGH - EDGE.top - EDGE.bottom);
  const word = (text, at, end, more = {}) => make("text", { x: at, y: end, ...more }, text);
  const svg = make("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "ck-chart", role: "img", "aria-label": title });
  svg.append(word(title, EDGE.left, 13, { class: "ck-chart-title" }));
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(make("line", { x1: EDGE.left, x2: WIDE - EDGE.right, y1: y(value), y2: y(value), class: "ck-rule" }));
    svg.append(word(unit(value), EDGE.left - 6, y(value) + 4, { "text-anchor": "end" }));
  }
  for (const epoch of [1, last]) svg.append(word(`${epoch === 1 ? "epoch " : ""}${epoch}`, x(epoch), HIGH - 8, { "text-anchor": "middle" }));
  if (best) svg.append(make("line", { x1: x(best), x2: x(best), y1: EDGE.top, y2: HIGH - EDGE.bottom, class: "ck-best" }));
  const path = (drawn, name) => drawn.map((row, i) => `${i ? "L" : "M"}${x(row.epoch).toFixed(1)} ${y(row[name]).toFixed(1)}`).join("");
  for (const { name, past } of old) svg.append(make("path", { d: path(past, shown), class: "ck-former", "data-former": name }, make("title", {}, name)));
  const ends = [];
  for (const [name, kind, text] of second ? [[first, "ck-train", "training"], [second, "ck-held", "held out"]] : [[first, "ck-held", ""]]) {
    const drawn = rows.filter((row) => Number.isFinite(row[name]));
    if (!drawn.length) continue;
    svg.append(make("path", { d: path(drawn, name), class: kind }));
    for (const row of drawn.length < 30 ? drawn : []) svg.append(make("circle", { cx: x(row.epoch), cy: y(row[name]), r: 2.5, class: kind }));
    ends.push({ kind, text, y: y(drawn[drawn.length - 1][name]) });
  }
  if (ends.length === 2 && Math.abs(ends[0].y - ends[1].y) < 13) {
    const middle = (ends[0].y + ends[1].y) / 2;
    const up = ends[0].y <= ends[1].y ? 0 : 1;
    [ends[up].y, ends[1 - up].y] = [middle - 7, middle + 7];
  }
  ends.forEach((end) => svg.append(word(end.text, x(rows[rows.length - 1].epoch) + 8, end.y + 4, { class: `${end.kind} ck-end` })));
  return svg;
}

function render({ model, el, signal }) {
  const { root, fail, say } = screen("monitor", "Training");
  const head = make("div", { class: "ck-head" });
  const charts = make("div", { class: "ck-charts" });
  const halt = button("stop, keep the best", "s", stop);
  root.append(head, charts);
  el.replaceChildren(root);
  let state = "running";
  let held = false; // a cell waits in `result`, and the kernel cannot hear
  let waiting = 0;

  function stop() {
    if (state !== "running") return;
    model.send({ op: "stop" });
    halt.disabled = true;
    const kernel = held ? model.widget_manager?.kernel : null;
    if (kernel) kernel.interrupt(); // ends that wait, which ends the training
    else waiting = setTimeout(() => fail("The kernel is busy with another cell; training ends once it is free. To end it now, interrupt that cell (■)."), 3000);
  }

  function time(seconds) {
    if (seconds < 2) return `${seconds.toFixed(1)} s`;
    return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
  }

  function describe({ rows, epochs, name }) {
    if (!rows.length) return { running: "Preparing: cutting cubes, loading the network", stopping: "Stopping", done: `${name || "The network"} was there already: opened, not trained again`, failed: "Failed" }[state];
    const best = bestOf(rows);
    const each = rows.reduce((sum, row) => sum + (row.seconds || 0), 0) / rows.length;
    const left = epochs > rows.length ? `, at most ${time(each * (epochs - rows.length))} left` : "";
    const found = (best.epoch ? `best epoch ${best.epoch}` : "best so far: the last layer alone, before epoch 1") + (Number.isFinite(best.val_f1) ? `, F1 ${best.val_f1.toFixed(2)} on held-out labels` : "");
    if (state === "running") return `Epoch ${rows.length}${epochs ? ` of ${epochs}` : ""}, ${time(each)} each${left}; ${found}`;
    return { stopping: "Stopping; ", done: `Done after ${rows.length} epochs${name ? `: ${name}` : ""}; `, failed: "Failed; " }[state] + found;
  }

  const leastOf = (rows) => rows.reduce((a, b) => (b.val_loss < a.val_loss ? b : a), rows[0] ?? null);
  const START = { epoch: 0 };
  const bestOf = (rows) => rows.filter((row) => row.kept).at(-1) ?? (rows[0]?.kept === 0 ? START : leastOf(rows));

  function receive(message) {
    if (message.op === "error") return fail(message.text);
    if (state !== message.state) say(`Training: ${message.state}`);
    ({ state, held } = message);
    if (state !== "running") clearTimeout(waiting);
    fail(state === "failed" ? message.error : "");
    halt.hidden = state === "done" || state === "failed";
    halt.disabled = state !== "running";
    head.replaceChildren(make("strong", {}, "Training"), make("span", { class: "ck-count" }, describe(message)), make("span", { class: "ck-push" }), halt);
    const best = bestOf(message.rows)?.epoch;
    const { rows, former } = message;
    const rate = rows.some((row) => Number.isFinite(row.learning_rate)) && chart("Learning rate", rows, ["learning_rate"], { best, unit: (value) => (value ? value.toExponential(0) : "0") });
    charts.replaceChildren(...(rows.length ? [chart("Loss", rows, ["loss", "val_loss"], { best, former }), chart("F1", rows, ["f1", "val_f1"], { best, former, range: [0, 1] }), rate].filter(Boolean) : []));
    if (rows.length && former.length) charts.append(make("div", { class: "ck-quiet" }, make("i", { class: "ck-former-key" }), `held out in former rounds: ${former.map(({ name }) => name).join(", ")}`));
    root.dataset.ready = "1";
    root.dataset.state = state;
    root.dataset.epochs = message.rows.length;
  }

  listen(root, { s: stop, Escape: () => root.blur(), "?": () => help(root, [["s", "stop and keep the best epoch"], ["Esc", "leave"]]) }, signal);
  model.on("msg:custom", receive);
  model.send({ op: "ready" });
  return () => { clearTimeout(waiting); model.off("msg:custom", receive); };
}

export default { render };
