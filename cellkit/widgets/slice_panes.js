const AXES = [[1, 2], [0, 2], [1, 0]]; // what runs down and across in a picture along z, along y, along x

/** One picture of the image along an axis; `role` is the channel it always shows, null for the one chosen. */
function makePane(along, role = null) {
  const [down, across] = AXES[along];
  const picture = make("canvas");
  const name = make("span", { class: "ck-pane-name" });
  const node = make("div", { class: "ck-pane", "data-along": along, "data-role": role }, picture, name);
  const pane = {
    along, down, across, role, node, picture, name, width: 1, height: 1, last: null,
    /** Where a place in µm lies on the screen: top, left. */
    place: (cam, um) => [(um[down] - cam.at[down]) * cam.scale + pane.height / 2, (um[across] - cam.at[across]) * cam.scale + pane.width / 2],
    /** What lies at a place on the screen: µm down, µm across. */
    where: (cam, top, left) => [(top - pane.height / 2) / cam.scale + cam.at[down], (left - pane.width / 2) / cam.scale + cam.at[across]],
    measure() { [pane.width, pane.height] = [Math.max(1, node.clientWidth), Math.max(1, node.clientHeight)]; },
  };
  return pane;
}

/** The voxels (first, stop) along the axis that is looked along: one, or as many as a projection is thick. */
function planesOf({ shape, voxel_um: um }, along, at, depth) {
  const n = along === 0 ? depth : depth === 1 ? 1 : Math.max(1, Math.round((depth * um[0]) / um[along]));
  const middle = Math.round(at[along]);
  return [Math.max(0, middle - Math.floor((n - 1) / 2)), Math.min(shape[along], middle + Math.ceil((n - 1) / 2) + 1)];
}

/** The part of the image that a picture shows, no finer than the screen; the whole plane where that is small. */
function requestOf(data, cam, pane, { at, depth, roles, frame }) {
  const ratio = window.devicePixelRatio || 1;
  const sides = [pane.down, pane.across];
  const step = sides.map((axis) => 2 ** Math.max(0, Math.floor(Math.log2(1 / (cam.scale * ratio * data.voxel_um[axis])))));
  const box = data.shape.map((n) => [0, n]);
  box[pane.along] = planesOf(data, pane.along, at, depth);
  if (sides.some((axis, i) => data.shape[axis] / step[i] > MOST)) {
    const first = pane.where(cam, 0, 0);
    const last = pane.where(cam, pane.height, pane.width);
    sides.forEach((axis, i) => {
      const cut = (um, round) => Math.min(data.shape[axis], Math.max(0, round(um / data.voxel_um[axis] / 128) * 128));
      box[axis] = [cut(first[i], Math.floor), cut(last[i], Math.ceil)];
    });
  }
  const [first, stop] = box[0];
  return { along: pane.along, box, step, roles, frame, image: data.name, slow: stop - first > QUICK };
}

/** The same part in pixels twice as large each way, if it is large: enough while planes pass. */
function coarser(request) {
  const [rows, columns] = AXES[request.along].map((axis, i) => (request.box[axis][1] - request.box[axis][0]) / request.step[i]);
  return request.slow || rows * columns <= FINE ? request : { ...request, step: request.step.map((n) => 2 * n) };
}

/** The plane in the middle of a picture along z. */
const planeOf = ({ box: [[first, stop]] }) => Math.floor((first + stop - 1) / 2);

/** The canvas of a pane, as large as it is, black. */
function fresh({ picture: canvas, width, height }) {
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = canvas.getContext("2d", { alpha: false }); // nothing shines through, which is faster to compose
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** The painted pixels of a part, painted anew only when the contrast has changed. */
function sheetOf(part, limits) {
  const tables = part.roles.slice(0, part.pixels.length).map((role) => limits[role]);
  const contrast = tables.map(({ low, high }) => `${low} ${high}`).join();
  if (part.contrast !== contrast) {
    part.sheet ??= make("canvas", { width: part.columns, height: part.rows });
    const [first, second] = tables.map(({ low, high }) => greys(low, high));
    paint(part.sheet, part.pixels[0], first, part.pixels[1] ?? null, second ?? null);
    part.contrast = contrast;
  }
  return part.sheet;
}

/** Paint a part of a plane where it lies; until the wanted one is there, the last one. */
function paintPane(context, pane, part, { data, cam, limits }) {
  const um = [pane.down, pane.across].map((axis, i) => data.voxel_um[axis] * part.step[i]);
  const corner = [0, 0, 0];
  for (const axis of [pane.down, pane.across]) corner[axis] = part.box[axis][0] * data.voxel_um[axis];
  const [top, left] = pane.place(cam, corner);
  context.imageSmoothingEnabled = cam.scale * Math.min(...um) < 4;
  context.drawImage(sheetOf(part, limits), left, top, part.columns * um[1] * cam.scale, part.rows * um[0] * cam.scale);
}
