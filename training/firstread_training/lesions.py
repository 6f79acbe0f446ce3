"""Lesions of white matter, from what stands out from the white matter nearby and what the lesion network says of it."""

from __future__ import annotations

import torch

from .labels import CORTEX, CSF, WM
from .lesion_net import SHARE, WHITE, figures
from .refine import around

BRIGHT_MOST = 4.0  # spreads; what is brighter is no surer
NET_WEIGHT, NET_LEAST, NET_MOST = 1.5, -8.0, 4.0  # of the lesion network's logit
FROM, STEEPNESS = 1.25, 0.5  # gentle: the answer is interpolated to the picture, and an edge keeps its place only where the odds are about linear
BRAIN_AROUND = 0.5  # keeps skull and orbit out; more would hide what lies beside fluid (a lesion of 0.2 ml in a midbrain, at 0.9)
T1_LIKE = 0.1  # white matter brighter than cortex by this share: there lesions are dark


def lesions(p: list, map_logits, image, net):
    """Unrefined class probabilities [X,Y,Z], the network's map, the image [X,Y,Z] and a `LesionNet` -> probability of a lesion [X,Y,Z].

    Neither is enough alone: the lesion network learned lesions as they are painted, and is shy of some real ones; what is
    bright near white matter is mostly no lesion (Dice of both, and of each, in `docs/experiments.md`).  Where it may be is
    left to the network: lesions at the cortex are labelled as cortex more often than not.
    """
    shown = figures(p, map_logits, image)
    logits = net(shown[None])[0, 0].clamp(NET_LEAST, NET_MOST)
    bright = (sign(p, image) * shown[WHITE] / SHARE).clamp(max=BRIGHT_MOST)
    odds = (bright + NET_WEIGHT * logits - FROM) * STEEPNESS
    inside = around(1.0 - p[0] - p[CSF], 9) > BRAIN_AROUND
    return torch.sigmoid(odds) * inside.float()


def sign(p: list, image):
    """1, or -1 where white matter is brighter than cortex as in a T1: a tensor without axes."""
    mean = lambda v: (v * v * image).sum() / ((v * v).sum() + 1e-6)
    white, grey = mean(p[WM]), mean(p[CORTEX])
    return 1.0 - 2.0 * (white - grey > T1_LIKE * white).float()
