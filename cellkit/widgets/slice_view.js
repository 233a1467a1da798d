const MOST = 1024; // a plane is fetched whole up to so many pixels of its longer side, else what is on the screen
const AHEAD = 3; // planes that are asked for before they are wanted
const KEPT = 72;

/** Parts of planes: the newest wish of each picture is asked for first, and the last ones are kept. */
function planeShelf(model, onarrival) {
  const kept = new Map();
  const underway = new Set();
  const wishes = new Map();
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
  return {
    get(name, request) {
      const key = keyOf(request);
      const found = kept.get(key);
      if (found) {
        kept.delete(key);
        kept.set(key, found);
        wishes.delete(name);
        return found;
      }
      wishes.set(name, request);
      pump();
      return null;
    },
    /** Fetch what will probably be wanted next, if nothing else is. */
    expect(requests) {
      if (wishes.size) return;
      for (const request of requests) {
        const key = keyOf(request);
        if (underway.size < AHEAD && !kept.has(key) && !underway.has(key)) send(request, key);
      }
    },
    arrive(message, buffers) {
      underway.delete(message.key);
      kept.set(message.key, { ...JSON.parse(message.key), rows: message.rows, columns: message.columns, pixels: buffers.map(words) });
      for (const key of [...kept.keys()].slice(0, Math.max(0, kept.size - KEPT))) kept.delete(key);
      pump();
      onarrival();
    },
    fail(key) { underway.delete(key); },
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
    pan(pane, down, right) {
      cam.at[pane.down] -= down / cam.scale;
      cam.at[pane.across] -= right / cam.scale;
    },
  });
}
