function sliceKeys({ keymap, box }, actions) {
  const once = (action) => Object.assign(action, { once: true });
  const keys = {
    ...Object.fromEntries(keymap.map(([key, answer]) => [key, once(() => actions.answer(answer))])),
    ArrowUp: () => actions.go(1), ArrowDown: () => actions.go(-1), "]": () => actions.go(1), "[": () => actions.go(-1),
    PageUp: () => actions.go(10), PageDown: () => actions.go(-10), Home: () => actions.end(-1), End: () => actions.end(1),
    ",": () => actions.frame(-1), ".": () => actions.frame(1),
    ArrowLeft: () => actions.pan(0, 60), ArrowRight: () => actions.pan(0, -60),
    "+": () => actions.zoom(1.25), "-": () => actions.zoom(0.8), "=": () => actions.zoom(1.25), f: actions.fit,
    t: once(() => actions.layout("three")), s: once(() => actions.layout("side")),
    b: once(() => actions.channel("background")), h: once(() => actions.channel("overlay")),
    m: () => actions.thicker(2), "Shift+m": () => actions.thicker(-2), "Shift+a": actions.automatic,
    v: () => actions.tool("look"), a: () => actions.tool("missed"), r: () => actions.tool("rectangle"), l: () => actions.tool("outline"),
    d: once(actions.done), "Shift+n": once(() => actions.box(1)), "Shift+p": once(() => (box ? actions.box(-1) : actions.before())),
    Enter: once(actions.close), n: once(actions.next), g: once(actions.gallery),
    z: once(actions.undo), "Ctrl+z": once(actions.undo), "Shift+z": once(actions.redo), "Ctrl+Shift+z": once(actions.redo), "Ctrl+y": once(actions.redo),
    "?": actions.help, Escape: actions.leave,
  };
  if (box) for (const name of ["g", "n", "r", "l", "Shift+z", "Ctrl+Shift+z", "Ctrl+y"]) delete keys[name]; // marks have no candidates
  return keys;
}

function sliceHelp({ keymap, roles, frames, shape, box, queued }) {
  const told = keymap.filter(([key, answer]) => answer && !/\d/.test(key));
  return [
    ["wheel  ↑  ↓", "next plane, plane before"], ["PgUp  PgDn", "ten planes"], ["Ctrl wheel", "zoom; so do + and -"], ["drag", "move the picture"],
    ["⇧drag", "contrast: up and down white, sideways black"], ["Shift+a", "contrast as measured in the image"],
    ["f", "fit the whole plane"], ["m  Shift+m", "project more planes, fewer"],
    ...(shape[0] > 1 ? [["t", "three planes, linked by the crosshair"]] : []),
    ...(roles.includes("background") ? [["s", "signal and background side by side"], ["b", "background channel"], ["h", "overlay: signal green, background magenta"]] : []),
    ...(frames > 1 ? [[",  .", "frame before, next frame"]] : []),
    ...(box ? [["a", "clicks mark cells; every cell whose centre lies in the box"], ["d", "all are marked: next box"], ["Shift+n  Shift+p", "next box, box before"], ["v", "clicks look"], ["z", "undo"], ["Esc", "leave"]] : [
    ["click", "select a candidate; in three planes, move the crosshair"], ...(queued ? [["n  Shift+p", "next open one of the queue, the one before"]] : [["n", "next one without a label"]]), ["g  2 × click", "open what is in view in the gallery"],
    ...told.map(([key, answer]) => [key, `the selected is ${answer}; without one, clicks label so`]),
    ["0", "take the answer of the selected back"], ["a", "clicks add missed cells"], ["r", "drag a rectangle: label a sample of it"],
    ["l", "outline a region: drag, or click corners and Enter"],
    ["v", "clicks select again"], ["z  Shift+z", "undo, redo"], ["Esc", "deselect, then leave"]]),
  ];
}

function sliceTools(data, { tool: chosen, shown, depth, layout }, actions, root) {
  const choose = (text, key, name) => tool(root, text, key, () => actions.tool(name), { pressed: chosen === name });
  const told = data.keymap.filter(([key, answer]) => answer && !/\d/.test(key));
  const group = (...nodes) => make("span", { class: "ck-group" }, ...nodes);
  const both = data.roles.includes("background");
  const label = [
    group(choose("select", "v", "look"), ...told.map(([key, answer]) => {
      const { letter, color } = data.styles[answer];
      return tool(root, answer, key, () => actions.answer(answer), { badge: letter, color, pressed: chosen === answer });
    }), tool(root, "clear", "0", () => actions.answer(""))),
    group(choose(`add missed ${data.classes[0]}`, "a", "missed"), choose("rectangle", "r", "rectangle"), choose("outline", "l", "outline")),
    group(tool(root, "undo", "z", actions.undo), tool(root, "redo", "⇧z", actions.redo), data.queued && tool(root, "before", "⇧p", actions.before), tool(root, "next", "n", actions.next), tool(root, "gallery", "g", actions.gallery)),
  ];
  const view = group(
    data.shape[0] > 1 && tool(root, "three planes", "t", () => actions.layout("three"), { pressed: layout === "three" }),
    both && tool(root, "side by side", "s", () => actions.layout("side"), { pressed: layout === "side" }),
    ...(both ? [["background", "b"], ["overlay", "h"]] : []).map(([name, key]) => tool(root, name, key, () => actions.channel(name), { pressed: shown === name })));
  const size = group(
    data.shape[0] > 1 && tool(root, "thicker", "m", () => actions.thicker(2), { title: "maximum projection over more planes (m)" }),
    data.shape[0] > 1 && tool(root, "thinner", "⇧m", () => actions.thicker(-2), { title: `maximum projection over fewer planes; now ${depth}` }),
    tool(root, "−", "", () => actions.zoom(0.8), { title: "zoom out (-)" }), tool(root, "+", "", () => actions.zoom(1.25), { title: "zoom in (+)" }),
    tool(root, "fit", "f", actions.fit));
  const marking = [
    group(choose(`mark ${data.classes[0]}`, "a", "missed"), choose("look", "v", "look"), tool(root, "undo", "z", actions.undo)),
    group(tool(root, "box done, next", "d", actions.done), tool(root, "later", "⇧n", () => actions.box(1)), tool(root, "box before", "⇧p", () => actions.box(-1))),
  ];
  return [...(data.box ? marking : data.judges ? [] : label), view, size];
}
