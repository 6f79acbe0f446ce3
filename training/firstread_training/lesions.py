"""Lesions of white matter, from what the network's map says and what stands out from the white matter nearby."""

from __future__ import annotations

import torch

from .labels import CORTEX, CSF, WM
from .refine import around, local_mean

LESION_SPREADS, LESION_LOGIT, LESION_STEEPNESS = 3.5, 0.5, 2.0
SURE_WHITE, WHITE_AROUND, BRAIN_AROUND = 0.8, 0.5, 0.9
T1_LIKE = 0.1  # white matter brighter than cortex by this share: there lesions are dark


def lesions(p: list, map_logits, image):
    """Unrefined class probabilities [X,Y,Z], the network's map and the image [X,Y,Z] -> probability of a lesion [X,Y,Z].

    A white-matter lesion stands out from the white matter around it *and* the map agrees: either alone is
    wrong in most places (isbi-04, Dice against rater 1: map 0.05, difference 0.16, both 0.42).
    """
    sure = (p[WM] > SURE_WHITE).float()
    mean, white = local_mean(image, sure)
    difference = image - mean
    voxels = sure.sum() + 1.0
    first = (sure * difference.abs()).sum() / voxels + 1e-3
    spread = 1.25 * (sure * torch.minimum(difference.abs(), 2.5 * first)).sum() / voxels + 1e-3
    grey = (p[CORTEX] ** 2 * image).sum() / ((p[CORTEX] ** 2).sum() + 1e-6)
    sign = 1.0 - 2.0 * (white - grey > T1_LIKE * white).float()
    odds = torch.minimum(sign * difference / spread - LESION_SPREADS, map_logits - LESION_LOGIT) * LESION_STEEPNESS
    inside = (around(p[WM], 7) > WHITE_AROUND) & (around(1.0 - p[0] - p[CSF], 9) > BRAIN_AROUND)
    return torch.sigmoid(odds) * inside.float()
