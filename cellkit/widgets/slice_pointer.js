/** What pointer and wheel do in one picture; `hands` says what to do with it. */
function handle(pane, root, hands, signal) {
  const { node } = pane;

  function follow(down, onmove, onend) {
    const stop = new AbortController();
    let last = spot(node, down);
    const start = last;
    let moved = false;
    node.setPointerCapture(down.pointerId);
    node.addEventListener("pointermove", (event) => {
      const now = spot(node, event);
      moved ||= Math.hypot(now.x - start.x, now.y - start.y) > 4;
      if (moved) onmove(now, { down: now.y - last.y, right: now.x - last.x });
      last = now;
    }, { signal: stop.signal });
    for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => { stop.abort(); onend(moved, start); }, { signal: stop.signal });
  }

  node.addEventListener("pointerdown", (down) => {
    if (!hands.ready() || down.button === 1) return;
    root.focus({ preventScroll: true });
    const start = spot(node, down);
    if (down.button === 2 || down.shiftKey) return follow(down, (_, by) => hands.contrast(by), () => {});
    if (hands.tool() === "rectangle" && pane.along === 0) return rubberBand(node, down, () => {}, (moved, box) => (moved ? hands.box(pane, box) : hands.click(pane, start)));
    if (hands.tool() === "outline" && pane.along === 0) return follow(down, (now) => hands.corner(pane, now), (moved) => (moved ? hands.close() : hands.corner(pane, start, true)));
    follow(down, (_, by) => hands.pan(pane, by.down, by.right), (moved) => { if (!moved) hands.click(pane, start); });
  }, { signal });
  node.addEventListener("dblclick", () => hands.ready() && hands.open(), { signal });
  node.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
  node.addEventListener("wheel", (event) => {
    if (!root.contains(document.activeElement)) return; // else the page could not be scrolled past
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      const at = spot(node, event);
      hands.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, pane, at.y, at.x);
    } else hands.go(Math.sign(event.deltaY), pane.along);
  }, { signal, passive: false });
}
