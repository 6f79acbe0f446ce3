"""What a scanner does to a picture: slices, gaps, blur, bias, gamma, noise, ghosts, fields of view.

Images are tensors [x,y,z] at `voxel_mm`.  Slice profiles are matrices along one axis, so any resolution and
offset costs one small product: `down` takes the fine grid to slices, `up` interpolates back.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .warp import noise_field


def slice_matrices(n: int, spacing_mm: float, thickness_mm: float, offset: float, voxel_mm: float = 2.0):
    """`down` [m,n] averages a Gaussian of FWHM `thickness` about each slice; `up` [n,m] is linear; `offset` in 0..1."""
    positions = torch.arange(n) * voxel_mm
    centres = torch.arange(offset * spacing_mm, (n - 1) * voxel_mm + 1e-3, spacing_mm)
    sigma = max(thickness_mm / 2.355, 0.5)
    down = torch.exp(-0.5 * ((positions[None] - centres[:, None]) / sigma) ** 2)
    down = down / down.sum(1, keepdim=True)
    t = ((positions - centres[0]) / spacing_mm).clamp(0, len(centres) - 1)
    low = t.floor().long().clamp(max=max(len(centres) - 2, 0))
    up = torch.zeros(n, len(centres))
    rows = torch.arange(n)
    up[rows, low] += 1 - (t - low)
    up[rows, (low + 1).clamp(max=len(centres) - 1)] += t - low
    return down, up


def along(v: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.movedim(torch.tensordot(matrix, v, dims=([1], [axis])), 0, axis)


RESOLUTIONS = (0.35, 0.2, 0.35, 0.1)


def draw_resolution(rng, voxel_mm: float = 2.0, shares=RESOLUTIONS) -> list:
    """Per axis None (fine) or (spacing, thickness, offset): 3D, one thick axis up to 6 mm with gaps, or coarse."""
    kind = rng.choice(["fine", "soft", "slices", "coarse"], p=shares)
    out = [None, None, None]
    if kind == "soft":
        out = [(voxel_mm, rng.uniform(voxel_mm, 1.8 * voxel_mm), 0.0) for _ in range(3)]
    elif kind == "slices":
        axis = rng.choice([0, 1, 2], p=[0.2, 0.2, 0.6])
        spacing = rng.uniform(2.5, 6.5)
        out[axis] = (spacing, spacing * rng.uniform(0.6, 1.0), rng.uniform())
    elif kind == "coarse":
        s = rng.uniform(1.1, 2.0) * voxel_mm
        out = [(s, s, rng.uniform()) for _ in range(3)]
    return out


def scan(v: torch.Tensor, rng, gen, noise: float, voxel_mm: float = 2.0, shares=RESOLUTIONS) -> torch.Tensor:
    """Slices, Rician noise at the acquired resolution, and back to the grid."""
    ups = []
    for axis, r in enumerate(draw_resolution(rng, voxel_mm, shares)):
        if r is not None:
            down, up = slice_matrices(v.shape[axis], *r, voxel_mm)
            v = along(v, down, axis)
            ups.append((axis, up))
    if noise > 0:
        n = torch.randn(v.shape, generator=gen)
        v = (v + noise * n).abs()
    for axis, up in ups:
        v = along(v, up, axis)
    return v


def bias(v: torch.Tensor, rng, gen) -> torch.Tensor:
    """Smooth multiplicative field; one scan in seven as uneven as an uncorrected surface coil."""
    coil = rng.random() < 0.15
    low = noise_field(gen, 1, [12, 12, 12], 11 if coil else int(rng.choice([4, 6, 11])))
    field = torch.nn.functional.interpolate(low[None], size=list(v.shape), mode="trilinear", align_corners=True)[0, 0]
    return v * torch.exp(field * (rng.uniform(0.35, 0.8) if coil else rng.uniform(0, 0.35)))


def gamma(v: torch.Tensor, rng) -> torch.Tensor:
    top = float(v.max()) + 1e-6
    return top * (v / top).clamp(min=0) ** float(np.exp(rng.normal(0, 0.18)))


def ghost(v: torch.Tensor, rng) -> torch.Tensor:
    """Motion: faint shifted copies along one axis, or a mix with a slightly displaced copy."""
    axis = int(rng.integers(0, 3))
    if rng.random() < 0.5:
        shift = v.shape[axis] // int(rng.integers(2, 5))
        a = rng.uniform(0.02, 0.12)
        return v * (1 - a) + a * 0.5 * (torch.roll(v, shift, axis) + torch.roll(v, -shift, axis))
    a = rng.uniform(0.1, 0.4)
    return v * (1 - a) + a * torch.roll(v, int(rng.choice([-1, 1])), axis)


def draw_window(rng, shape, chance: float) -> list:
    """Voxel ranges [(lo, hi)]*3 kept of a cropped field of view; the whole grid where nothing is cut."""
    out = [(0, n) for n in shape]
    if rng.random() < chance:
        axis = int(rng.choice([0, 1, 2], p=[0.2, 0.2, 0.6]))
        n = shape[axis]
        out[axis] = (int(rng.uniform(0, 0.18) * n), n - int(rng.uniform(0, 0.18) * n))
    return out


def cut(v: torch.Tensor, window) -> torch.Tensor:
    out = torch.zeros_like(v)
    s = tuple(slice(lo, hi) for lo, hi in window)
    out[s] = v[s]
    return out
