"""Deformations: where each voxel of a generated image looks in its label map.

Coordinates are pull-back: tensors [3,nx,ny,nz] hold, for each point of the output, the voxel position
(x, y, z; 1 mm voxels) in the map.  Fields are computed on a 4 mm lattice and interpolated.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from .maps import FIELD_MM

LATTICE_MM = 4.0


def device() -> torch.device:
    """Where new tensors go: the CPU, or what `torch.set_default_device` says (torch 2; generating workers on a GPU)."""
    return torch.empty(0).device


def tensor(array) -> torch.Tensor:
    """A numpy array where new tensors go."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device())


def generator(seed: int) -> torch.Generator:
    """Random numbers where new tensors go; a CPU and a GPU give different ones."""
    return torch.Generator(device=device()).manual_seed(seed)


def rotation(angles_deg) -> np.ndarray:
    """Rotation matrix [3,3] about x, then y, then z."""
    ax, ay, az = np.deg2rad(angles_deg)
    rx = np.array([[1, 0, 0], [0, math.cos(ax), -math.sin(ax)], [0, math.sin(ax), math.cos(ax)]])
    ry = np.array([[math.cos(ay), 0, math.sin(ay)], [0, 1, 0], [-math.sin(ay), 0, math.cos(ay)]])
    rz = np.array([[math.cos(az), -math.sin(az), 0], [math.sin(az), math.cos(az), 0], [0, 0, 1]])
    return rz @ ry @ rx


def affine(rng: np.random.Generator, flip: bool) -> np.ndarray:
    """Random linear part [3,3] from output mm (about the crop centre) to map mm."""
    scale = np.diag(np.exp(rng.normal(0, 0.06, 3) + rng.normal(0, 0.05)))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = rng.normal(0, 0.04, 3)
    m = rotation(rng.normal(0, (9, 5, 6))) @ scale @ shear
    return m @ np.diag([-1.0 if flip else 1.0, 1.0, 1.0])


def lattice(shape, matrix: np.ndarray, centre: np.ndarray, voxel_mm: float = 2.0) -> torch.Tensor:
    """Map voxels [3,a,b,c] of the 4 mm lattice under a grid `shape` (every second point of it at 2 mm, every fourth at 1 mm)."""
    every = int(LATTICE_MM / voxel_mm)
    axes = [(torch.arange(-(-n // every) + 1) * every - (n - 1) / 2) * voxel_mm for n in shape]
    d = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    m = tensor(matrix).float()
    return torch.einsum("rc,cxyz->rxyz", m, d) + tensor(centre).float().reshape(3, 1, 1, 1)


def refine(field: torch.Tensor, shape, voxel_mm: float = 2.0) -> torch.Tensor:
    """Lattice field [c,a,b,c] -> the grid [c,*shape] of `voxel_mm`."""
    full = [int(LATTICE_MM / voxel_mm) * (n - 1) + 1 for n in field.shape[1:]]
    out = F.interpolate(field[None], size=full, mode="trilinear", align_corners=True)[0]
    return out[:, :shape[0], :shape[1], :shape[2]]


def noise_field(gen: torch.Generator, channels: int, shape, cells: int) -> torch.Tensor:
    """Smooth unit-variance-like noise [channels,*shape]: normal values on a grid about `cells` voxels apart."""
    low = [max(2, int(math.ceil(n / cells)) + 1) for n in shape]
    z = torch.randn([1, channels, *low], generator=gen)
    return F.interpolate(z, size=list(shape), mode="trilinear", align_corners=True)[0]


def sample(volume: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Trilinear values [c,...] of volume [c,x,y,z] at voxel positions `at` [3,...]; zero outside."""
    size = torch.tensor(volume.shape[1:], dtype=torch.float32).reshape(3, 1, 1, 1)
    grid = (2.0 * at / (size - 1) - 1.0).permute(1, 2, 3, 0).flip(-1)[None]
    return F.grid_sample(volume[None], grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0]


def diffeomorphic(gen: torch.Generator, rng: np.random.Generator, shape) -> torch.Tensor:
    """Displacement [3,*shape] in mm on the lattice: a random velocity field, integrated by squaring."""
    v = noise_field(gen, 3, shape, 10) * rng.uniform(0, 5.0) + noise_field(gen, 3, shape, 5) * rng.uniform(0, 2.2)
    steps = 4
    u = v / (2 ** steps)
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    for _ in range(steps):
        u = u + sample(u, grid + u / LATTICE_MM)
    return u


def gradient(field: torch.Tensor) -> torch.Tensor:
    """Gradient [3,x,y,z] per mm of a smooth map field [x,y,z] stored at FIELD_MM."""
    f = field.float()
    return torch.stack(torch.gradient(f, spacing=float(FIELD_MM)))


def flow(x: torch.Tensor, grad: torch.Tensor, amount_mm2: float, window=None, steps: int = 5) -> torch.Tensor:
    """Moves pull-back coordinates [3,...] along a field's gradient by about amount*|grad| mm.

    Towards the inside of a mask (amount > 0) the structure grows and pushes its surroundings away;
    towards the outside it shrinks.  `window` maps map coordinates [3,...] to a weight [...].
    """
    for _ in range(steps):
        g = sample(grad, (x - (FIELD_MM - 1) / 2.0) / FIELD_MM)
        if window is not None:
            g = g * window(x)
        x = x + (amount_mm2 / steps) * g
    return x


def swell(x: torch.Tensor, centre, radius_mm: float, strength: float, steps: int = 4) -> torch.Tensor:
    """Mass effect: everything about `centre` (map voxels) is pushed outwards; strength about 0..1."""
    c = torch.as_tensor(centre, dtype=torch.float32).reshape(3, 1, 1, 1)
    for _ in range(steps):
        d = x - c
        w = torch.exp(-(d * d).sum(0) / (2.0 * radius_mm * radius_mm))
        x = x - (strength / steps) * w * d
    return x
