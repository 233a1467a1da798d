// Shared by all screens; put in front of each screen's own module.
const SPAN = 5; // pixels come as uint16: 0 is one display range below black, 65535 is four above black
const SVG = "http://www.w3.org/2000/svg";

/** Make an element; text always goes in as text, never as HTML. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "circle", "line", "text", "g"].includes(tag);
  const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

/** A button that shows its key; every key has one. */
function button(text, key, action, { badge = null, color = null, title = "" } = {}) {
  return make(
    "button",
    { type: "button", class: "ck-button", title: title || (key ? `${text} (${key})` : text), onclick: action },
    badge && make("span", { class: "ck-badge", style: `--ck-answer:${color}` }, badge),
    make("span", {}, text),
    key && make("kbd", {}, key),
  );
}

/** A button that hands the keyboard back to the screen. */
function tool(root, text, key, action, options = {}) {
  const node = button(text, key, () => { action(); root.focus({ preventScroll: true }); }, options);
  if (options.pressed !== undefined) node.setAttribute("aria-pressed", options.pressed);
  return node;
}

/** The root of a screen: focusable, deaf to Jupyter's own shortcuts, with a place for errors and for speech. */
function screen(name, label) {
  const alert = make("div", { class: "ck-alert", role: "alert", hidden: true });
  const spoken = make("div", { class: "ck-spoken", role: "status", "aria-live": "polite" });
  const root = make("div", {
    class: `ck ck-${name}`, tabindex: 0, role: "region", "aria-label": label,
    "data-lm-suppress-shortcuts": "true", "data-ready": "0", "data-rev": "0",
  });
  const close = make("button", { type: "button", class: "ck-close", "aria-label": "Close", onclick: () => { fail(""); root.focus({ preventScroll: true }); } }, "×");
  /** Show what went wrong, and whether an answer was lost by it; "" closes it. */
  function fail(text, unsaved = false) {
    alert.replaceChildren(make("span", {}, text), close);
    alert.hidden = !text;
    Object.assign(root.dataset, { failed: text ? "1" : "0", unsaved: text && unsaved ? "1" : "0" });
    root.dispatchEvent(new Event("ck-told"));
  }
  root.append(alert, spoken);
  return { root, fail, say: (text) => (spoken.textContent = text) };
}

/** What the keys do, over the screen; `?` opens it, any key closes it. */
function help(root, rows, more = null) {
  const old = root.querySelector(".ck-help");
  if (old) return old.remove();
  const lines = rows.map(([key, what]) => make("div", {},
    make("dt", {}, ...key.split("  ").map((each) => make("kbd", {}, each))), make("dd", {}, what)));
  const close = make("button", { type: "button", class: "ck-close", "aria-label": "Close" }, "×");
  const card = make("div", { class: "ck-help", role: "dialog", "aria-label": "Keys" },
    make("div", { class: "ck-help-card" }, make("strong", {}, "Keys"), close, make("dl", {}, ...lines), more));
  card.addEventListener("click", () => { card.remove(); root.focus(); });
  root.append(card);
}

/** Buttons that let another letter give an answer; Python keeps it, or says why not. */
function keyChoices({ keymap, styles }, model) {
  const told = keymap.filter(([key, answer]) => answer && !/\d/.test(key));
  const choices = told.map(([key, answer]) => {
    const shown = make("kbd", {}, key);
    const choice = make("button", { type: "button", class: "ck-button", "data-remap": answer },
      make("span", { class: "ck-badge", style: `--ck-answer:${styles[answer].color}` }, styles[answer].letter), make("span", {}, answer), shown);
    choice.addEventListener("click", () => { shown.textContent = "press a letter"; choice.focus(); });
    choice.addEventListener("keydown", (event) => {
      if (event.key.length !== 1 || shown.textContent !== "press a letter") return;
      event.preventDefault();
      event.stopPropagation();
      post(model, { op: "remap", key: event.key.toLowerCase(), answer });
    });
    return choice;
  });
  if (!told.length) return null;
  const box = make("div", { class: "ck-remap" }, make("span", { class: "ck-quiet" }, "Other keys: click, then press a letter"), ...choices);
  box.addEventListener("click", (event) => event.stopPropagation());
  return box;
}

