"""White-matter lesions as raters find them: some dozens, each with a size, an edge and a brightness of its own.

Measured at 1 mm on the three scans of `ms_flair`: 20 to 36 lesions of 5 to 208 mm3 (quartiles), 1 to 17 ml in all;
4 to 6 spreads brighter than the white matter in the middle, 2 to 3.4 at the last voxel inside, 0.8 to 1.6 at the first
outside.  Thresholded noise (`pathology.white_lesions`) makes dozens to hundreds of crumbs with hard edges instead, most of them
lost in the scan's own blur; what is taught on them is shy of everything.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from . import labels as L
from . import warp
from .maps import blur

MANY = (5, 60)  # lesions of a head, drawn evenly in the logarithm
LEAST_MM3, MOST_MM3 = 8.0, 8000.0
SPREAD = 1.0  # of the logarithm of the volumes
BRIGHT = (0.5, 1.0)  # of the difference from white matter, lesion by lesion
BLUR_MM = (0.4, 1.1)  # Gaussian edge, one for all lesions of a head
BESIDE_MM = 6.0  # this near the ventricles is beside them
ROUGH = 0.25
DEEP, DEEP_SHARE = (L.THALAMUS, L.BRAIN_STEM, L.VENTRAL_DC, L.CEREBELLUM_WM), 0.1
IN_CORTEX = (0.1, 0.8)  # share of a head's lesions that reach into grey matter
NO_PLACE = (L.LATERAL, L.THIRD, L.FOURTH, L.CSF)


def lesions(rng: np.random.Generator, gen: torch.Generator, tissue: torch.Tensor, ml: float, voxel_mm: float = 1.0, many=MANY):
    """Lesions of about `ml`, most in the white matter of `tissue` [x,y,z] -> what is lesion (bool) and how much to paint there and about it (0..1)."""
    inside, paint = torch.zeros(tissue.shape, dtype=torch.bool), torch.zeros(tissue.shape)
    white = tissue == L.WM
    anywhere = torch.nonzero(white)
    if not len(anywhere):
        return inside, paint
    beside = torch.nonzero(white & _near(tissue == L.LATERAL, voxel_mm))
    deep = torch.nonzero(_any(tissue, DEEP))
    share = rng.uniform(0.2, 0.9) if len(beside) else 0.0
    in_cortex, sigma = rng.uniform(*IN_CORTEX), rng.uniform(*BLUR_MM) / voxel_mm
    solid = (tissue > 0) & (tissue < L.CLASS_COUNT) & ~_any(tissue, NO_PLACE)
    volumes = rng.lognormal(0, SPREAD, int(round(np.exp(rng.uniform(*np.log(many))))))
    for volume in np.clip(volumes * ml * 1000 / volumes.sum(), LEAST_MM3, MOST_MM3):
        places = beside if rng.random() < share else anywhere
        if len(deep) and rng.random() < DEEP_SHARE:
            places = deep
        centre = places[int(rng.integers(len(places)))]
        allowed = solid if places is deep or rng.random() < in_cortex else white
        _add(rng, gen, inside, paint, centre, (volume * 3 / (4 * np.pi)) ** (1 / 3) / voxel_mm, sigma, allowed, solid)
    return inside, paint


def _add(rng, gen, inside, paint, centre, radius: float, sigma: float, allowed, painted) -> None:
    """One rough ellipsoid of `radius` voxels about `centre`, in place."""
    reach = int(np.ceil(1.8 * radius + 3 * sigma)) + 1
    low = [max(0, int(c) - reach) for c in centre]
    high = [min(n, int(c) + reach + 1) for c, n in zip(centre, inside.shape)]
    here = tuple(slice(a, b) for a, b in zip(low, high))
    axes = [torch.arange(a, b, dtype=torch.float32) - float(c) for a, b, c in zip(low, high, centre)]
    axis = np.exp(rng.normal(0, 0.25, 3))
    turn = warp.tensor(np.diag(1 / (axis / axis.prod() ** (1 / 3))) @ warp.rotation(rng.uniform(-90, 90, 3))).float()
    away = torch.einsum("rc,cxyz->rxyz", turn, torch.stack(torch.meshgrid(*axes, indexing="ij"))).square().sum(0).sqrt()
    noise = warp.noise_field(gen, 1, away.shape, max(3, int(radius)))[0]
    spot = (away * torch.exp(ROUGH * noise) <= radius) & allowed[here]
    inside[here] |= spot
    paint[here] = torch.maximum(paint[here], rng.uniform(*BRIGHT) * blur(spot.float(), sigma) * painted[here])


def _any(tissue: torch.Tensor, kinds) -> torch.Tensor:
    return torch.isin(tissue, torch.tensor(kinds, dtype=tissue.dtype))


def _near(mask: torch.Tensor, voxel_mm: float) -> torch.Tensor:
    size, v = 2 * int(round(BESIDE_MM / voxel_mm)) + 1, mask.float()[None, None]
    for kernel in ((size, 1, 1), (1, size, 1), (1, 1, size)):
        v = F.max_pool3d(v, kernel, stride=1, padding=tuple(k // 2 for k in kernel))
    return v[0, 0] > 0
