/** The legend: a sign, a count and a tick for every group of points that there is. */
function legendRows({ classes: [positive, negative], styles }, points, redraw) {
  const signs = [["×", styles[negative].mark], ["○", styles[positive].mark], ["□", styles.unsure.mark], ...[positive, negative, "unsure"].map((name) => [styles[name].letter, styles[name].color])];
  const { hidden } = points.filter;
  return [3, 4, 5, 1, 0, 2].filter((group) => points.counts[group]).map((group) => {
    const name = points.groups[group];
    const [sign, color] = signs[group];
    const box = make("input", { type: "checkbox" });
    box.checked = !hidden.has(name);
    box.addEventListener("change", () => { if (!hidden.delete(name)) hidden.add(name); redraw(); });
    const badge = make("span", { class: name.startsWith("labelled") ? "ck-badge" : "ck-sign", style: `--ck-answer:${color}` }, sign);
    return make("label", { class: "ck-entry" }, box, badge, make("span", {}, name), make("b", {}, points.counts[group].toLocaleString("en")));
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
