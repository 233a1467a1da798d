function render({ model, el, signal }) {
  const { root, fail, say } = screen("categories", "Labels by category");
  const body = make("div", {});
  root.append(body);
  el.replaceChildren(root);

  function receive(message) {
    if (message.op === "error") fail(message.text);
    if (message.op !== "counts") return;
    fail("");
    body.replaceChildren(...draw(message));
    root.dataset.ready = "1";
    root.dataset.rev = Number(root.dataset.rev) + 1;
  }

  function open(category) {
    say(`Opening ${category}`);
    post(model, { op: "open", category });
  }

  function draw({ names, classes, styles, labels, quotas, called, spread, advice, ways }) {
    const [positive, negative] = classes;
    const [right, rightNot, missed, wrong] = names;
    const most = Math.max(1, ...Object.values(labels), ...Object.values(quotas));
    const least = Math.min(...Object.values(labels));
    const box = (name, key, answer) => {
      const wanted = quotas[name] ? ` of ${quotas[name]}` : "";
      return make("button", { type: "button", class: "ck-box", "data-category": name, "aria-keyshortcuts": key, onclick: () => open(name) },
        make("span", { class: "ck-box-name" }, name, labels[name] === least && least < Math.max(...Object.values(labels)) && make("em", {}, "fewest")),
        make("span", { class: "ck-box-count" }, make("b", {}, labels[name]), `${wanted} labelled`),
        make("span", { class: "ck-bar" }, make("i", { style: `width:${(100 * labels[name]) / most}%;background:${styles[answer].color}` })),
        make("span", { class: "ck-box-open" }, "open a batch ", make("kbd", {}, key)));
    };
    const head = (text, n) => make("div", { class: "ck-box-head" }, make("b", {}, text), n !== undefined && make("span", {}, ` ${n.toLocaleString("en")} candidates`));
    const table = make("div", { class: "ck-boxes" },
      make("div", {}), head(`you say ${positive}`), head(`you say ${negative}`),
      head(`network: ${positive}`, called[0]), box(right, "1", positive), box(wrong, "2", negative),
      head(`network: ${negative}`, called[1]), box(missed, "3", positive), box(rightNot, "4", negative));
    const lines = Object.entries(spread).map(([by, counts]) => make("div", {}, make("span", { class: "ck-quiet" }, `${by} `),
      Object.entries(counts).map(([name, n]) => `${name} ${n}`).join(" · ") || "none"));
    return [
      make("div", { class: "ck-head" }, make("strong", {}, "Labels by category"), make("span", { class: "ck-advice" }, advice)),
      table, make("div", { class: "ck-tools ck-ways" }, make("span", { class: "ck-quiet" }, "or a batch"), ...ways.map((way, i) => Object.assign(tool(root, way, `${i + 5}`, () => open(way)), { ariaKeyShortcuts: `${i + 5}` }))),
      make("div", { class: "ck-spread" }, ...lines),
    ];
  }

  const press = (n) => () => body.querySelector(`[aria-keyshortcuts="${n}"]`)?.click();
  listen(root, {
    ...Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8].map((n) => [n, press(n)])), Escape: () => root.blur(),
    "?": () => help(root, [["1  2  3  4", "open a batch of a box"], ["5  6  7  8", "open a mixed, uncertain, diverse or random batch"], ["s", "in the gallery: a batch of what looks like this one"], ["Esc", "leave"]]),
  }, signal);
  model.on("msg:custom", receive);
  model.send({ op: "ready" });
  return () => model.off("msg:custom", receive);
}

export default { render };
