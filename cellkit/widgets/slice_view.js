const MOST = 1024; // a plane is fetched whole up to so many pixels of its longer side, else what is on the screen
const AHEAD = 3; // planes that are asked for before they are wanted
const PASSING = 8; // as many while planes pass
const KEPT = 72;
const QUICK = 4; // planes that one picture may go through before it is read apart from the rest
const FINE = 512 * 512; // pixels of a picture that is fetched as it is even while planes pass

/** Parts of planes: the newest wish of each picture is asked for first, and the last ones are kept.
    Pictures that go through many planes are slow: they come as they grow, and a newer wish ends an older one. */
function planeShelf(model, onarrival) {
  const kept = new Map();
  const underway = new Set();
  const urgent = new Set(); // of those under way, what was wished for
  const wishes = new Map();
  const slowly = new Map(); // the slow picture that is being read for a pane
  const keyOf = (request) => JSON.stringify(request);
  function pump() {
    for (const name of [...wishes.keys()].sort()) {
      const key = keyOf(wishes.get(name));
      if (!kept.has(key) && !underway.has(key)) {
        if (urgent.size >= 2) return;
        if (post(model, { op: "view", ...wishes.get(name), key })) [underway, urgent].forEach((each) => each.add(key));
      }
      wishes.delete(name);
    }
  }
  function slow(name, request, key, near) {
    if (slowly.get(name) !== key && post(model, { op: "view", ...request, key, pane: name, near })) slowly.set(name, key);
    return kept.get(key) ?? null;
  }
  function keep({ key, pane, partial = false, rows, columns, ...shown }, buffers) {
    [underway, urgent].forEach((each) => each.delete(key));
    if (!partial && slowly.get(pane) === key) slowly.delete(pane);
    const { box, step } = shown;
    kept.set(key, { ...JSON.parse(key), ...(box ? { box, step } : {}), partial, rows, columns, pixels: buffers.map(words) });
    for (const old of [...kept.keys()].slice(0, Math.max(0, kept.size - KEPT))) kept.delete(old);
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
    /** Fetch what is or will be wanted, in one message, when nothing else is under way: the first, or half of it, is missing. */
    expect(requests, passing) {
      if ((wishes.size && !passing) || underway.size) return;
      const missing = requests.filter((request) => !request.slow && !kept.has(keyOf(request)));
      if (!missing.length || (missing.length < requests.length / 2 && missing[0] !== requests[0])) return;
      const views = missing.map((request) => ({ ...request, key: keyOf(request) }));
      if (post(model, { op: "views", views })) views.forEach(({ key }) => underway.add(key));
    },
    /** Take the pictures of one message, each with a buffer a channel. */
    arriveAll({ views }, buffers) {
      let first = 0;
      for (const { channels, ...view } of views) keep(view, buffers.slice(first, (first += channels)));
      pump();
      onarrival();
    },
    arrive(view, buffers) {
      keep(view, buffers);
      pump();
      onarrival();
    },
    /** What was asked for did not come: `key`, or any of many. */
    fail(key) { for (const each of [underway, urgent]) if (key) each.delete(key); else each.clear(); },
    peek: (request) => kept.get(keyOf(request)) ?? null,
    /** Begin anew, with another image or another kernel. */
    clear() { for (const each of [kept, underway, urgent, wishes, slowly]) each.clear(); },
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
