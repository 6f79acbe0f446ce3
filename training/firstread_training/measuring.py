"""From any volume to the volumetry network's box of 160 x 192 x 160 voxels of 1 mm, and back: the same steps run in the Rust server.

1. *Pose.*  The middles (RAS mm) of the structures that screening labelled, each of at least 25 voxels, against
   the atlas's (`atlas.py`, pitched by PITCH_DEGREES to the mean pose of the training people): an affine by least
   squares, each structure counting n / (n + 25) for n voxels.  The nearest rotation of its linear part (polar
   decomposition) turns the head upright; the weighted middle of the found points goes to the atlas's.  With fewer
   than 12 structures, more than 10 mm root mean square left or more than 45 degrees the head stays as RAS has it.
2. *Place.*  In these upright mm the box starts at START_MM.  The brain is the largest 6-connected piece of the
   screening's labels above 0; its 2 mm voxels are counted in planes of 2 mm along each axis, planes with at least
   30 count, and a box that cuts one off (2 mm margin) is moved, not for those below; where both sides cannot be
   inside they share.  Without a pose the box is centred on these planes, its top 6 mm above them.
3. *Sample once.*  Axes finer than 1 mm are first smoothed with the Gaussian of `preprocess.smooth`; then a cubic
   B-spline, mirrored at the edges; a point more than half a voxel outside is 0.
4. *Normalise.*  As the screening, over the box.

Back on the input's voxels: values linear between the box's; of labels the one with the largest share of these
eight weights, the first of equals; 0 more than half a voxel outside the box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import atlas, labels as L, preprocess

BOX = (160, 192, 160)
PITCH_DEGREES = -15.5  # the atlas lies as its first person did; the mean of all 50 is pitched by this
STRUCTURE_VOXELS = 25
STRUCTURES_MIN = 12
RMS_MM_MAX = 10.0
DEGREES_MAX = 45.0
START_MM = (-79.5, -95.5, -71.0)
PLANE_MM, PLANE_VOXELS = 2.0, 30
MARGIN_MM, TOP_MM = 2.0, 6.0
POLAR_ROUNDS = 30


@dataclass
class Box:
    """Where the box lies: its index to RAS mm, and the input it is of."""
    affine: np.ndarray  # [4,4]
    input_affine: np.ndarray  # [4,4]
    input_shape: tuple

    @property
    def voxel_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def to_input(self, grid: np.ndarray) -> np.ndarray:
        """A grid of the box on the input's own voxels: labels (integers) or values."""
        back = np.linalg.inv(self.affine) @ self.input_affine
        out = np.zeros(self.input_shape, grid.dtype)
        j, k = np.meshgrid(np.arange(self.input_shape[1]), np.arange(self.input_shape[2]), indexing="ij")
        vote = np.issubdtype(grid.dtype, np.integer)
        for i in range(self.input_shape[0]):
            place = [back[a, 0] * i + back[a, 1] * j + back[a, 2] * k + back[a, 3] for a in range(3)]
            ok = np.logical_and.reduce([(p >= -0.5) & (p <= n - 0.5) for p, n in zip(place, grid.shape)])
            if ok.any():
                out[i][ok] = (voted if vote else blended)(grid, [p[ok] for p in place])
        return out


def corners(grid, place):
    """The eight voxels around each place and their shares, x slowest."""
    lower, share = [], []
    for p, n in zip(place, grid.shape):
        p = np.clip(p, 0, n - 1)
        low = np.minimum(np.floor(p).astype(int), max(n - 2, 0))
        lower.append((low, np.minimum(low + 1, n - 1)))
        share.append((1 - (p - low), p - low))
    for x in (0, 1):
        for y in (0, 1):
            for z in (0, 1):
                yield grid[lower[0][x], lower[1][y], lower[2][z]], share[0][x] * share[1][y] * share[2][z]


def blended(grid, place):
    return sum(v * w for v, w in corners(grid, place))


def voted(grid, place):
    values, weights = (np.stack(a) for a in zip(*corners(grid, place)))
    out = values[0].copy()
    mixed = (values != out).any(0)
    values, weights = values[:, mixed], weights[:, mixed]
    votes = np.stack([(weights * (values == v)).sum(0) for v in values])
    out[mixed] = np.take_along_axis(values, votes.argmax(0)[None], 0)[0]
    return out


def upright_middles() -> list:
    """(code, place in mm) of every structure that the pose is fitted to, by ascending code."""
    c, s = np.cos(np.radians(PITCH_DEGREES)), np.sin(np.radians(PITCH_DEGREES))
    pitch = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    with np.load(atlas.PATH) as z:
        middles = z["middles"].astype(float)
    out = []
    for k, code in enumerate(L.CLASS_CODES):
        if k in atlas.NOT_FITTED:
            continue
        out.append((code, pitch @ middles[k, 0]))
        if code in L.RIGHT_OF:
            out.append((L.RIGHT_OF[code], pitch @ middles[k, 1]))
    return [(code, np.round(place, 2)) for code, place in sorted(out, key=lambda p: p[0])]


