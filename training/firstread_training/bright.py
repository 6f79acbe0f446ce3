"""What is bright beside the lesions and is none: ventricles' rims, caps and bands, choroid plexus, cortex of uneven brightness.

Neither side of a pair is abnormal for it, and the lesion mask stays empty there.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from . import labels as L
from . import pathology, warp
from .maps import blur


def distract(image, tissue, style, rng, gen, voxel_mm: float, rims: float = 0.5) -> torch.Tensor:
    """Tufts of choroid plexus and flow in the ventricles, rims of the ventricles, sulci."""
    inside = (tissue == L.LATERAL) | (tissue == L.THIRD) | (tissue == L.FOURTH)
    wm, gm = float(style.mean[L.WM]), float(style.mean[L.CORTEX])
    noise = warp.noise_field(gen, 2, image.shape, int(6 / voxel_mm))
    if rng.random() < 0.7:  # tufts and flow
        tuft = inside & (noise[0] > rng.uniform(0.6, 1.4))
        image = mix(image, pathology.soft(tuft), rng.uniform(min(wm, gm), 1.3 * max(wm, gm)))
    if rng.random() < rims:  # a thin rim about the ventricles, brighter than the white matter, as every FLAIR has
        size = 3 if voxel_mm > 1 else int(rng.choice([3, 5]))
        near = F.avg_pool3d(inside.float()[None, None], size, stride=1, padding=size // 2)[0, 0]
        rim = (near > 0.1) & (tissue == L.WM) & (noise[1] > rng.uniform(-1.0, 0.5))
        image = mix(image, 0.7 * pathology.soft(rim), wm + rng.uniform(0.05, 0.2) * (1 if gm > wm else -1))
    if rng.random() < 0.3:  # fluid in some sulci that was not nulled
        sulci = (tissue == L.CSF) & (noise[1] > rng.uniform(0.8, 1.5))
        image = mix(image, pathology.soft(sulci), rng.uniform(min(wm, gm), 1.2 * max(wm, gm)))
    return image


def uneven(image, tissue, rng, gen, voxel_mm: float) -> torch.Tensor:
    """Cortex and white matter are no one brightness: on a FLAIR insula, cingulum and hippocampus are brighter, and so is
    the white matter behind the ventricles.  Neither is a lesion."""
    field = warp.noise_field(gen, 2, image.shape, int(rng.choice([10, 16, 24]) / voxel_mm))
    grey = (tissue == L.CORTEX) | (tissue == L.HIPPOCAMPUS) | (tissue == L.AMYGDALA)
    gain = rng.uniform(0, 0.14) * field[0] * grey + rng.uniform(0, 0.06) * field[1] * (tissue == L.WM)
    return image * (1 + gain).clamp(min=0.5)


def caps(image, tissue, style, rng, voxel_mm: float) -> torch.Tensor:
    """White matter in front of and behind the ventricles can be brighter on a FLAIR, without an edge; it is no lesion.

    On ljubljana-07 of ms_flair: 2.7 to 3.2 spreads of the white matter, 0.3 to 1.3 ml each, more behind than in front.
    """
    at = torch.nonzero(tissue == L.LATERAL).float()
    wm, gm = float(style.mean[L.WM]), float(style.mean[L.CORTEX])
    if len(at) < 100:
        return image
    middle, white = at[:, 0].median(), (tissue == L.WM).float()
    grid = [torch.arange(n, dtype=torch.float32) for n in tissue.shape]
    sign = np.sign(gm - wm) if style.contrast != "random" else rng.choice([-1.0, 1.0])
    for of_side in (at[at[:, 0] < middle], at[at[:, 0] >= middle]):
        for back in (True, False):
            if not len(of_side) or rng.random() > (0.8 if back else 0.6):
                continue
            edge = torch.quantile(of_side[:, 1], 0.15 if back else 0.9)
            end = of_side[of_side[:, 1] <= edge] if back else of_side[of_side[:, 1] >= edge]
            centre = end.mean(0) + warp.tensor(rng.normal(0, 3 / voxel_mm, 3)).float()
            width = warp.tensor(rng.uniform(3.5, 9.0, 3) / voxel_mm).float()
            x, y, z = (torch.exp(-0.5 * ((g - c) / w) ** 2) for g, c, w in zip(grid, centre, width))
            blob = x[:, None, None] * y[None, :, None] * z[None, None, :]
            image = image + float(sign * rng.uniform(0.05, 0.35)) * blob * white
    return image.clamp(min=0)


def bands(image, tissue, style, rng, gen, voxel_mm: float) -> torch.Tensor:
    """White matter along the ventricles' bodies is brighter on many FLAIRs, here more than there; it is no lesion.

    On ljubljana-07 of ms_flair: 2 to 4 mm wide, 10 to 20 mm long, as bright as its lesions (3.4 spreads), much alike on both sides.
    """
    wm, gm = float(style.mean[L.WM]), float(style.mean[L.CORTEX])
    near = blur((tissue == L.LATERAL).float(), rng.uniform(1.0, 3.0) / voxel_mm)
    # alike on both sides: half of what says where is mirrored
    noise = warp.noise_field(gen, 2, image.shape, int(rng.choice([8, 12, 18, 24]) / voxel_mm))
    at = torch.nonzero(tissue == L.LATERAL)
    middle = int(at[:, 0].float().mean()) if len(at) else image.shape[0] // 2
    alike = torch.roll(noise[0].flip(0), 2 * middle - image.shape[0] + 1, 0)
    where = torch.where(torch.arange(image.shape[0]).reshape(-1, 1, 1) < middle, noise[0], alike) + 0.5 * noise[1]
    amount = (0.7 + where - rng.uniform(0, 1)).clamp(0, 1.5) * (near / 0.3).clamp(max=1) * (tissue == L.WM)
    sign = np.sign(gm - wm) if style.contrast != "random" else rng.choice([-1.0, 1.0])
    return (image + float(sign * rng.uniform(0.05, 0.5)) * amount).clamp(min=0)


def plexus(image, tissue, style, rng, gen, voxel_mm: float) -> torch.Tensor:
    """Choroid plexus that fills much of the ventricles where they are low, and reaches their wall.

    `distract` paints tufts; in a narrow atrium or inferior horn there is nothing but plexus, and a network that saw no fluid
    there takes it for white matter with a lesion in it (ljubljana-07: eight false lesions of 14 to 106 mm3, 2.8 to 5.3 spreads).
    """
    wm, gm = float(style.mean[L.WM]), float(style.mean[L.CORTEX])
    at = torch.nonzero(tissue == L.LATERAL).float()
    if len(at) < 100:
        return image
    middle = at[:, 0].mean()
    value = rng.uniform(min(wm, gm), 1.4 * max(wm, gm))
    noise = warp.noise_field(gen, 1, image.shape, max(2, int(4 / voxel_mm)))[0]
    wall = blur((tissue == L.LATERAL).float(), rng.uniform(0.4, 1.2) / voxel_mm)
    for of_side in (at[at[:, 0] < middle], at[at[:, 0] >= middle]):
        low = of_side[of_side[:, 2] <= torch.quantile(of_side[:, 2], 0.6)] if len(of_side) > 50 else of_side
        for _ in range(int(rng.integers(1, 4))):
            if not len(low):
                break
            centre = low[int(rng.integers(len(low)))]
            width = warp.tensor(rng.uniform([2.5, 4.0, 3.0], [6.0, 12.0, 9.0]) / voxel_mm).float()
            away = sum((((torch.arange(n, dtype=torch.float32) - c) / w) ** 2).reshape([-1 if a == i else 1 for a in range(3)])
                       for i, (n, c, w) in enumerate(zip(image.shape, centre, width)))
            tuft = torch.sigmoid(4 * (1.0 - away + 0.7 * noise))
            image = mix(image, tuft * (wall * rng.uniform(1.2, 2.2)).clamp(max=1) * (wall > 0.1), value * rng.uniform(0.9, 1.1), rng, gen)
    return image


def mix(image, mask, value, rng=None, gen=None):
    if rng is not None and rng.random() < 0.6:  # lesions are seldom of one even intensity
        value = value * (1 + 0.15 * warp.noise_field(gen, 1, image.shape, 4)[0])
    return image * (1 - mask) + mask * value
