"""From any volume to the network's input, in plain numpy: the same steps run in the Rust server.

1. *Finite, non-negative.*  NaN and infinities become 0.  If the smallest value is below 0 it is
   subtracted from every voxel.
2. *Coarse look.*  Resample (step 4) onto an axis-aligned 4 mm RAS grid that covers the volume's box:
   the 8 corners (voxel centres) are taken to RAS mm, `lo` = their minimum, `hi` = their maximum,
   n = floor((hi - lo) / 4) + 1 points per axis at lo + 4*i.
3. *Where the head is.*  `t` = 0.2 * the value at rank floor(0.98*(m-1)) of the m sorted coarse values
   above 0; foreground = coarse > t.  Per z-plane count the foreground voxels; `z_top` is the highest
   plane that has at least 40 (= 6.4 cm2) and whose next lower plane also has (the lowest plane needs no
   neighbour).  None: `z_top` = highest plane.  x and y of the centre are half-way between the 2nd and
   98th percentile (rank floor(q*(k-1)) of the k sorted coordinates) of foreground voxels at most 150 mm
   below z_top; without foreground the middle of the grid.  The box reaches from z_top + TOP_MARGIN
   down: centre z = z_top + TOP_MARGIN - 96 mm.
4. *Resample* onto a grid with spacing `s` (2 mm; 4 mm for the coarse look).  Along each voxel axis of
   the source with spacing d < s the source is first averaged with a Gaussian of
   sigma = 0.42 * sqrt(s*s - d*d) / d voxels (0.42 s is about the width of a box of s), truncated at
   radius ceil(2.5*sigma), weights normalised to 1 *over the taps inside the volume*.  Then trilinear
   interpolation; a point more than half a voxel outside the volume is 0, nearer points clamp to the
   edge.
5. *Normalise.*  See `normalise`.

Axes: arrays are [x, y, z], x to the patient's right, y anterior, z superior, z fastest in memory.
"""

from __future__ import annotations

import math

import numpy as np

GRID = (96, 112, 96)
SPACING_MM = 2.0
COARSE_MM = 4.0
TOP_MARGIN_MM = 6.0
HEAD_DEPTH_MM = 150.0
COARSE_THRESHOLD = 0.2
COARSE_RANK = 0.98
MIN_PLANE_VOXELS = 40
SIGMA_FACTOR = 0.42
NORM_RANK_ALL = 0.99
NORM_FOREGROUND = 0.1
NORM_RANK_FOREGROUND = 0.98
NORM_CLIP = 1.5
NORM_MIN_VOXELS = 1000


def rank(sorted_values: np.ndarray, q: float) -> float:
    """The value at rank floor(q*(n-1)): a percentile without interpolation, so every language agrees."""
    return sorted_values[int(math.floor(q * (len(sorted_values) - 1)))]


def normalise(v: np.ndarray) -> np.ndarray:
    """Grid values [x,y,z] -> float32 in 0..NORM_CLIP.

    positive = sorted values above 0; fewer than NORM_MIN_VOXELS of them: all zeros.  q = their 99th
    percentile (rank); foreground = those above 0.1*q; hi = the foreground's 98th percentile (rank);
    out = min(max(v, 0) / hi, 1.5).
    """
    v = np.maximum(np.asarray(v, np.float32), 0)
    positive = np.sort(v[v > 0])
    if len(positive) < NORM_MIN_VOXELS:
        return np.zeros_like(v)
    foreground = positive[positive > NORM_FOREGROUND * rank(positive, NORM_RANK_ALL)]
    return np.minimum(v / rank(foreground, NORM_RANK_FOREGROUND), np.float32(NORM_CLIP)).astype(np.float32)


def normalise_tensor(v):
    """`normalise` for a torch tensor where it is."""
    v = v.clamp(min=0)
    positive = v[v > 0].sort().values
    if len(positive) < NORM_MIN_VOXELS:
        return v * 0
    foreground = positive[positive > NORM_FOREGROUND * rank(positive, NORM_RANK_ALL)]
    return (v / rank(foreground, NORM_RANK_FOREGROUND)).clamp(max=NORM_CLIP)


