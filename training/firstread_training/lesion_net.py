"""Lesions of white matter: a small network that reads the volumetry network's answer and the picture beside it.

The volumetry network knows where everything is; what it says of lesions, learned among nineteen classes, is vague.
This one sees that answer, and how far each voxel stands out from the white matter, the cortex and the fluid *nearby*
(Oddness in `network.py` is the same thought at 4 mm).  It is trained alone, on what the finished volumetry network
says of generated heads, so labels and volumes do not change by it.  `lesions.py` makes the answer of it.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from .labels import CORTEX, CSF, FOURTH, HORN_CLASS, LATERAL, THIRD, WM
from .refine import around, local_mean

SURE = 0.8  # probability from which a voxel counts for its tissue's mean and spread
LIMIT = 6.0  # spreads; further off is far off
SHARE = 0.5  # of a spread: what differences are shown in
FIGURES = 11
WHITE, MAP, AROUND = 0, 9, 10  # which of them are the difference from white matter, the network's own map, and the white matter around
OUTLIER = 2.5  # spreads: lesions themselves shall not widen what they are measured by


def figures(p: list, map_logits, image):
    """Class probabilities and the network's map [X,Y,Z], the image [X,Y,Z] -> what the network is shown [FIGURES,X,Y,Z]."""
    white, spread = local_white(p[WM], image)
    apart = lambda mean: ((image - mean) / spread).clamp(-LIMIT, LIMIT) * SHARE
    ventricles = p[LATERAL] + p[THIRD] + p[FOURTH] + p[HORN_CLASS]
    fluid = ventricles + p[CSF]
    deep = 1.0 - p[0] - p[WM] - p[CORTEX] - fluid
    cortex, _ = local_mean(image, p[CORTEX] * p[CORTEX])
    dark, _ = local_mean(image, fluid * fluid)
    return torch.stack([apart(white), apart(cortex), apart(dark), p[WM], p[CORTEX], deep, ventricles, p[CSF], p[0],
                        map_logits.clamp(-8.0, 8.0) * 0.25, around(p[WM], 7)])


def local_white(p, image):
    """Mean of the sure white matter near each voxel [X,Y,Z], and one spread about it, without what stands out."""
    sure = (p > SURE).float()
    mean, _ = local_mean(image, sure)
    difference = (image - mean).abs()
    voxels = sure.sum() + 1.0
    first = (sure * difference).sum() / voxels + 1e-3
    return mean, 1.25 * (sure * torch.minimum(difference, OUTLIER * first)).sum() / voxels + 1e-3


def answer(net, shown) -> dict:
    """What training asks for: `lesion` logits [B,1,...], and `apart` [B,...], spreads from the white matter nearby."""
    return {"lesion": LesionNet.forward(net, shown), "apart": shown[:, WHITE] / SHARE}


class LesionNet(nn.Module):
    """figures [B,FIGURES,X,Y,Z] -> logits [B,1,X,Y,Z]; sides are multiples of 4.

    Three levels, at 1, 2 and 4 mm.  The volumetry network's features are left out on purpose: they know lesions as
    bright as they were painted, and real ones are fainter.
    """

    def __init__(self, width: int = 16, wide: int = 32, widest: int = 48):
        super().__init__()
        conv = lambda a, b, size=3: nn.Conv3d(a, b, size, padding=size // 2)
        self.fine1, self.fine2 = conv(FIGURES, width), conv(width, width)
        self.to_middle, self.middle1, self.middle2 = conv(width, wide, 1), conv(wide, wide), conv(wide, wide)
        self.to_deep, self.deep1, self.deep2 = conv(wide, widest, 1), conv(widest, widest), conv(widest, widest)
        self.from_deep, self.from_middle = conv(widest, wide, 1), conv(wide, width, 1)
        self.last, self.out = conv(width, width), conv(width, 1, 1)
        nn.init.constant_(self.out.bias, -4.0)  # one voxel in some hundred

    def forward(self, shown):
        twice = lambda v: F.interpolate(v, scale_factor=2.0, mode="nearest")
        add = lambda v, layer: v + F.silu(layer(v))
        fine = add(F.silu(self.fine1(shown)), self.fine2)
        middle = add(F.silu(self.to_middle(F.avg_pool3d(fine, 2))), self.middle1)
        deep = add(add(F.silu(self.to_deep(F.avg_pool3d(middle, 2))), self.deep1), self.deep2)
        middle = add(middle + twice(self.from_deep(deep)), self.middle2)
        return self.out(F.silu(self.last(fine + twice(self.from_middle(middle)))))
