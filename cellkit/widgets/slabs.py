"""Pictures that take long to read: slab by slab in a thread of their own, seen while they grow.

Side planes and thick projections go through many planes, each of which a compressed file decodes whole. What
was decoded is kept, averaged to what fits into a bounded memory, so that the next side plane is there at once
and becomes sharp later.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from cellkit.cubes import Intensities
from cellkit.images import Image
from cellkit.widgets.pictures import View, encode, stepped

SLAB_VOXELS = 4_000_000  # decoded before somebody looks whether they are still wanted: about 50 ms
PAUSE_S = 0.25  # between two states of a picture that grows
COARSE_BYTES = 128_000_000


@dataclass
class Wish:
    """A picture that is wanted in one pane: a newer one of the same pane ends it.

    Attributes
    ----------
    pane, key : str
        Where it is shown, and what the front end calls it.
    image : Image
    intensities : dict of str to Intensities
        Of the channels that are shown, in their order.
    view : View
    near : int
        The plane from which on outward it is read.
    """

    pane: str
    key: str
    image: Image
    intensities: Mapping[str, Intensities]
    view: View
    near: int = 0
    seen: dict[str, np.ndarray] = field(default_factory=dict)
    unread: list[tuple[int, int]] = field(default_factory=list)
    previewed: bool = False
    fresh: bool = True

    def __post_init__(self) -> None:
        """Lay out the slabs, the nearest first, and the picture, black as long as nothing is read."""
        first, stop = self.view.box[0]
        deep = max(1, SLAB_VOXELS // self._area())
        deep = max(deep // self.image.chunk[0], 1) * self.image.chunk[0]
        starts = range(first // deep * deep, stop, deep)
        slabs = [(max(first, start), min(stop, start + deep)) for start in starts]
        self.unread = sorted(slabs, key=lambda slab: abs(sum(slab) / 2 - self.near))
        sides = [b - a for axis, (a, b) in enumerate(self.view.box) if axis != self.view.along]
        if self.view.along:
            self.seen = {role: np.zeros(sides, self.image.dtype) for role in self.intensities}

    def _area(self) -> int:
        """Return the voxels of a plane that the file decodes for this picture."""
        sides = zip(self.view.box[1:], self.image.chunk[1:], self.image.shape[3:], strict=True)
        voxels = [min(n, -(-b // chunk) * chunk) - a // chunk * chunk for (a, b), chunk, n in sides]
        return max(1, int(np.prod(voxels)))

    @property
    def whole(self) -> bool:
        """Whether the file decodes most of every plane anyway."""
        return 2 * self._area() > np.prod(self.image.shape[3:])

    def take(self, role: str, slab: tuple[int, int], planes: np.ndarray) -> None:
        """Add what lies in a slab, shape (z, y, x) of the picture's box."""
        most = planes.max(axis=self.view.along)
        if self.view.along == 0:
            self.seen[role] = np.maximum(self.seen[role], most) if role in self.seen else most
        else:
            first = self.view.box[0][0]
            self.seen[role][slab[0] - first : slab[1] - first] = most

    def picture(self) -> list[np.ndarray]:
        """Return what is known of the picture so far, one array (rows, columns) of uint16 a channel."""
        pictures = []
        for role, known in self.intensities.items():
            seen = self.seen[role].T if self.view.along == 2 else self.seen[role]
            words = encode(stepped(seen, self.view.step), known)
            by_plane = words.T if self.view.along == 2 else words
            for first, stop in self.unread if self.view.along else []:
                ends = np.array([first, stop]) - self.view.box[0][0]
                by_plane[slice(*(ends // self.view.step[1 if self.view.along == 2 else 0]))] = 0
            pictures.append(words)
        return pictures


class Coarse:
    """One channel of one frame, averaged along y and x to what fits into memory, as far as it was decoded."""

    def __init__(self, image: Image, intensities: Intensities, *, nbytes: int):
        planes, *sides = image.shape[2:]
        self.step = 1
        while 2 * planes * np.prod([max(1, n // self.step) for n in sides]) > nbytes:
            self.step *= 2
        self.intensities = intensities
        self.words = np.zeros((planes, *(max(1, n // self.step) for n in sides)), "<u2")
        self.filled = np.zeros(planes, dtype=bool)

    def fill(self, first: int, planes: np.ndarray) -> None:
        """Keep whole planes, shape (z, y, x)."""
        for z, plane in enumerate(planes, start=first):
            self.words[z] = encode(stepped(plane, (self.step, self.step)), self.intensities)
            self.filled[z] = True

    def picture(self, view: View) -> tuple[np.ndarray, dict] | None:
        """Return a picture (rows, columns) and the `box` of voxels and `step` that it has, if kept."""
        z = slice(*view.box[0])
        if view.along == 0 or not self.filled[z].all():
            return None
        ends = [
            (min(a // self.step, n - 1), min(max(-(-b // self.step), a // self.step + 1), n))
            for (a, b), n in zip(view.box[1:], self.words.shape[1:], strict=True)
        ]
        seen = self.words[z, slice(*ends[0]), slice(*ends[1])].max(axis=view.along)
        box = [list(view.box[0]), *([a * self.step, b * self.step] for a, b in ends)]
        if view.along == 2:
            return seen.T, {"box": box, "step": [self.step, 1]}
        return seen, {"box": box, "step": [1, self.step]}


class SlabReader:
    """Reads the pictures that are wished for, and says how far it is; everything else goes on meanwhile.

    Parameters
    ----------
    send : callable
        Called with a message and buffers: "view" with the wish's key, and `partial` until it is whole.
    """

    def __init__(self, send: Callable[[dict, list[bytes]], None]):
        self.send = send
        self._wishes: dict[str, Wish] = {}
        self._coarse: dict[tuple[str, int, str], Coarse] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(self, wish: Wish) -> None:
        """Wish for a picture; an older wish of the same pane is dropped."""
        with self._lock:
            self._wishes[wish.pane] = wish
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="slabs")
                self._thread.start()

    def wait(self) -> None:
        """Wait until all that was wished for is read."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        told = time.monotonic()
        while wishes := self._wanted():
            try:
                for wish in (wish for wish in wishes if wish.fresh):
                    self._preview(wish)
                wishes = [wish for wish in wishes if wish.unread]
                self._read(wishes)
                late = time.monotonic() - told > PAUSE_S
                for wish in wishes:
                    if not wish.unread or (late and not wish.previewed):
                        self._show(wish)
                told = time.monotonic() if late else told
            except Exception as error:
                logging.getLogger(__name__).exception("a picture could not be read")
                self._give_up(wishes, str(error) or type(error).__name__)

    def _wanted(self) -> list[Wish]:
        """Return what is still wished for; without any the thread ends."""
        with self._lock:
            if not self._wishes:
                self._thread = None
            return list(self._wishes.values())

    def _read(self, wishes: list[Wish]) -> None:
        """Read the next slab of the first wish, for all wishes that can use it."""
        if not wishes:
            return
        first = wishes[0]
        slab = first.unread[0]
        sharing = [wish for wish in wishes if _alike(wish, first) and slab in wish.unread]
        for role in dict.fromkeys(role for wish in sharing for role in wish.intensities):
            takers = [wish for wish in sharing if role in wish.intensities]
            whole = any(wish.whole for wish in takers)
            every = slice(slab[0], slab[1]), slice(None), slice(None)
            planes = first.image.read(role, frame=first.view.frame, box=every) if whole else None
            if planes is not None:
                self._coarse_of(takers[0], role).fill(slab[0], planes)
            for wish in takers:
                sides = slice(*wish.view.box[1]), slice(*wish.view.box[2])
                box = every[0], *sides
                part = (
                    planes[:, *sides]
                    if planes is not None
                    else wish.image.read(role, frame=wish.view.frame, box=box)
                )
                wish.take(role, slab, part)
        for wish in sharing:
            wish.unread.remove(slab)

    def _coarse_of(self, wish: Wish, role: str) -> Coarse:
        """Return what is kept of a channel; what is kept of other images and frames is let go."""
        here = (wish.image.name, wish.view.frame)
        self._coarse = {key: kept for key, kept in self._coarse.items() if key[:2] == here}
        key = (*here, role)
        if key not in self._coarse:
            nbytes = COARSE_BYTES // len(set(wish.image.roles) - {"none"})
            self._coarse[key] = Coarse(wish.image, wish.intensities[role], nbytes=nbytes)
        return self._coarse[key]

    def _preview(self, wish: Wish) -> None:
        """Show at once what is kept, if it is all; where it is no coarser, nothing is left to read."""
        wish.fresh = False
        kept = [self._coarse.get((wish.image.name, wish.view.frame, role)) for role in wish.intensities]
        parts = [None if each is None else each.picture(wish.view) for each in kept]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return
        wish.previewed, sharp = True, all(each is not None and each.step == 1 for each in kept)
        self._tell(wish, [seen for seen, _ in found], found[0][1] | {"partial": not sharp})
        if sharp:
            wish.unread.clear()
            self._end(wish)

    def _show(self, wish: Wish) -> None:
        self._tell(wish, wish.picture(), {"partial": bool(wish.unread)})
        if not wish.unread:
            self._end(wish)

    def _tell(self, wish: Wish, seen: list[np.ndarray], more: dict) -> None:
        rows, columns = seen[0].shape
        said = {"op": "view", "key": wish.key, "pane": wish.pane, "rows": rows, "columns": columns}
        self.send(said | more, [part.tobytes() for part in seen])

    def _end(self, wish: Wish) -> None:
        with self._lock:
            if self._wishes.get(wish.pane) is wish:
                del self._wishes[wish.pane]

    def _give_up(self, wishes: list[Wish], reason: str) -> None:
        for wish in wishes:
            self.send({"op": "error", "text": reason, "saved": True, "key": wish.key}, [])
            self._end(wish)


def _alike(a: Wish, b: Wish) -> bool:
    return a.image is b.image and a.view.frame == b.view.frame