/** A drop-down of names. */
function picker(label, names, chosen, onpick) {
  const choice = make("select", { class: "ck-select", "aria-label": label }, ...names.map((name) => make("option", { value: name }, name)));
  choice.value = chosen;
  choice.addEventListener("change", () => onpick(choice.value));
  return choice;
}

/** The name of a pressed key, the same on every keyboard: "c", "Shift+z", "Ctrl+a", "ArrowUp", "1". */
function keyName(event) {
  const digit = /^(Digit|Numpad)(\d)$/.exec(event.code);
  const plain = digit && !event.shiftKey ? digit[2] : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const shift = event.shiftKey && (plain.length > 1 || /[a-z]/.test(plain)) ? "Shift+" : "";
  return (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + shift + plain;
}

/** Send a message; false if the kernel is gone. */
function post(model, message) {
  try {
    model.send(message);
    return true;
  } catch {
    return false;
  }
}

/** Run what a key stands for; keys of the screen never reach the notebook. */
function listen(root, keys, signal) {
  root.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
    if (event.isComposing || event.altKey || typing) return;
    const sheet = root.querySelector(".ck-help");
    const name = keyName(event);
    const isButton = event.target.matches("button, summary") && (name === " " || name === "Enter");
    const isSlider = event.target.matches("input") && /^(Arrow|Home|End| )/.test(name);
    if (sheet) sheet.remove();
    else if (isButton || isSlider || !keys[name]) return;
    else if (!(event.repeat && keys[name].once)) keys[name](event);
    event.preventDefault();
    event.stopPropagation();
  }, { signal });
}

/** Rows of a table that Python packed in columns: numbers as they are, words by their codes; null where there is none. */
function unpackTable(columns, buffers, n) {
  const rows = Array.from({ length: n }, () => ({}));
  columns.forEach(({ name, words: known }, i) => {
    const { buffer, byteOffset } = buffers[i];
    const values = new (known ? Uint32Array : Float32Array)(buffer.slice(byteOffset, byteOffset + 4 * n));
    rows.forEach((row, k) => (row[name] = known ? known[values[k]] ?? null : Number.isNaN(values[k]) ? null : values[k]));
  });
  return rows;
}

/** Words of 16 bits in a message's buffer, wherever it starts. */
function words(buffer) {
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  return new Uint16Array(bytes.slice().buffer);
}

/** A table from uint16 to the four bytes of a grey pixel: black at `low`, white at `high`, in display ranges. */
function greys(low, high) {
  const name = `${low} ${high}`;
  if (TABLES.has(name)) return TABLES.get(name);
  const table = new Uint32Array(65536);
  const scale = 255 / Math.max(high - low, 1e-3);
  for (let u = 0; u < 65536; u += 1) {
    const grey = Math.round(Math.min(Math.max(((u / 65535) * SPAN - 1 - low) * scale, 0), 255));
    table[u] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  TABLES.set(name, table);
  for (const old of [...TABLES.keys()].slice(0, Math.max(0, TABLES.size - 8))) TABLES.delete(old);
  return table;
}
const TABLES = new Map();

/** Paint grey pixels; with a second channel, the first in green and the second in magenta. */
function paint(canvas, pixels, table, over = null, overTable = null) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const image = context.createImageData(canvas.width, canvas.height);
  const out = new Uint32Array(image.data.buffer);
  if (over) for (let i = 0; i < pixels.length; i += 1) out[i] = (table[pixels[i]] & 0xff00ff00) | (overTable[over[i]] & 0x00ff00ff);
  else for (let i = 0; i < pixels.length; i += 1) out[i] = table[pixels[i]];
  context.putImageData(image, 0, 0);
}

