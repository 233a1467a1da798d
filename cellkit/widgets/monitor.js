const WIDE = 440;
const HIGH = 190;
const EDGE = { left: 40, right: 74, top: 22, bottom: 26 };

/** One chart of two curves over the epochs; their names stand at their ends, the best epoch is marked. */
function chart(title, rows, [first, second], best, range) {
  const values = rows.flatMap((row) => [row[first], row[second]]).filter((value) => Number.isFinite(value));
  const [low, high] = range ?? [Math.min(0, ...values), Math.max(...values, 0.1)];
  const last = Math.max(2, rows.length);
  const x = (epoch) => EDGE.left + ((epoch - 1) / (last - 1)) * (WIDE - EDGE.left - EDGE.right);
  const y = (value) => HIGH - EDGE.bottom - ((value - low) / (high - low || 1)) * (HIGH - EDGE.top - EDGE.bottom);
  const word = (text, at, end, more = {}) => make("text", { x: at, y: end, ...more }, text);
  const svg = make("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "ck-chart", role: "img", "aria-label": title });
  svg.append(word(title, EDGE.left, 13, { class: "ck-chart-title" }));
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(make("line", { x1: EDGE.left, x2: WIDE - EDGE.right, y1: y(value), y2: y(value), class: "ck-rule" }));
    svg.append(word(value.toFixed(2), EDGE.left - 6, y(value) + 4, { "text-anchor": "end" }));
  }
  for (const epoch of [1, last]) svg.append(word(`${epoch === 1 ? "epoch " : ""}${epoch}`, x(epoch), HIGH - 8, { "text-anchor": "middle" }));
  if (best) svg.append(make("line", { x1: x(best), x2: x(best), y1: EDGE.top, y2: HIGH - EDGE.bottom, class: "ck-best" }));
  const ends = [];
  for (const [name, kind, text] of [[first, "ck-train", "training"], [second, "ck-held", "held out"]]) {
    const drawn = rows.filter((row) => Number.isFinite(row[name]));
    if (!drawn.length) continue;
    svg.append(make("path", { d: drawn.map((row, i) => `${i ? "L" : "M"}${x(row.epoch).toFixed(1)} ${y(row[name]).toFixed(1)}`).join(""), class: kind }));
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
  let waiting = 0;

  function stop() {
    if (state !== "running") return;
    model.send({ op: "stop" });
    halt.disabled = true;
    waiting = setTimeout(() => fail("The kernel is busy with a cell that waits. Interrupt that cell (■): training ends and the best network is kept."), 3000);
  }

  function time(seconds) {
    if (seconds < 2) return `${seconds.toFixed(1)} s`;
    return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
  }

  function describe({ rows, epochs, name }) {
    if (!rows.length) return { running: "Preparing: cutting cubes, loading the network", stopping: "Stopping", done: `${name || "The network"} was there already: opened, not trained again`, failed: "Failed" }[state];
    const best = bestOf(rows);
    const each = rows.reduce((sum, row) => sum + (row.seconds || 0), 0) / rows.length;
    const left = epochs ? `, at most ${time(each * (epochs - rows.length))} left` : "";
    const found = `best epoch ${best.epoch}` + (Number.isFinite(best.val_f1) ? `, F1 ${best.val_f1.toFixed(2)} on held-out labels` : "");
    if (state === "running") return `Epoch ${rows.length}${epochs ? ` of ${epochs}` : ""}, ${time(each)} each${left}; ${found}`;
    return { stopping: "Stopping; ", done: `Done after ${rows.length} epochs${name ? `: ${name}` : ""}; `, failed: "Failed; " }[state] + found;
  }

  const bestOf = (rows) => rows.reduce((a, b) => (b.val_loss < a.val_loss ? b : a), rows[0] ?? null);

  function receive(message) {
    if (message.op === "error") return fail(message.text);
    if (state !== message.state) say(`Training: ${message.state}`);
    ({ state } = message);
    if (state !== "running") clearTimeout(waiting);
    fail(state === "failed" ? message.error : "");
    halt.hidden = state === "done" || state === "failed";
    halt.disabled = state !== "running";
    head.replaceChildren(make("strong", {}, "Training"), make("span", { class: "ck-count" }, describe(message)), make("span", { class: "ck-push" }), halt);
    const best = bestOf(message.rows)?.epoch;
    charts.replaceChildren(...(message.rows.length ? [chart("Loss", message.rows, ["loss", "val_loss"], best), chart("F1", message.rows, ["f1", "val_f1"], best, [0, 1])] : []));
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
