/** Candidates and labels of the shown frame, as numbers; Python sends all of them once, then what changes. */
function pointShelf() {
  const shelf = {
    n: 0, zyx: new Float32Array(0), p: new Float32Array(0), call: new Uint8Array(0), answer: new Uint8Array(0),
    answers: [], classes: [], mask: new Uint8Array(0), passed: new Set(), counts: [0, 0, 0, 0, 0, 0, 0], visible: 0,
    filter: { hidden: new Set(), kind: "all", low: 0, high: 1 },

    open({ answers, classes }) { Object.assign(shelf, { answers, classes }); },

    fill({ n }, buffers) {
      shelf.n = 0;
      shelf.passed.clear();
      shelf.add(n, buffers);
    },

    add(n, [numbers, codes]) {
      const float = new Float32Array(numbers.buffer.slice(numbers.byteOffset, numbers.byteOffset + numbers.byteLength));
      const grown = (old, size, Kind) => { const array = new Kind(size); array.set(old.subarray(0, Math.min(old.length, size))); return array; };
      const from = shelf.n;
      shelf.n += n;
      shelf.zyx = grown(shelf.zyx, 3 * shelf.n, Float32Array);
      shelf.p = grown(shelf.p, shelf.n, Float32Array);
      shelf.call = grown(shelf.call, shelf.n, Uint8Array);
      shelf.answer = grown(shelf.answer, shelf.n, Uint8Array);
      for (let i = 0; i < n; i += 1) {
        shelf.zyx.set(float.subarray(4 * i, 4 * i + 3), 3 * (from + i));
        shelf.p[from + i] = float[4 * i + 3];
        shelf.call[from + i] = codes.getUint8(2 * i);
        shelf.answer[from + i] = codes.getUint8(2 * i + 1);
      }
      shelf.sift();
    },

    change({ rows, codes, n }, buffers) {
      rows.forEach((row, i) => (shelf.answer[row] = codes[i]));
      if (n) shelf.add(n, buffers);
      else shelf.sift();
    },

    told: (i) => shelf.answers[shelf.answer[i]],
    gone: (i) => shelf.answer[i] === 4,
    at: (i) => shelf.zyx.subarray(3 * i, 3 * i + 3),
    /** What a point looks like: what a person said, else what the network calls it. */
    look: (i) => ["", "positive", "negative", "open"][shelf.answer[i]] || ["negative", "positive", "open"][shelf.call[i]],
    /** The number of a point's group: 0 to 2 by the call, 3 to 5 by the answer, 6 if it is gone. */
    group: (i) => (shelf.answer[i] ? 2 + shelf.answer[i] : shelf.call[i]),
    get groups() {
      const [positive, negative] = shelf.classes;
      return [`called ${negative}`, `called ${positive}`, "not called", `labelled ${positive}`, `labelled ${negative}`, "labelled unsure"];
    },
    category(i) {
      const [call, answer] = [shelf.call[i], shelf.answer[i]];
      if (call > 1 || answer < 1 || answer > 2) return "";
      const [positive, negative] = shelf.classes;
      if ((answer === 1) === (call === 1)) return `correct ${answer === 1 ? positive : negative}`;
      return answer === 1 ? `missed ${positive}` : `false ${positive}`;
    },

    /** Work out anew which points pass the filters, and how many there are of each kind. */
    sift() {
      const { hidden, kind, low, high } = shelf.filter;
      const whole = low <= 0 && high >= 1;
      const off = shelf.groups.map((name) => hidden.has(name));
      const counts = [0, 0, 0, 0, 0, 0, 0];
      shelf.visible = 0;
      shelf.mask = new Uint8Array(shelf.n);
      for (let i = 0; i < shelf.n; i += 1) {
        const group = shelf.group(i);
        counts[group] += 1;
        const kinds = kind === "all" || (kind === "unlabelled" ? !shelf.answer[i] : kind === "labelled" ? shelf.answer[i] : shelf.category(i) === kind);
        const inside = whole || (shelf.p[i] >= low && shelf.p[i] <= high);
        shelf.mask[i] = group < 6 && kinds && inside && !off[group] ? 1 : 0;
        shelf.visible += shelf.mask[i];
      }
      shelf.counts = counts;
    },
    labelled: () => shelf.counts[3] + shelf.counts[4] + shelf.counts[5],

    /** The nearest shown point without a label that `next` has not led to yet. */
    next([z, y, x], [vz, vy, vx]) {
      let best = null;
      let least = Infinity;
      for (let i = 0; i < shelf.n; i += 1) {
        if (!shelf.mask[i] || shelf.answer[i] || shelf.passed.has(i)) continue;
        const [pz, py, px] = shelf.at(i);
        const away = ((pz - z) * vz) ** 2 + ((py - y) * vy) ** 2 + ((px - x) * vx) ** 2;
        if (away < least) [best, least] = [i, away];
      }
      if (best === null && shelf.passed.size) { shelf.passed.clear(); return shelf.next([z, y, x], [vz, vy, vx]); }
      if (best !== null) shelf.passed.add(best);
      return best;
    },
  };
  return shelf;
}
