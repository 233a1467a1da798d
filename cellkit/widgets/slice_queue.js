/** The queue that a browser leads through: which point is which row, what is answered, and where a person stands. */
function queueShelf() {
  const queue = {
    n: 0, at: 0, frame: 0, told: [], points: [], rowOf: new Map(),
    waiting: false, // for the image of the row that comes next

    /** Take over what Python knows; the points of the rows come with all the points of an image. */
    take({ told, points, at, frame }) {
      queue.n = told.length;
      queue.told = told;
      if (!points) return;
      Object.assign(queue, { points, at, frame, waiting: false });
      queue.rowOf = new Map(points.map((point, row) => [point, row]).filter(([point]) => point >= 0));
    },
    get open() { return queue.told.reduce((sum, code) => sum + (code === 0), 0); },
    get progress() { return queue.n ? `${queue.at + 1} of ${queue.n}, ${queue.open} open` : null; },

    /** The next row without an answer, forward or back, around the end; null if there is none. */
    next(by) {
      for (let i = 1; i <= queue.n; i += 1) {
        const row = (((queue.at + by * i) % queue.n) + queue.n) % queue.n;
        if (queue.told[row] === 0) return row;
      }
      return null;
    },
  };
  return queue;
}
