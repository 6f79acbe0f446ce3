"""The picture has a say: class probabilities refined by the intensities of each class nearby.

A network trained on random contrasts places structures well and draws the border between white matter and
cortex badly while it is young.  What is classical about segmentation (Ashburner & Friston, NeuroImage 2005:
tissue priors times Gaussian intensity likelihoods, by expectation maximisation; neighbours agree as a Markov
field would have it, Zhang et al., IEEE TMI 2001) needs no training: the network's probabilities are the
priors, each class's mean intensity is taken from what is nearby, and the voxels are asked again.  Works for
any contrast, and lives in the exported graph, class by class: all of them at once took 3 GB.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .labels import CORTEX, CSF, WM
from .losses import CLASS_WEIGHTS

ITERATIONS = 2  # a third one gives the third ventricle to the sulci (0.76 to 0.55 on heads 01 and 03)
CELL = 8  # voxels; means are taken over cells of 8 mm and the three cells each way
REACH = 3
PRIOR_POWER = 0.7  # the network's voxels are not independent witnesses
NEIGHBOURS = 3.0  # log odds that the 27 voxels around give when they agree
GLOBAL_WEIGHT = 0.02  # of a class's mean over the whole field, where it is rare nearby
SPREAD_MIN = 0.02


def around(v, size: int):
    """Mean of [X,Y,Z] over a cube of `size` voxels, of what lies inside: padding is what ONNX Runtime leaves out when it merges it in."""
    return F.avg_pool3d(v[None, None], size, 1, size // 2, count_include_pad=False)[0, 0]


def local_mean(image, weight, cell: int = CELL):
    """Mean of the image [X,Y,Z] near each voxel, weighted, and the mean of the whole field; cells of `cell` voxels."""
    cells = lambda v: F.avg_pool3d(v[None, None], cell, count_include_pad=False)
    total, count = cells(weight * image), cells(weight)
    overall = total.sum() / (count.sum() + 1e-6)
    near = lambda v: F.avg_pool3d(v, 2 * REACH + 1, 1, REACH, count_include_pad=False)
    mean = (near(total) + GLOBAL_WEIGHT * overall) / (near(count) + GLOBAL_WEIGHT)
    return F.interpolate(mean, scale_factor=float(cell), mode="nearest")[0, 0], overall


def softmax(scores) -> list:
    """Softmax over [X,Y,Z] tensors that come one by one: the runtime's own over a leading axis copies all of them twice.

    Scores over 60 would overflow; none comes near.
    """
    parts = [torch.exp(s.clamp(-60.0, 60.0)) for s in scores]
    share = 1.0 / sum(parts[1:], parts[0])
    return [e * share for e in parts]


def unweighted(logits) -> list:
    """Probabilities by class [X,Y,Z] without the training loss's class weights, which make small structures too large."""
    return softmax(logits[i] - math.log(w) for i, w in enumerate(CLASS_WEIGHTS[:logits.shape[0]]))


def refine(p: list, image, iterations: int = ITERATIONS, cell: int = CELL, neighbours: float = NEIGHBOURS) -> list:
    """Probabilities [X,Y,Z] of the classes and the image [X,Y,Z] they are of -> the same, refined; X, Y, Z multiples of `cell`.

    The background keeps its probability: scalp, bone and air are no one intensity.  White matter and cortex
    count as one for the neighbours' sake: between them a border is as good as an inside.
    """
    background, *p = p
    brain = 1.0 - background
    prior = [PRIOR_POWER * torch.log(v + 1e-4) for v in p]
    for _ in range(iterations):
        mantle = around(p[WM - 1] + p[CORTEX - 1], 3)
        scores = (prior[i] + likelihood(own, image, cell) + neighbours * (mantle if i + 1 in (WM, CORTEX) else around(own, 3)) for i, own in enumerate(p))
        p = [v * brain for v in softmax(scores)]
    return [background, *p]


def likelihood(p, image, cell: int = CELL):
    """Log likelihood [X,Y,Z] of the image where it is the class whose probability is `p`, up to a constant."""
    q = p * p
    difference = (image - local_mean(image, q, cell)[0]) ** 2
    variance = (q * difference).sum() / (q.sum() + 1.0) + SPREAD_MIN ** 2
    return -0.5 * difference / variance - 0.5 * torch.log(variance)
