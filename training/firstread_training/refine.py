"""The picture has a say: class probabilities refined by the intensities of each class nearby.

A network trained on random contrasts places structures well and draws the border between white matter and
cortex badly while it is young.  What is classical about segmentation (Ashburner & Friston, NeuroImage 2005:
tissue priors times Gaussian intensity likelihoods, by expectation maximisation) needs no training: the
network's probabilities are the priors, each class's mean intensity is taken from what is nearby, and the
voxels are asked again.  Works for any contrast, and lives in the exported graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .labels import CORTEX, CSF, WM
from .losses import CLASS_WEIGHTS

ITERATIONS = 2  # a third one gives the third ventricle to the sulci (0.76 to 0.55 on heads 01 and 03)
CELL = 8  # voxels; means are taken over cells of 8 mm and the three cells each way
REACH = 3
PRIOR_POWER = 0.7  # the network's voxels are not independent witnesses
GLOBAL_WEIGHT = 0.02  # of a class's mean over the whole field, where it is rare nearby
SPREAD_MIN = 0.02
# lesions: how many spreads from the white matter nearby, and how much the network's map must agree; chosen on
# the three MS scans by eye of a table, so figures on them are optimistic
LESION_SPREADS, LESION_LOGIT, LESION_STEEPNESS = 3.5, 0.5, 2.0
SURE_WHITE, WHITE_AROUND, BRAIN_AROUND = 0.8, 0.5, 0.9
T1_LIKE = 0.1  # white matter brighter than cortex by this share: there lesions are dark


def refine(logits, image, iterations: int = ITERATIONS):
    """Logits [C,X,Y,Z] of classes and the image [1,X,Y,Z] they are of -> probabilities [C,X,Y,Z]; X, Y, Z multiples of CELL.

    The background keeps its probability: scalp, bone and air are no one intensity.  The class weights of the
    training loss are taken out first, as they make small structures too large.
    """
    weights = torch.log(torch.tensor(CLASS_WEIGHTS[:logits.shape[0]], device=logits.device)).reshape(-1, 1, 1, 1)
    p = torch.softmax(logits - weights, 0)
    background = p[:1]
    prior = PRIOR_POWER * torch.log(p[1:] + 1e-4)
    p = p[1:]
    for _ in range(iterations):
        q = p * p
        total, count = F.avg_pool3d((q * image)[None], CELL), F.avg_pool3d(q[None], CELL)
        overall = total.sum((2, 3, 4), keepdim=True) / (count.sum((2, 3, 4), keepdim=True) + 1e-6)
        near = lambda v: F.avg_pool3d(v, 2 * REACH + 1, 1, REACH)
        mean = (near(total) + GLOBAL_WEIGHT * overall) / (near(count) + GLOBAL_WEIGHT)
        difference = (image - F.interpolate(mean, scale_factor=float(CELL), mode="nearest")[0]) ** 2
        variance = (q * difference).sum((1, 2, 3), keepdim=True) / (q.sum((1, 2, 3), keepdim=True) + 1.0) + SPREAD_MIN ** 2
        p = torch.softmax(prior - 0.5 * difference / variance - 0.5 * torch.log(variance), 0) * (1.0 - background)
    return torch.cat([background, p], 0)


def lesions(logits, map_logits, image):
    """Class logits [C,X,Y,Z], the network's map [X,Y,Z] and the image [1,X,Y,Z] -> probability of a lesion [X,Y,Z].

    A white-matter lesion stands out from the white matter around it *and* the map agrees: either alone is
    wrong in most places (isbi-04, Dice against rater 1: map 0.05, difference 0.16, both 0.42).
    """
    p = torch.softmax(logits, 0)
    sure = (p[WM:WM + 1] > SURE_WHITE).float()
    total, count = F.avg_pool3d((sure * image)[None], CELL), F.avg_pool3d(sure[None], CELL)
    overall = total.sum((2, 3, 4), keepdim=True) / (count.sum((2, 3, 4), keepdim=True) + 1e-6)
    near = lambda v: F.avg_pool3d(v, 2 * REACH + 1, 1, REACH)
    mean = (near(total) + GLOBAL_WEIGHT * overall) / (near(count) + GLOBAL_WEIGHT)
    difference = image - F.interpolate(mean, scale_factor=float(CELL), mode="nearest")[0]
    voxels = sure.sum() + 1.0
    first = (sure * difference.abs()).sum() / voxels + 1e-3
    spread = 1.25 * (sure * torch.minimum(difference.abs(), 2.5 * first)).sum() / voxels + 1e-3
    white = overall.reshape(())
    grey = (p[CORTEX] ** 2 * image[0]).sum() / ((p[CORTEX] ** 2).sum() + 1e-6)
    sign = 1.0 - 2.0 * (white - grey > T1_LIKE * white).float()
    odds = torch.minimum(sign * difference[0] / spread - LESION_SPREADS, map_logits - LESION_LOGIT) * LESION_STEEPNESS
    around = lambda v, size: F.avg_pool3d(v[None, None], size, 1, size // 2)[0, 0]
    inside = (around(p[WM], 7) > WHITE_AROUND) & (around(1.0 - p[0] - p[CSF], 9) > BRAIN_AROUND)
    return torch.sigmoid(odds) * inside.float()
