/** The queue that a browser leads through: which point is which row, what is answered, and where a person stands. */
function queueShelf() {
  const queue = {
    n: 0, at: 0, frame: 0, told: [], points: [], rowOf: new Map(),
    waiting: false, // for the image of the row that comes next

    /** Take over what Python knows; the points of the rows come with all the points of an image. What it knew
        before it read the last answers (`behind`) would open their rows again. */
    take({ told, points, at, frame }, behind) {
      queue.n = told.length;
      if (points || !behind) queue.told = told;
      if (!points) return;
      Object.assign(queue, { points, at, frame, waiting: false });
      queue.rowOf = new Map(points.map((point, row) => [point, row]).filter(([point]) => point >= 0));
    },
    get open() { return queue.told.reduce((sum, code) => sum + (code === 0), 0); },
    get progress() { return queue.n ? `${queue.at + 1} of ${queue.n}, ${queue.open} open` : null; },

    /** The next row without an answer, forward or back, around the end: of this image, then of the others; in an
        audit whatever its image. Null if there is none. */
    next(by, ordered) {
      const rows = Array.from({ length: queue.n }, (_, i) => (((queue.at + by * (i + 1)) % queue.n) + queue.n) % queue.n);
      const open = rows.filter((row) => queue.told[row] === 0);
      return open.find((row) => ordered || queue.points[row] >= 0) ?? open[0] ?? null;
    },
  };
  return queue;
}
