"""Where a structure can be: the network's answer weighed with where that structure lies in other people.

A young network gives part of the thalamus to the caudate now and then, far from any caudate.  The middles of
all structures, as the network has them, place the head on the atlas (`atlas.py`; an affine by weighted least
squares), and each deep class is weighed with its share of people there; all others with what is left.  Where
the middles do not fit the atlas (a large mass, a picture that is no head) the atlas has no say.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from . import atlas

CELL = 4  # voxels; places change slowly
FLOOR = 0.01  # nobody of 50 people had it there
FULL_MM, NONE_MM = 5.0, 8.0  # root mean square of the middles' distances: below full say, above none
LEAST_VOXELS = 200.0  # a structure this small has half a say in the fit
SCALE = 64.0  # voxels; keeps the normal equations' terms near one


class Location(nn.Module):
    """Weights for the probabilities of one head."""

    def __init__(self, path=None):
        super().__init__()
        with np.load(path or atlas.PATH) as z:
            middles, deep = z["middles"], z["deep"].astype(np.float32) / 255
        self.points = [(k, side) for k in range(1, atlas.CLASSES) if k not in atlas.NOT_FITTED for side in ((0, 1) if atlas.SIDED[k] else (0,))]
        lattice = [(middles[k, side] - atlas.LOW) / atlas.STEP_MM for k, side in self.points]
        self.register_buffer("middles", torch.tensor(np.stack(lattice), dtype=torch.float32))
        table = np.concatenate([deep, np.clip(1 - deep.sum(0, keepdims=True), 0, 1)])
        self.register_buffer("table", torch.tensor(table).flatten(1))

    def forward(self, p: list, side) -> list:
        """Probabilities by class [X,Y,Z] and the side's logits [X,Y,Z] -> the probabilities, weighed; multiples of CELL voxels."""
        cells = lambda v: F.avg_pool3d(v[None, None], CELL)[0, 0]
        places = [positions(side, axis) for axis in range(3)]
        found, weight = self.found([cells(v) for v in p], cells(torch.sigmoid(side)), places)
        to_atlas = solve(found, self.middles, weight)
        apart = ((torch.cat([found, torch.ones_like(found[:, :1])], 1) @ to_atlas - self.middles) ** 2).sum(1)
        rms = atlas.STEP_MM * torch.sqrt((apart * weight).sum() / (weight.sum() + 1e-6))
        say = ((NONE_MM - rms) / (NONE_MM - FULL_MM)).clamp(0.0, 1.0) * (weight.sum() / len(self.points))
        factors = (self.at(to_atlas, places) + FLOOR) ** say
        up = lambda v: F.interpolate(v[None, None], scale_factor=float(CELL), mode="trilinear", align_corners=False)[0, 0]
        rest = up(factors[len(atlas.DEEP)])
        head = 1.0 - p[0]
        weighed = [v * (up(factors[atlas.DEEP.index(k)]) if k in atlas.DEEP else rest) for k, v in enumerate(p[1:], 1)]
        share = head / sum(weighed[1:], weighed[0]).clamp(min=1e-9)
        return [p[0], *(v * share for v in weighed)]

    def found(self, p: list, right, places):
        """Middles [points,3] of the structures (SCALE voxels from the middle) and what each counts [points]."""
        middles, weights = [], []
        for k, side in self.points:
            q = p[k] * p[k]
            if atlas.SIDED[k]:
                q = q * (right if side else 1.0 - right)
            mass = q.sum() + 1e-6
            sums = [(q.sum(tuple(a for a in range(3) if a != axis)) * places[axis]).sum() / mass for axis in range(3)]
            middles.append(torch.stack(sums))
            weights.append(mass / (mass + LEAST_VOXELS / CELL ** 3))
        return torch.stack(middles), torch.stack(weights)

    def at(self, to_atlas, places):
        """The table [classes, X/4, Y/4, Z/4] at every cell, linear between lattice points, held at the border."""
        x, y, z = places
        spot = (x.reshape(-1, 1, 1, 1) * to_atlas[0] + y.reshape(1, -1, 1, 1) * to_atlas[1] + z.reshape(1, 1, -1, 1) * to_atlas[2] + to_atlas[3])
        flat, share = 0, []
        for axis, n in enumerate(atlas.SIZE):
            t = spot[..., axis].clamp(0.0, n - 1.001)
            low = torch.floor(t)
            share.append((1.0 - (t - low), t - low))
            flat = flat * n + low.long()
        strides = (atlas.SIZE[1] * atlas.SIZE[2], atlas.SIZE[2], 1)
        out = 0.0
        for corner in range(8):
            bits = [(corner >> a) & 1 for a in range(3)]
            weight = share[0][bits[0]] * share[1][bits[1]] * share[2][bits[2]]
            index = flat + sum(b * s for b, s in zip(bits, strides))
            out = out + self.table[:, index] * weight
        return out


def positions(v, axis: int):
    """Middles of the cells along an axis of [X,Y,Z], in SCALE voxels from the grid's middle."""
    n = v.shape[axis] // CELL
    return (torch.arange(n, device=v.device).float() - (n - 1) / 2.0) * (CELL / SCALE)


def solve(x, y, weight):
    """Affine [4,3] of weighted least squares, y = [x, 1] @ affine; Gauss-Jordan: ONNX has no inverse, and 4 x 4 is small."""
    one = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    normal = one.T @ (one * weight[:, None]) + 1e-4 * torch.eye(4)
    rows = torch.cat([normal, one.T @ (y * weight[:, None])], 1)
    for i in range(4):
        pivot = rows[i] / rows[i, i]
        keep = torch.tensor([0.0 if r == i else 1.0 for r in range(4)])[:, None]
        rows = rows - keep * rows[:, i:i + 1] * pivot - (1.0 - keep) * (rows - pivot)
    return rows[:, 4:]
