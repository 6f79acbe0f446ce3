"""Things that are no head: rods, spheres, bottles, limbs, noise and empty fields; [x,y,z] at 2 mm."""

from __future__ import annotations

import numpy as np
import torch

from . import warp

KINDS = ("rods", "bottle", "spheres", "noise", "limb", "empty", "boxes", "trunk")


def _axes(shape, rng, tilt: float = 12.0):
    """Voxel coordinates in mm about a random centre, slightly tilted, axes shuffled; [3,x,y,z]."""
    d = torch.stack(torch.meshgrid(*[(torch.arange(n) - (n - 1) / 2) * 2.0 for n in shape], indexing="ij"))
    r = warp.tensor(warp.rotation(rng.normal(0, tilt, 3))).float()
    d = torch.einsum("rc,cxyz->rxyz", r, d) + warp.tensor(rng.normal(0, 8, 3)).float().reshape(3, 1, 1, 1)
    return d[list(rng.permutation(3))]


def _cylinder(d, radius: float, squash: float = 1.0):
    return d[0].square() + (d[1] * squash).square() < radius ** 2


def draw(rng: np.random.Generator, gen: torch.Generator, shape, kind: str | None = None) -> tuple[torch.Tensor, str]:
    """Noise-free image and the kind's name (drawn unless given)."""
    kind = kind or KINDS[int(rng.integers(len(KINDS)))]
    d = _axes(shape, rng)
    v = torch.zeros(shape)
    if kind == "rods":
        if rng.random() < 0.7:
            body = _cylinder(d, rng.uniform(50, 95)) & (d[2].abs() < rng.uniform(50, 110))
            v[body] = rng.uniform(0.2, 1.0)
        step, radius, value = rng.uniform(12, 40), rng.uniform(2, 9), rng.uniform(0, 1.0)
        cell = torch.stack([torch.remainder(d[0], step) - step / 2, torch.remainder(d[1], step) - step / 2])
        rod = (cell.square().sum(0) < radius ** 2) & (d[:2].square().sum(0) < 85 ** 2) & (d[2].abs() < rng.uniform(40, 110))
        v[rod] = value
    elif kind == "bottle":
        body = _cylinder(d, rng.uniform(25, 80), rng.uniform(0.7, 1.3)) & (d[2].abs() < rng.uniform(50, 110))
        v[body] = rng.uniform(0.4, 1.0)
        level = rng.uniform(-60, 90)
        v[body & (d[1] > level)] = rng.uniform(0, 0.1)
        if rng.random() < 0.4:
            v[_cylinder(d, rng.uniform(8, 20)) & (d[2] > 0)] = rng.uniform(0.3, 1)
    elif kind == "spheres":
        if rng.random() < 0.5:
            v[d.square().sum(0) < rng.uniform(50, 95) ** 2] = rng.uniform(0.3, 1)
        for _ in range(int(rng.integers(1, 12))):
            c = warp.tensor(rng.uniform(-55, 55, 3)).float().reshape(3, 1, 1, 1)
            v[(d - c).square().sum(0) < rng.uniform(5, 30) ** 2] = rng.uniform(0, 1)
    elif kind == "noise":
        v = warp.noise_field(gen, 1, shape, int(rng.choice([2, 6, 20])))[0].abs() * rng.uniform(0.1, 1)
    elif kind == "limb":
        for sign in ((-1, 1) if rng.random() < 0.5 else (0,)):
            e = d - torch.tensor([sign * 45.0, 0, 0]).reshape(3, 1, 1, 1)
            wobble = 1 + 0.08 * warp.noise_field(gen, 1, shape, 20)[0]
            radius = rng.uniform(28, 42) if sign else rng.uniform(35, 85)
            rr = (e[0].square() + e[1].square()).sqrt() * wobble
            for r, value in ((1.0, rng.uniform(0.5, 1)), (0.85, rng.uniform(0.25, 0.6)), (0.3, rng.uniform(0, 0.1)), (0.22, rng.uniform(0.4, 0.9))):
                v[rr < radius * r] = value
    elif kind == "trunk":
        wobble = 1 + 0.1 * warp.noise_field(gen, 1, shape, 25)[0]
        rr = (d[0].square() + (d[1] * rng.uniform(1.1, 1.7)).square()).sqrt() * wobble
        radius = rng.uniform(75, 160)
        v[rr < radius] = rng.uniform(0.5, 1)
        v[rr < radius * 0.9] = rng.uniform(0.2, 0.6)
        organs = warp.noise_field(gen, 1, shape, 12)[0]
        inner = rr < radius * 0.85
        for lo in (0.3, 0.8, 1.3):
            v[inner & (organs > lo)] = rng.uniform(0, 1)
    elif kind == "boxes":
        for _ in range(int(rng.integers(1, 6))):
            c = warp.tensor(rng.uniform(-40, 40, 3)).float().reshape(3, 1, 1, 1)
            h = warp.tensor(rng.uniform(8, 70, 3)).float().reshape(3, 1, 1, 1)
            v[((d - c).abs() < h).all(0)] = rng.uniform(0, 1)
    if kind not in ("noise", "empty") and rng.random() < 0.5:
        v = v * (1 + rng.uniform(0, 0.3) * warp.noise_field(gen, 1, shape, int(rng.choice([3, 8, 16])))[0]).clamp(min=0)
    return v, kind