def pose(labels: np.ndarray, origin) -> tuple[np.ndarray, np.ndarray] | None:
    """Rotation [3,3] and shift [3] that take RAS mm to upright mm, from the screening's labels; None where they do not say."""
    found, wanted, weight = [], [], []
    for code, place in upright_middles():
        points = np.argwhere(labels == L.CODES.index(code))
        if len(points) >= STRUCTURE_VOXELS:
            found.append(points.mean(0) * preprocess.SPACING_MM + origin)
            wanted.append(place)
            weight.append(len(points) / (len(points) + STRUCTURE_VOXELS))
    if len(found) < STRUCTURES_MIN:
        return None
    return fit(np.array(found), np.array(wanted), np.array(weight))


def fit(found, wanted, weight) -> tuple[np.ndarray, np.ndarray] | None:
    share = weight[:, None] / weight.sum()
    here, there = (share * found).sum(0), (share * wanted).sum(0)
    x, y = found - here, wanted - there
    spread = (share * x).T @ x
    if abs(np.linalg.det(spread)) < 1e-6:
        return None
    linear = np.linalg.solve(spread, (share * x).T @ y).T
    left = (share * (x @ linear.T - y) ** 2).sum()
    if not np.sqrt(left) <= RMS_MM_MAX or not np.linalg.det(linear) > 1e-3:
        return None
    r = linear
    for _ in range(POLAR_ROUNDS):
        r = (r + np.linalg.inv(r).T) / 2
    if np.trace(r) < 1 + 2 * np.cos(np.radians(DEGREES_MAX)):
        return None
    return r, there - r @ here


def largest_piece(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage
    pieces, count = ndimage.label(mask)
    if count < 2:
        return mask
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()


def place(shape, affine, labels: np.ndarray, origin) -> Box:
    """The box of a volume, from the screening's labels [96,112,96] and the RAS mm of their first voxel."""
    found = pose(labels, np.asarray(origin))
    turn, shift = (np.eye(3), np.zeros(3)) if found is None else found
    points = np.argwhere(largest_piece(labels > 0)) * preprocess.SPACING_MM + np.asarray(origin)
    mm = points @ turn.T + shift
    start = np.zeros(3)
    for axis in range(3):
        extent = BOX[axis] - 1.0
        planes = np.floor(mm[:, axis] / PLANE_MM).astype(int)
        first = planes.min(initial=0)
        full = first + np.flatnonzero(np.bincount(planes - first) >= PLANE_VOXELS)
        if not len(full):
            raise ValueError("no brain was found")
        low, high = PLANE_MM * full[0], PLANE_MM * (full[-1] + 1)
        if found is None:
            start[axis] = high + TOP_MM - extent if axis == 2 else (low + high - extent) / 2
            continue
        least, most = high + MARGIN_MM - extent, low - MARGIN_MM
        if axis == 2:  # the neck goes on below
            start[axis] = max(START_MM[axis], least)
        else:
            start[axis] = min(max(START_MM[axis], least), most) if least <= most else (least + most) / 2
    upright = np.eye(4)
    upright[:3, :3], upright[:3, 3] = turn.T, turn.T @ (start - shift)
    return Box(upright, np.asarray(affine, float), tuple(shape))


def take(v: np.ndarray, box: Box) -> np.ndarray:
    """The box's voxels of a volume, float32."""
    from scipy import ndimage
    spacing = np.sqrt((box.input_affine[:3, :3] ** 2).sum(0))
    v = preprocess.smooth(v, spacing, 1.0)
    to = np.linalg.inv(box.input_affine) @ box.affine
    out = ndimage.affine_transform(v, to[:3, :3], to[:3, 3], output_shape=BOX, order=3, mode="mirror", output=np.float32)
    x, y, z = (np.arange(n) for n in BOX)
    for axis, n in enumerate(v.shape):
        at = to[axis, 0] * x[:, None, None] + to[axis, 1] * y[None, :, None] + to[axis, 2] * z[None, None, :] + to[axis, 3]
        out[(at < -0.5) | (at > n - 0.5)] = 0
    return out


def prepare(v, affine, labels, origin) -> tuple[np.ndarray, Box]:
    """A volume [i,j,k] with its screening -> network input float32 [160,192,160] and where it lies."""
    v = np.nan_to_num(np.asarray(v, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if v.min() < 0:
        v = v - v.min()
    box = place(v.shape, affine, labels, origin)
    return preprocess.normalise(take(v, box)), box
