/** The legend: a sign, a count and a tick for every group of points that there is. */
function legendRows({ classes: [positive, negative], styles }, points, redraw) {
  const counts = new Map();
  for (let i = 0; i < points.n; i += 1) if (!points.gone(i)) counts.set(points.group(i), (counts.get(points.group(i)) ?? 0) + 1);
  const labelled = [positive, negative, "unsure"].map((name) => [`labelled ${name}`, styles[name].letter, styles[name].color]);
  const called = [[`called ${positive}`, "○", styles[positive].mark], [`called ${negative}`, "×", styles[negative].mark], ["not called", "□", styles.unsure.mark]];
  const { hidden } = points.filter;
  return [...labelled, ...called].filter(([name]) => counts.has(name)).map(([name, sign, color]) => {
    const box = make("input", { type: "checkbox" });
    box.checked = !hidden.has(name);
    box.addEventListener("change", () => { if (!hidden.delete(name)) hidden.add(name); redraw(); });
    const badge = make("span", { class: name.startsWith("labelled") ? "ck-badge" : "ck-sign", style: `--ck-answer:${color}` }, sign);
    return make("label", { class: "ck-entry" }, box, badge, make("span", {}, name), make("b", {}, counts.get(name).toLocaleString("en")));
  });
}

/** Filters that stay as they are while labels change: by kind, and by p where there is one. */
function filterBox({ classes: [positive, negative] }, points, redraw) {
  const { filter } = points;
  const kinds = ["all", "unlabelled", "labelled", `correct ${positive}`, `correct ${negative}`, `missed ${positive}`, `false ${positive}`];
  const choice = picker("show", kinds, filter.kind, (kind) => { filter.kind = kind; redraw(); });
  const said = make("span", { class: "ck-range" });
  const tell = () => (said.textContent = `p ${filter.low.toFixed(2)} to ${filter.high.toFixed(2)}`);
  const ends = ["low", "high"].map((name) => slider(`${name === "low" ? "least" : "largest"} p`, {
    min: 0, max: 1, step: 0.01, value: filter[name],
    onmove(value) {
      filter[name] = value;
      if (filter.low > filter.high) filter[name] = name === "low" ? filter.high : filter.low;
      tell();
      redraw();
    },
  }).input);
  tell();
  const called = points.call.some((call) => call < 2);
  return make("div", { class: "ck-filter" }, make("label", { class: "ck-show" }, make("span", { class: "ck-quiet" }, "show"), choice),
    called && make("div", { class: "ck-p" }, said, make("span", { class: "ck-ends" }, ...ends)));
}
