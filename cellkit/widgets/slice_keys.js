function sliceKeys({ keymap }, actions) {
  const once = (action) => Object.assign(action, { once: true });
  return {
    ...Object.fromEntries(keymap.map(([key, answer]) => [key, once(() => actions.answer(answer))])),
    ArrowUp: () => actions.go(1), ArrowDown: () => actions.go(-1), "]": () => actions.go(1), "[": () => actions.go(-1),
    PageUp: () => actions.go(10), PageDown: () => actions.go(-10), Home: () => actions.end(-1), End: () => actions.end(1),
    ArrowLeft: () => actions.pan(0, 60), ArrowRight: () => actions.pan(0, -60),
    "+": () => actions.zoom(1.25), "-": () => actions.zoom(0.8), "=": () => actions.zoom(1.25), f: actions.fit,
    b: once(() => actions.channel("background")), o: once(() => actions.channel("overlay")),
    m: () => actions.thicker(2), "Shift+m": () => actions.thicker(-2),
    v: () => actions.tool("look"), a: () => actions.tool("missed"), r: () => actions.tool("rectangle"),
    z: once(actions.undo), "Ctrl+z": once(actions.undo), "Shift+z": once(actions.redo), "Ctrl+Shift+z": once(actions.redo), "Ctrl+y": once(actions.redo),
    "?": actions.help, Escape: actions.leave,
  };
}

function sliceHelp({ keymap, roles }) {
  const told = keymap.filter(([key, answer]) => answer && !/\d/.test(key));
  return [
    ["wheel  ↑  ↓", "next plane, plane before"], ["PgUp  PgDn", "ten planes"], ["Ctrl wheel  +  -", "zoom"], ["drag", "move the picture"],
    ["f", "fit the whole plane"], ["m  Shift+m", "project more planes, fewer"],
    ...(roles.includes("background") ? [["b", "background channel"], ["o", "overlay: signal green, background magenta"]] : []),
    ["click", "select a candidate"],
    ...told.map(([key, answer]) => [key, `the selected is ${answer}; without one, clicks label so`]),
    ["0", "take the answer of the selected back"], ["a", "clicks add missed cells"], ["r", "drag a rectangle: label a sample of it"],
    ["v", "clicks select again"], ["z  Shift+z", "undo, redo"], ["Esc", "deselect, then leave"],
  ];
}

function sliceTools(data, { toolName, shown, depth }, actions, root) {
  const choose = (text, key, name, options = {}) => tool(root, text, key, () => actions.tool(name), { ...options, pressed: toolName === name });
  const told = data.keymap.filter(([key, answer]) => answer && !/\d/.test(key));
  const label = [
    choose("look", "v", "look"),
    ...told.map(([key, answer]) => {
      const { letter, color } = data.styles[answer];
      return tool(root, answer, key, () => actions.answer(answer), { badge: letter, color, pressed: toolName === answer });
    }),
    tool(root, "clear", "0", () => actions.answer("")),
    choose(`add missed ${data.classes[0]}`, "a", "missed"),
    choose("sample a rectangle", "r", "rectangle"),
  ];
  return [
    make("span", { class: "ck-group" }, ...(data.judges ? label.slice(0, 1) : label)),
    !data.judges && make("span", { class: "ck-group" }, tool(root, "undo", "z", actions.undo), tool(root, "redo", "⇧z", actions.redo)),
    make("span", { class: "ck-group" },
      ...(data.roles.includes("background") ? ["background", "overlay"] : []).map((name) => tool(root, name, name[0], () => actions.channel(name), { pressed: shown === name })),
      data.shape[0] > 1 && tool(root, "thicker", "m", () => actions.thicker(2), { title: `maximum projection over more planes (m); now ${depth}` }),
      data.shape[0] > 1 && tool(root, "thinner", "⇧m", () => actions.thicker(-2)),
      tool(root, "−", "", () => actions.zoom(0.8), { title: "zoom out (-)" }), tool(root, "+", "", () => actions.zoom(1.25), { title: "zoom in (+)" }),
      tool(root, "fit", "f", actions.fit)),
  ].filter(Boolean);
}

/** The legend: a sign, a count and a tick for every group of candidates that there is. */
function legendRows({ classes: [positive, negative], styles }, groups, hidden, redraw) {
  const counts = new Map();
  for (const name of groups) counts.set(name, (counts.get(name) ?? 0) + 1);
  const labelled = [positive, negative, "unsure"].map((name) => [`labelled ${name}`, styles[name].letter, styles[name].color]);
  const called = [[`called ${positive}`, "○", styles[positive].mark], [`called ${negative}`, "×", styles[negative].mark], ["not called", "□", styles.unsure.mark]];
  return [...labelled, ...called].filter(([name]) => counts.has(name)).map(([name, sign, color]) => {
    const box = make("input", { type: "checkbox" });
    box.checked = !hidden.has(name);
    box.addEventListener("change", () => { if (!hidden.delete(name)) hidden.add(name); redraw(); });
    const badge = make("span", { class: name.startsWith("labelled") ? "ck-badge" : "ck-sign", style: `--ck-answer:${color}` }, sign);
    return make("label", { class: "ck-entry" }, box, badge, make("span", {}, name), make("b", {}, counts.get(name)));
  });
}