/** A labelled slider. */
function slider(label, { min, max, step, value, onmove }) {
  const input = make("input", { type: "range", min, max, step, "aria-label": label, title: label });
  input.value = value;
  input.addEventListener("input", () => onmove(Number(input.value)));
  return { node: make("label", { class: "ck-slider" }, make("span", {}, label), input), input };
}

/** Two sliders for black and white, in display ranges of the channel. */
function contrast(limits, redraw) {
  const set = (name) => (value) => { limits[name] = value; redraw(); };
  const black = slider("black", { min: -0.5, max: 0.9, step: 0.02, value: limits.low, onmove: set("low") });
  const white = slider("white", { min: 0.1, max: 3.5, step: 0.02, value: limits.high, onmove: set("high") });
  return make("span", { class: "ck-contrast" }, black.node, white.node);
}

/** A bar of counts by answer, each with its letter. */
function progressBar(styles, counts, n) {
  const bar = make("div", { class: "ck-bar", role: "img", "aria-label": `${n - counts[""]} of ${n} answered` });
  const text = make("span", { class: "ck-count" }, make("b", {}, `${n - counts[""]}`), ` of ${n}`);
  for (const [name, { letter, color }] of Object.entries(styles)) {
    bar.append(make("i", { style: `width:${(100 * counts[name]) / Math.max(n, 1)}%;background:${color}` }));
    text.append(make("span", { class: "ck-tally" }, make("span", { class: "ck-badge", style: `--ck-answer:${color}` }, letter), ` ${counts[name]} ${name}`));
  }
  return [bar, text];
}

/** A place in a scrolling box, from where the pointer is; `edge`: where the box lies, if that is known. */
function spot(box, event, edge = box.getBoundingClientRect()) {
  return { x: event.clientX - edge.left + box.scrollLeft, y: event.clientY - edge.top + box.scrollTop };
}

/** Drag a rectangle over a box: `onmove(rectangle)` while it grows, `onend(moved, rectangle)` when it is let go. */
function rubberBand(box, down, onmove, onend) {
  const parts = Array.from({ length: 5 }, () => make("i", {})); // the area and its four edges: moved and stretched, never painted again
  const band = make("div", { class: "ck-band" }, ...parts);
  const stop = new AbortController();
  let edge = box.getBoundingClientRect();
  const from = spot(box, down, edge);
  let drawn = null;
  let last = down;
  let rolling = 0;
  /** At the edge of a box that scrolls, the box rolls on under the pointer. */
  const roll = () => {
    rolling = requestAnimationFrame(roll);
    const by = last.clientY > edge.bottom - 16 ? 14 : last.clientY < edge.top + 16 ? -14 : 0;
    if (!drawn || !by) return;
    const before = box.scrollTop;
    box.scrollTop += by;
    if (box.scrollTop !== before) follow();
  };
  const follow = () => {
    const to = spot(box, last, edge);
    if (!drawn && Math.hypot(to.x - from.x, to.y - from.y) < 5) return;
    drawn = { left: Math.min(from.x, to.x), top: Math.min(from.y, to.y), width: Math.abs(to.x - from.x), height: Math.abs(to.y - from.y) };
    if (!band.isConnected) {
      box.append(band);
      box.setPointerCapture(down.pointerId);
    }
    const { left, top, width, height } = drawn;
    const places = [[left, top, width, height], [left, top, width, 2], [left, top + height, width, 2], [left, top, 2, height], [left + width, top, 2, height]];
    places.forEach(([x, y, wide, high], i) => (parts[i].style.transform = `translate(${x}px, ${y}px) scale(${wide}, ${high})`));
    onmove(drawn);
  };
  const move = (event) => {
    [last, edge] = [event, box.getBoundingClientRect()];
    follow();
  };
  const up = () => {
    stop.abort();
    cancelAnimationFrame(rolling);
    band.remove();
    onend(drawn !== null, drawn);
  };
  rolling = requestAnimationFrame(roll);
  box.addEventListener("pointermove", move, { signal: stop.signal });
  for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, up, { signal: stop.signal });
}
