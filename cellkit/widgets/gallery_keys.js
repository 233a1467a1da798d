/** What every key of the gallery does; answers come from Python's keymap. */
function galleryKeys({ keymap }, actions) {
  const told = keymap.map(([key, answer]) => [key, Object.assign(() => actions.give(answer), { once: true })]);
  return {
    ...Object.fromEntries(told),
    z: actions.undo, "Ctrl+z": actions.undo,
    "Shift+z": actions.redo, "Ctrl+Shift+z": actions.redo, "Ctrl+y": actions.redo,
    f: actions.flip, b: actions.background, m: actions.thick, n: actions.next, s: actions.similar, e: actions.large, Enter: actions.large, "?": actions.help,
    " ": actions.toggle, "Ctrl+a": actions.all, Escape: actions.leave,
    "+": () => actions.resize(12), "-": () => actions.resize(-12),
    ArrowRight: () => actions.step(1), ArrowLeft: () => actions.step(-1),
    ArrowDown: () => actions.down(1), ArrowUp: () => actions.down(-1),
    "Shift+ArrowRight": () => actions.step(1, true), "Shift+ArrowLeft": () => actions.step(-1, true),
    "Shift+ArrowDown": () => actions.down(1, true), "Shift+ArrowUp": () => actions.down(-1, true),
    Home: () => actions.end(-1), End: () => actions.end(1),
  };
}

function galleryHelp({ keymap, similar }) {
  const told = keymap.filter(([key]) => !/[1-9]/.test(key));
  return [
    ...told.map(([key, answer]) => [key, answer || "take the answer back"]),
    ["f", "flip to the other class; so does a double click"], ["z  Shift+z", "undo, redo"],
    ["arrows", "move; with Shift, select"], ["drag", "select; so does a click with Shift or Ctrl"],
    ["space", "select this one too"], ["Ctrl+a", "select all"], ["n", "next open one"], ...(similar ? [["s", "open a batch of what looks like this one"]] : []), ["Home  End", "first, last"],
    ["e  Enter", "look at it closely, and back"], ["b", "background channel"], ["m", "maximum projection"], ["+  -", "larger, smaller"], ["Esc", "deselect, then leave"],
  ];
}

const [PAUSE_MS, FOR_A_PACE] = [60000, 10]; // longer is a pause, no pace; fewer answers tell none

/** How fast answers come, and how long the open ones take at that pace. */
function makePace() {
  let [answered, spent, last] = [0, 0, performance.now()];
  return {
    note(many) {
      const passed = performance.now() - last;
      if (passed < PAUSE_MS) { spent += passed; answered += many; }
      last += passed;
    },
    say(open) {
      if (answered < FOR_A_PACE || !open) return "";
      const perMinute = answered / (spent / 60000), left = Math.ceil(open / perMinute);
      return `${Math.round(perMinute)} a minute, ${left > 90 ? `${Math.ceil(left / 60)} hours` : `${left} min`} left`;
    },
  };
}

/** The title and the counts of the answers, how many rows are open and how long they will take. */
function galleryHead({ title, styles, noted }, answers, pace) {
  const counts = Object.fromEntries([...Object.keys(styles), ""].map((name) => [name, 0]));
  for (const told of answers) counts[told] += 1;
  const [bar, text] = progressBar(styles, counts, answers.length);
  const nodes = [make("strong", {}, title), text, make("span", { class: "ck-quiet ck-pace" }, pace.say(counts[""])), noted && make("span", { class: "ck-noted" }, noted)].filter(Boolean);
  return { nodes, bar, open: counts[""] };
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

function viewTools(data, view, actions, root) {
  const { background } = data;
  const { orders, groups } = orderChoices(data);
  const choice = (label, names, chosen, act) => names.length > 1 && make("label", { class: "ck-show" }, make("span", { class: "ck-quiet" }, label), picker(label, names, chosen, (name) => { act(name); root.focus({ preventScroll: true }); }));
  return [
    choice("order", orders, view.order, actions.sort), choice("groups", groups, view.group, actions.group),
    make("span", { class: "ck-group" },
      background && tool(root, "background", "b", actions.background, { pressed: view.background }),
      tool(root, "projection", "m", actions.thick, { pressed: view.thick }),
      data.similar && tool(root, "similar ones", "s", actions.similar, { title: "open a batch of what looks like this one (s)" }),
      tool(root, "next open", "n", actions.next),
      tool(root, "close up", "e", actions.large, { pressed: view.large }),
      tool(root, "−", "", () => actions.resize(-12), { title: "smaller (-)" }),
      tool(root, "+", "", () => actions.resize(12), { title: "larger (+)" })),
  ].filter(Boolean);
}

/** What is known of the candidate that is looked at. */
function aboutRow({ rows, styles, classes, width_um: wide }, index, place, answer) {
  const row = rows[index];
  const style = styles[answer];
  const opinion = row.p == null ? null : `p ${row.p.toFixed(2)}, called ${classes[row.called ? 0 : 1]}`;
  return [
    make("div", { class: "ck-answer" }, style && make("span", { class: "ck-badge", style: `--ck-answer:${style.color}` }, style.letter), style ? ` ${answer}` : "open"),
    make("div", {}, `${place + 1} of ${rows.length} · ${row.image}`),
    make("div", {}, `${wide.toFixed(0)} µm wide, at z ${row.z_um.toFixed(0)}  y ${row.y_um.toFixed(0)}  x ${row.x_um.toFixed(0)} µm`),
    opinion && make("div", { title: row.network ?? "" }, opinion),
    row.note && make("div", {}, row.note),
  ].filter(Boolean);
}
