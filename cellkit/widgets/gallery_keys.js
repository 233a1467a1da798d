/** What every key of the gallery does; answers come from Python's keymap. */
function galleryKeys({ keymap }, actions) {
  const told = keymap.map(([key, answer]) => [key, Object.assign(() => actions.give(answer), { once: true })]);
  return {
    ...Object.fromEntries(told),
    z: actions.undo, "Ctrl+z": actions.undo,
    "Shift+z": actions.redo, "Ctrl+Shift+z": actions.redo, "Ctrl+y": actions.redo,
    f: actions.flip, b: actions.background, m: actions.thick, n: actions.next, "?": actions.help,
    " ": actions.toggle, "Ctrl+a": actions.all, Escape: actions.leave,
    "+": () => actions.resize(12), "-": () => actions.resize(-12),
    ArrowRight: () => actions.step(1), ArrowLeft: () => actions.step(-1),
    ArrowDown: () => actions.down(1), ArrowUp: () => actions.down(-1),
    "Shift+ArrowRight": () => actions.step(1, true), "Shift+ArrowLeft": () => actions.step(-1, true),
    "Shift+ArrowDown": () => actions.down(1, true), "Shift+ArrowUp": () => actions.down(-1, true),
    Home: () => actions.end(-1), End: () => actions.end(1),
  };
}

function galleryHelp({ keymap }) {
  const told = keymap.filter(([key]) => !/[1-9]/.test(key));
  return [
    ...told.map(([key, answer]) => [key, answer || "take the answer back"]),
    ["f", "flip to the other class; so does a double click"], ["z  Shift+z", "undo, redo"],
    ["arrows", "move; with Shift, select"], ["drag", "select; so does a click with Shift or Ctrl"],
    ["space", "select this one too"], ["Ctrl+a", "select all"], ["n", "next open one"], ["Home  End", "first, last"],
    ["b", "background channel"], ["m", "maximum projection"], ["+  -", "larger, smaller"], ["Esc", "deselect, then leave"],
  ];
}

function galleryTools({ keymap, classes, styles }, actions, root) {
  const told = keymap.filter(([key, answer]) => answer && !/\d/.test(key));
  const title = "The selected, or all that are still open";
  return [
    make("span", { class: "ck-group" },
      ...told.map(([key, answer]) => {
        const { letter, color } = styles[answer];
        return tool(root, answer, key, () => actions.give(answer), { badge: letter, color });
      }),
      tool(root, "clear", "0", () => actions.give(""))),
    make("span", { class: "ck-group" },
      ...classes.map((name) => tool(root, `all ${name}`, "", () => actions.giveOpen(name), { title })),
      tool(root, "flip", "f", actions.flip)),
    make("span", { class: "ck-group" },
      tool(root, "undo", "z", actions.undo), tool(root, "redo", "⇧z", actions.redo), tool(root, "select all", "⌃a", actions.all)),
  ];
}

function viewTools({ background }, view, actions, root) {
  return [
    make("span", { class: "ck-group" },
      background && tool(root, "background", "b", actions.background, { pressed: view.background }),
      tool(root, "projection", "m", actions.thick, { pressed: view.thick }),
      tool(root, "−", "", () => actions.resize(-12), { title: "smaller (-)" }),
      tool(root, "+", "", () => actions.resize(12), { title: "larger (+)" })),
  ];
}
