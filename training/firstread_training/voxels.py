"""Small findings at 2 mm: a score for every voxel, and figures of the whole field for the study's readout.

The trunk's evidence is computed at 4 mm and smoothed over 12 mm, where small lesions vanish.  Here every
2 mm voxel is described by its difference from its own tissue nearby, at several widths, and by what lies
around it; a small network fitted after the training (study.py) turns that into a logit.  The figures are
the strongest logits and differences, overall and by tissue.  Nothing here is seen by the trunk.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .labels import CLASS_COUNT, CSF, FOURTH, LATERAL, THIRD

# background, white, cortex, deep grey, fluid.  Cerebellum, brain-stem and ventral DC go with what they look like.
WHITE, CORTICAL, FLUID = (1, 4, 12, 17), (2, 5), (LATERAL, THIRD, FOURTH, CSF)
DEEP = tuple(i for i in range(1, CLASS_COUNT) if i not in WHITE + CORTICAL + FLUID)
FEATURES, HIDDEN = 26, (16, 12)
LIMIT = 8.0
VOXELS = (16, 64, 256, 1024)  # 0.13, 0.5, 2 and 8 ml
SCORE_VOXELS = (4, *VOXELS, 4096)
SCORE_LEVELS = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
FIGURES = 4 * len(SCORE_VOXELS) + 4 * len(VOXELS) + 7 * (2 * len(VOXELS) + 1) + 3
# the positions of features that figures are made of (order of `describe`)
AGAINST_WHITE, AGAINST_WHITE_4, EXPECTED, EXPECTED_4, SHARES, GLOBAL = 1, 3, 5, 6, 12, 23


def box(v, k: int = 3):
    """Mean over k voxels each way, one axis after the other: cheaper than a cube."""
    for axis in range(3):
        size = [k if a == axis else 1 for a in range(3)]
        v = F.avg_pool3d(v, tuple(size), 1, tuple(n // 2 for n in size))
    return v


def up(v):
    return F.interpolate(v, scale_factor=2.0, mode="trilinear", align_corners=False)


def soften(v):
    """Odd, linear near 0, below LIMIT: one bright vessel is as odd as another."""
    return v / (1.0 + v.abs() / LIMIT)


def describe(image, p, lesion):
    """Features [B,FEATURES,X,Y,Z] and what is brain [B,1,X,Y,Z] (bool), from the 2 mm image and, at 4 mm, class probabilities and the map's logits."""
    shares = torch.cat([p[:, :1]] + [sum(p[:, i:i + 1] for i in group) for group in (WHITE, CORTICAL, DEEP, FLUID)], 1)
    coarse = F.avg_pool3d(image, 2)
    mean, overall = _tissue_means(coarse, shares[:, 1:] ** 2)
    fine, expected = up(shares), up(mean)
    white = image - expected[:, :1]
    spread = _spread(white, fine[:, 1:2] ** 3)
    odd = (image - (fine[:, 1:] * expected).sum(1, keepdim=True)) * (1.0 - fine[:, :1]) / spread
    white = white / spread
    smooth = box(white)
    rough = (box(white * white) - smooth * smooth).clamp(min=1e-6).sqrt()
    others = [box(image - expected[:, i:i + 1]) / spread for i in (1, 2, 3)]
    wide = [up(box(coarse - mean[:, :1])) / spread,
            up(box((coarse - (shares[:, 1:] * mean).sum(1, keepdim=True)) * (1.0 - shares[:, :1]))) / spread]
    grey = overall[:, 1:2] - overall[:, :1]
    around = up(box(box(shares, 5)))
    everywhere = lambda v: v.expand(-1, -1, *image.shape[2:])
    signed = [white, smooth, box(smooth), wide[0], odd, box(odd), wide[1], *others, 2.0 * smooth * spread / (grey.abs() + 0.05), rough]
    rest = [4.0 * fine, 6.0 * around, up(lesion.clamp(-LIMIT, LIMIT)), everywhere(soften(grey / spread)),
            everywhere(soften((overall[:, 3:4] - overall[:, :1]) / spread)), everywhere(torch.log(spread))]
    return torch.cat([soften(v) for v in signed] + rest, 1), around[:, 1:].sum(1, keepdim=True) > 0.35


def _tissue_means(coarse, sharp):
    """Each tissue's intensity within about 5 cm [B,4,...] at 4 mm, and over the field [B,4,1,1,1]; sharp memberships keep edges out."""
    near = lambda v: box(box(F.avg_pool3d(v, 2), 5))
    overall = (sharp * coarse).mean((2, 3, 4), keepdim=True) / (sharp.mean((2, 3, 4), keepdim=True) + 1e-5)
    return up((near(sharp * coarse) + 0.01 * overall) / (near(sharp) + 0.01)), overall


def _spread(difference, weight):
    """The usual difference inside the white matter [B,1,1,1,1]; what stands out counts as 2.5 spreads."""
    total = weight.sum((2, 3, 4), keepdim=True) + 1.0
    first = (weight * difference.abs()).sum((2, 3, 4), keepdim=True) / total + 0.005
    return 1.25 * (weight * torch.minimum(difference.abs(), 2.5 * first)).sum((2, 3, 4), keepdim=True) / total + 0.005


def score(features, weights):
    """Logits [B,1,X,Y,Z] of the small network; `weights` are three pairs of matrix and offset."""
    (w1, b1), (w2, b2), (w3, b3) = weights
    point = lambda v, w, b: F.conv3d(v, w[:, :, None, None, None], b)
    return point(F.relu(point(F.relu(point(features, w1, b1)), w2, b2)), w3, b3)


def strongest(v, sizes) -> list:
    """Means of the highest voxels, [B,1] for each size."""
    top = v.flatten(1).topk(sizes[-1], dim=1).values
    return [top[:, :n].mean(1, keepdim=True) for n in sizes]


def figures(features, brain, logits):
    """[B,FIGURES]: strongest scores and how many, scores by tissue, strongest differences of both signs by tissue."""
    inside = brain.to(logits.dtype)
    logits = logits.clamp(-LIMIT, LIMIT) * inside - LIMIT * (1.0 - inside)
    once = box(logits)
    out = strongest(logits, SCORE_VOXELS) + strongest(once, SCORE_VOXELS) + strongest(box(once, 5), SCORE_VOXELS)
    out += [torch.log(torch.sigmoid(2.0 * (once - level)).sum((2, 3, 4)) + 5.0) for level in SCORE_LEVELS]
    background, white, cortex, deep, fluid = (0.25 * features[:, i:i + 1] for i in range(SHARES, SHARES + 5))
    for share in (white, cortex, deep, fluid):
        out += strongest(once * share - LIMIT * (1.0 - share), VOXELS)
    solid = 1.0 - background - fluid
    surely = lambda share: (2.0 * share - 1.0).clamp(0.0, 1.0) * inside
    volume = inside.sum((2, 3, 4)) + 1.0
    for which, where in ((EXPECTED, surely(solid)), (AGAINST_WHITE, surely(white)), (EXPECTED_4, surely(solid)), (AGAINST_WHITE_4, surely(white)),
                         (EXPECTED, surely(deep)), (EXPECTED, surely(cortex)), (EXPECTED, fluid * inside)):
        v = features[:, which:which + 1] * where
        out += strongest(v, VOXELS) + strongest(-v, VOXELS) + [((v * v).sum((2, 3, 4)) / volume).sqrt()]
    return torch.cat(out + [features[:, GLOBAL:, 0, 0, 0]], 1)