def smooth(v: np.ndarray, spacing, target_mm: float) -> np.ndarray:
    """The Gaussian prefilter of step 4; `spacing` mm per source axis; float32 [i,j,k]."""
    v = np.asarray(v, np.float32)
    for axis, d in enumerate(spacing):
        if d >= target_mm or v.shape[axis] == 1:
            continue
        sigma = SIGMA_FACTOR * math.sqrt(target_mm * target_mm - d * d) / d
        radius = int(math.ceil(2.5 * sigma))
        taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        n = v.shape[axis]
        moved = np.moveaxis(v, axis, 0)
        out = np.zeros_like(moved)
        weight = np.zeros(n, np.float32)
        for offset, w in zip(range(-radius, radius + 1), taps):
            lo, hi = max(0, -offset), min(n, n - offset)
            if lo < hi:
                out[lo:hi] += np.float32(w) * moved[lo + offset:hi + offset]
                weight[lo:hi] += np.float32(w)
        out /= weight[:, None, None]
        v = np.moveaxis(out, 0, axis)
    return np.ascontiguousarray(v)


def trilinear(v: np.ndarray, affine: np.ndarray, origin, spacing_mm: float, shape) -> np.ndarray:
    """Values [shape] of v [i,j,k] (affine to RAS mm) at origin + spacing*index; 0 outside (step 4)."""
    inverse = np.linalg.inv(affine)
    axes = [origin[a] + spacing_mm * np.arange(shape[a]) for a in range(3)]
    parts, inside = [], np.ones(shape, bool)
    for row in range(3):
        q = (inverse[row, 0] * axes[0][:, None, None] + inverse[row, 1] * axes[1][None, :, None]
             + inverse[row, 2] * axes[2][None, None, :] + inverse[row, 3])
        n = v.shape[row]
        inside &= (q >= -0.5) & (q <= n - 0.5)
        q = np.clip(q, 0, n - 1)
        lower = np.minimum(np.floor(q).astype(np.int64), max(n - 2, 0))
        parts.append((lower, np.minimum(lower + 1, n - 1), (q - lower).astype(np.float32)))
    (i0, i1, fi), (j0, j1, fj), (k0, k1, fk) = parts
    out = np.zeros(shape, np.float32)
    for i, wi in ((i0, 1 - fi), (i1, fi)):
        for j, wj in ((j0, 1 - fj), (j1, fj)):
            out += wi * wj * (v[i, j, k0] * (1 - fk) + v[i, j, k1] * fk)
    return np.where(inside, out, 0).astype(np.float32)


def resample(v, affine, origin, spacing_mm, shape, smoothed=None):
    spacing = np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(0))
    return trilinear(smooth(v, spacing, spacing_mm) if smoothed is None else smoothed, affine, origin, spacing_mm, shape)


def locate(v: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """RAS mm of the first voxel of the network's grid (steps 2 and 3)."""
    corners = np.array([[i, j, k, 1.0] for i in (0, v.shape[0] - 1) for j in (0, v.shape[1] - 1) for k in (0, v.shape[2] - 1)])
    mm = (affine @ corners.T)[:3].T
    lo, hi = mm.min(0), mm.max(0)
    shape = tuple(int(math.floor((hi[a] - lo[a]) / COARSE_MM)) + 1 for a in range(3))
    coarse = resample(v, affine, lo, COARSE_MM, shape)
    positive = np.sort(coarse[coarse > 0])
    centre = lo + COARSE_MM * (np.array(shape) - 1) / 2.0
    top = lo[2] + COARSE_MM * (shape[2] - 1)
    if len(positive):
        foreground = coarse > COARSE_THRESHOLD * rank(positive, COARSE_RANK)
        full = foreground.sum((0, 1)) >= MIN_PLANE_VOXELS
        plane = next((k for k in range(shape[2] - 1, -1, -1) if full[k] and (k == 0 or full[k - 1])), shape[2] - 1)
        top = lo[2] + COARSE_MM * plane
        lowest = max(0, plane - int(HEAD_DEPTH_MM // COARSE_MM))
        x, y, _ = np.nonzero(foreground[:, :, lowest:plane + 1])
        if len(x):
            for axis, values in enumerate((x, y)):
                values = np.sort(values)
                centre[axis] = lo[axis] + COARSE_MM * 0.5 * float(rank(values, 0.02) + rank(values, 0.98))
    half = SPACING_MM * (np.array(GRID) - 1) / 2.0
    centre[2] = top + TOP_MARGIN_MM - SPACING_MM * GRID[2] / 2.0
    return centre - half


def prepare(v: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Any volume [i,j,k] with its affine to RAS mm -> network input float32 [96,112,96] and grid origin mm [3]."""
    v = np.nan_to_num(np.asarray(v, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if v.min() < 0:
        v = v - v.min()
    origin = locate(v, affine)
    return normalise(resample(v, affine, origin, SPACING_MM, GRID)), origin
