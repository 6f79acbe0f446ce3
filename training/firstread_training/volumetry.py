"""The volumetry network: a 1 mm volume in, classes, sides and lesions out; any contrast.

Axes are [batch, channel, x, y, z] near to RAS, voxels about 1 mm.  Its trunk works at 2 mm and is trained
there first, on 2 mm images (`fine=False`): eight times as many heads in the same time.  The 1 mm stage adds
to what the 2 mm stage says of the averaged image, from zero, so nothing learned is lost when it begins.
"""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F

from .labels import VOLUMETRY_CODES
from .unet import Norm, Trunk, up2

CLASSES = len(VOLUMETRY_CODES)


class VolumetryNet(Trunk):
    """image [B,1,X,Y,Z] -> `classes` [B,19,...], `side` [B,1,...] (positive: right), `lesion` [B,1,...] logits.

    With `fine` False the image is at 2 mm and so is the answer; X, Y, Z are multiples of 8 (16 with it).
    """

    def __init__(self, widths=(48, 64, 96, 112), thin: int = 16):
        super().__init__(widths, thin, CLASSES + 2)
        self.stem2 = nn.Conv3d(1, widths[0], 3, padding=1, bias=False)
        self.join = Norm(8, widths[0])
        self.thin2 = nn.Conv3d(thin, thin, 3, padding=1, bias=False)
        self.thin2_n = Norm(min(8, thin), thin)
        for layer in (self.d1.n, self.out2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, image, fine: bool = True):
        coarse = self.stem2(F.avg_pool3d(image, 2) if fine else image)
        if not fine:
            f1, _, _ = self.levels(F.silu(self.join(coarse)))
            return self._named(self.out4(f1))
        thin = F.silu(self.thin2_n(self.thin2(self.stem(image))))
        f1, _, _ = self.levels(F.silu(self.join(coarse + self.d1(thin))))
        return self._named(self.edges(thin, f1) + up2(self.out4(f1)))

    @staticmethod
    def _named(out):
        return {"classes": out[:, :CLASSES], "side": out[:, CLASSES:CLASSES + 1], "lesion": out[:, CLASSES + 1:]}
