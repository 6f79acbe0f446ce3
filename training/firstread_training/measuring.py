"""From any volume to the volumetry network's box of 160 x 192 x 160 voxels, and back: the same steps run in the Rust server.

1. *Axes.*  The input's own axes, permuted and flipped to the nearest RAS orientation; nothing is rotated.
2. *Spacing.*  An axis of 0.85 to 1.15 mm keeps its voxels (and so its true spacing); any other is resampled
   to 1 mm: the Gaussian of `preprocess.smooth` where it is finer, then linear; a point more than half a
   voxel outside is 0, nearer points clamp to the edge.
3. *Place.*  The brain is the largest 6-connected piece of the screening's labels above 0.  Its 2 mm voxels
   are counted in 2 mm planes along each of the box's axes; planes with at least 30 count.  x and y: the box
   is centred between the first and the last such plane; z: its top lies 6 mm above the last one.  Starts are
   rounded to whole voxels (kept axes) or whole millimetres (resampled ones).
4. *Normalise.*  As the screening, over the box.

Along an axis, position is in mm from the centre of the (reoriented) input's first voxel.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from . import preprocess

BOX = (160, 192, 160)
KEEP_MM = (0.85, 1.15)
PLANE_MM, PLANE_VOXELS = 2.0, 30
TOP_MM = 6.0


@dataclass
class Box:
    """Where the box lies in a volume: input axis, direction, start (mm) and spacing (mm) for each of x, y, z."""
    order: tuple  # input axis of x, y, z
    flips: tuple  # -1 where the input's axis runs the other way
    size: tuple  # input voxels along x, y, z
    spacing: np.ndarray  # of the input along x, y, z
    start: np.ndarray
    step: np.ndarray

    @property
    def voxel_mm3(self) -> float:
        return float(np.prod(self.step))

    def to_input(self, grid: np.ndarray) -> np.ndarray:
        """A label grid of the box on the input's own voxels: nearest box voxel, 0 outside."""
        out = grid
        for axis in range(3):
            at = np.floor((np.arange(self.size[axis]) * self.spacing[axis] - self.start[axis]) / self.step[axis] + 0.5).astype(int)
            ok = (at >= 0) & (at < grid.shape[axis])
            out = np.take(out, np.clip(at, 0, grid.shape[axis] - 1), axis)
            out = out * ok.reshape([-1 if a == axis else 1 for a in range(3)]).astype(out.dtype)
        for axis, flip in enumerate(self.flips):
            if flip < 0:
                out = np.flip(out, axis)
        return np.ascontiguousarray(np.transpose(out, np.argsort(self.order)))


def nearest_axes(affine: np.ndarray) -> tuple[tuple, tuple]:
    """Input axis and direction for each of x, y and z: the permutation whose axes lie closest to RAS."""
    m = np.asarray(affine)[:3, :3]
    cosines = m / np.sqrt((m ** 2).sum(0))
    order = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[a, p[a]]) for a in range(3)))
    return order, tuple(1 if cosines[a, order[a]] >= 0 else -1 for a in range(3))


def largest_piece(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage
    pieces, count = ndimage.label(mask)
    if count < 2:
        return mask
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()


def reorient(v, affine):
    """The volume and its affine along the nearest RAS axes."""
    order, flips = nearest_axes(affine)
    v = np.transpose(v, order)
    m = np.asarray(affine, float)[:, list(order) + [3]].copy()
    for axis, flip in enumerate(flips):
        if flip < 0:
            v = np.flip(v, axis)
            m[:3, 3] += m[:3, axis] * (v.shape[axis] - 1)
            m[:3, axis] *= -1
    return np.ascontiguousarray(v), m, order, flips


def place(size, affine, order, flips, labels: np.ndarray, origin) -> Box:
    """The box of a reoriented volume, from the screening's labels [96,112,96] and the RAS mm of their first voxel."""
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))
    points = np.argwhere(largest_piece(labels > 0)) * preprocess.SPACING_MM + np.asarray(origin)
    inverse = np.linalg.inv(affine)
    mm = (points @ inverse[:3, :3].T + inverse[:3, 3]) * spacing
    keep = (spacing >= KEEP_MM[0]) & (spacing <= KEEP_MM[1])
    step = np.where(keep, spacing, 1.0)
    start = np.zeros(3)
    for axis in range(3):
        extent = step[axis] * (BOX[axis] - 1)
        planes = np.floor(mm[:, axis] / PLANE_MM).astype(int)
        full = []
        if len(planes):
            first = planes.min()
            full = first + np.flatnonzero(np.bincount(planes - first) >= PLANE_VOXELS)
        if len(full):
            low, high = PLANE_MM * full[0], PLANE_MM * (full[-1] + 1)
        else:
            low, high = 0.0, spacing[axis] * (size[axis] - 1)
        at = high + TOP_MM - extent if axis == 2 else (low + high - extent) / 2
        start[axis] = step[axis] * math.floor(at / step[axis] + 0.5)
    return Box(order, flips, tuple(size), spacing, start, step)


def take(v: np.ndarray, box: Box) -> np.ndarray:
    """The box's voxels of a reoriented volume, float32."""
    smoothed = [d if d < KEEP_MM[0] else 1e9 for d in box.spacing]
    out = preprocess.smooth(v, smoothed, 1.0)
    for axis in range(3):
        n = box.size[axis]
        at = (box.start[axis] + box.step[axis] * np.arange(BOX[axis])) / box.spacing[axis]
        inside = (at >= -0.5) & (at <= n - 0.5)
        at = np.clip(at, 0, n - 1)
        lower = np.minimum(np.floor(at + 1e-9).astype(int), max(n - 2, 0))
        share = np.clip(at - lower, 0, 1).astype(np.float32)
        share[share < 1e-6] = 0
        shape = [-1 if a == axis else 1 for a in range(3)]
        first = np.take(out, lower, axis)
        if share.any():
            first = first * (1 - share.reshape(shape)) + np.take(out, np.minimum(lower + 1, n - 1), axis) * share.reshape(shape)
        out = first * inside.reshape(shape)
    return np.ascontiguousarray(out, np.float32)


def prepare(v, affine, labels, origin) -> tuple[np.ndarray, Box]:
    """A volume [i,j,k] with its screening -> network input float32 [160,192,160] and where it lies."""
    v = np.nan_to_num(np.asarray(v, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if v.min() < 0:
        v = v - v.min()
    v, m, order, flips = reorient(v, affine)
    box = place(v.shape, m, order, flips, labels, origin)
    return preprocess.normalise(take(v, box)), box
