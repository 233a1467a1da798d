const MOST = 1024; // a plane is fetched whole up to so many pixels of its longer side, else what is on the screen
const AHEAD = 3; // planes that are asked for before they are wanted
const KEPT = 72;
const QUICK = 4; // planes that one picture may go through before it is read apart from the rest

/** Parts of planes: the newest wish of each picture is asked for first, and the last ones are kept.
    Pictures that go through many planes are slow: they come as they grow, and a newer wish ends an older one. */
function planeShelf(model, onarrival) {
  const kept = new Map();
  const underway = new Set();
  const wishes = new Map();
  const slowly = new Map(); // the slow picture that is being read for a pane
  const keyOf = (request) => JSON.stringify(request);
  function send(request, key) {
    if (post(model, { op: "view", ...request, key })) underway.add(key);
  }
  function pump() {
    for (const name of [...wishes.keys()].sort()) {
      const key = keyOf(wishes.get(name));
      if (!kept.has(key) && !underway.has(key)) {
        if (underway.size >= 2) return;
        send(wishes.get(name), key);
      }
      wishes.delete(name);
    }
  }
  function slow(name, request, key, near) {
    if (slowly.get(name) !== key && post(model, { op: "view", ...request, key, pane: name, near })) slowly.set(name, key);
    return kept.get(key) ?? null;
  }
  return {
    get(name, request, near) {
      const key = keyOf(request);
      const found = kept.get(key);
      if (found) {
        kept.delete(key);
        kept.set(key, found);
        wishes.delete(name);
        if (!found.partial) return found;
      }
      if (request.slow) return slow(name, request, key, near);
      wishes.set(name, request);
      pump();
      return null;
    },
    /** Fetch what will probably be wanted next, if nothing else is. */
    expect(requests) {
      if (wishes.size) return;
      for (const request of requests) {
        const key = keyOf(request);
        if (underway.size < AHEAD && !request.slow && !kept.has(key) && !underway.has(key)) send(request, key);
      }
    },
    arrive({ key, pane, partial = false, rows, columns, ...shown }, buffers) {
      underway.delete(key);
      if (!partial && slowly.get(pane) === key) slowly.delete(pane);
      const { box, step } = shown;
      kept.set(key, { ...JSON.parse(key), ...(box ? { box, step } : {}), partial, rows, columns, pixels: buffers.map(words) });
      for (const old of [...kept.keys()].slice(0, Math.max(0, kept.size - KEPT))) kept.delete(old);
      pump();
      onarrival();
    },
    fail(key) { underway.delete(key); },
    /** Begin anew, with another image or another kernel. */
    clear() { for (const each of [kept, underway, wishes, slowly]) each.clear(); },
  };
}

/** What is looked at: `at` in the middle of every picture, z, y, x in µm, at `scale` screen pixels per µm. */
function camera() {
  const cam = { scale: 1, at: [0, 0, 0] };
  return Object.assign(cam, {
    /** Zoom, and keep the place under the pointer where it is. */
    zoom(by, pane, top = pane.height / 2, left = pane.width / 2) {
      const [down, across] = pane.where(cam, top, left);
      cam.scale = Math.min(Math.max(cam.scale * by, 0.005), 60);
      cam.at[pane.down] = down - (top - pane.height / 2) / cam.scale;
      cam.at[pane.across] = across - (left - pane.width / 2) / cam.scale;
    },
    /** Show no more of what lies beyond an image of these sides in µm than must be. */
    keepInside(pane, sides) {
      for (const [axis, pixels] of [[pane.down, pane.height], [pane.across, pane.width]]) {
        const half = pixels / cam.scale / 2;
        cam.at[axis] = 2 * half >= sides[axis] ? sides[axis] / 2 : Math.min(Math.max(cam.at[axis], half), sides[axis] - half);
      }
    },
    pan(pane, down, right) {
      cam.at[pane.down] -= down / cam.scale;
      cam.at[pane.across] -= right / cam.scale;
    },
  });
}
