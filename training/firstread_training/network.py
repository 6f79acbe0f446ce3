"""The screening network: a 2 mm volume in, structures, sides, abnormality and study logits out.

Axes are [batch, channel, x, y, z]; x to the patient's right, y anterior, z superior; voxels 2 mm.
The trunk is `unet.Trunk`; what is here turns its answer into a study's.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from . import voxels
from .unet import Trunk, up2
from .labels import CLASS_COUNT, CORTEX, CSF, FOURTH, HIPPOCAMPUS, LATERAL, THIRD, VENTRICLE_CSF_CLASSES, WM

# How many voxels of the 4 mm abnormality logits count as the study's local evidence: 12 voxels of
# 4 mm are 0.8 ml, 60 are 4 ml, 240 are 15 ml.  A maximum would follow single noisy voxels, a mean the
# field of view; the study head sees these and the head's share of the field instead.
EVIDENCE_VOXELS = (12, 60, 240)
SHARE_CLASSES = (WM, CORTEX, LATERAL, THIRD, CSF, HIPPOCAMPUS)
EVIDENCE, READOUT = voxels.FIGURES + 17 + len(EVIDENCE_VOXELS) + 1 + len(SHARE_CLASSES) + 1, 24
READOUT_LIMIT = 4.0  # spreads: a figure further out than any in the fit says no more than the furthest


class Oddness(nn.Module):
    """Abnormality from what does not fit: each 4 mm voxel against its own structure's intensity nearby.

    The contrast is random, so "bright" says nothing; "brighter than this person's white matter around
    here" does.  The expected intensity follows from the classes the network just found (taken as they
    are, no gradient), averaged over about 8 cm; a few plain convolutions judge the difference.  Without
    this the map had learned little but where lesions are likely after 2,500 steps.
    """

    CELL = 4  # 16 mm cells
    PRIOR = 0.003  # weight of the structure's mean over the whole field where it is rare nearby

    def __init__(self, features: int, width: int = 24):
        super().__init__()
        self.context = nn.Conv3d(features + CLASS_COUNT, width, 1)
        self.odd = nn.Conv3d(4, width, 3, padding=1)
        self.c1 = nn.Conv3d(width, width, 3, padding=1)
        self.c2 = nn.Conv3d(width, width, 3, padding=1)
        self.out = nn.Conv3d(width, 1, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        # the same differences as plain figures for the study: how much of the tissue is how far off
        self.figures1 = nn.Linear(17, 32)
        self.figures2 = nn.Linear(32, 1)
        nn.init.zeros_(self.figures2.weight)
        nn.init.zeros_(self.figures2.bias)

    def residuals(self, image, p):
        """[B,4,...]: against the expected intensity, white matter, cortex and CSF, in units of the spread."""
        image = F.avg_pool3d(image.float(), 2)
        total, count = F.avg_pool3d(p * image, self.CELL), F.avg_pool3d(p, self.CELL)
        overall = total.mean((2, 3, 4), keepdim=True) / (count.mean((2, 3, 4), keepdim=True) + 1e-5)
        once = lambda v: F.avg_pool3d(v, 3, stride=1, padding=1)
        near = lambda v: once(once(v))
        mean = (near(total) + self.PRIOR * overall) / (near(count) + self.PRIOR)
        mean = F.interpolate(mean, scale_factor=float(self.CELL), mode="nearest")
        difference = image - (p * mean).sum(1, keepdim=True)
        brain = 1.0 - p[:, :1]
        spread = ((brain * difference * difference).sum((2, 3, 4), keepdim=True) / (brain.sum((2, 3, 4), keepdim=True) + 1.0) + 1e-4).sqrt()
        tissues = [image - mean[:, t:t + 1] for t in (WM, CORTEX, CSF)]
        return (torch.cat([difference, *tissues], 1) / spread).clamp(-8.0, 8.0)

    def figures(self, odd, p):
        """[B,17]: strongest positive and negative differences inside the tissue, raw and smoothed."""
        mean3 = lambda v: F.avg_pool3d(v, 3, stride=1, padding=1)
        fluid = sum(p[:, t:t + 1] for t in (CSF, *VENTRICLE_CSF_CLASSES[:2], FOURTH))
        tissue = (2.0 * mean3(1.0 - p[:, :1] - fluid) - 1.0).clamp(0.0, 1.0)  # away from edges
        white = (2.0 * mean3(p[:, WM:WM + 1]) - 1.0).clamp(0.0, 1.0)
        smooth, against_white = mean3(odd[:, :1]) * tissue, mean3(odd[:, 1:2]) * white
        out = [(odd[:, 2] - odd[:, 1]).mean((1, 2, 3))[:, None]]
        for v, sizes in ((smooth, EVIDENCE_VOXELS), (against_white, EVIDENCE_VOXELS), (odd[:, :1] * tissue, EVIDENCE_VOXELS[:2])):
            for signed in (v, -v):
                top = signed.flatten(1).topk(sizes[-1], dim=1).values
                out += [top[:, :n].mean(1, keepdim=True) for n in sizes]
        return torch.cat(out, 1) * 0.5

    def forward(self, image, classes, features):
        """Abnormality logits to add [B,1,...], study logits to add [B], and the figures [B,17]."""
        p = torch.softmax(classes.detach().float(), 1)
        with torch.no_grad():
            odd = self.residuals(image, p)
            figures = self.figures(odd, p)
        h = F.silu(self.context(torch.cat([features.float(), p], 1)) + self.odd(odd))
        h = F.silu(self.c1(h))
        h = F.silu(self.c2(h) + h)
        return self.out(h).float(), self.figures2(F.silu(self.figures1(figures))).float().squeeze(1), figures


class ScreeningNet(Trunk):
    """image [B,1,X,Y,Z] -> dict of logits; X, Y and Z are multiples of 16.

    `classes` [B,18,X,Y,Z], `side` [B,1,X,Y,Z] (positive: right), `lesion` [B,1,X,Y,Z],
    `classes4` and `lesion4` the same at 4 mm (deep supervision), `study` [B] and `head` [B].
    """

    def __init__(self, widths=(32, 64, 96, 112), thin: int = 8):
        super().__init__(widths, thin, CLASS_COUNT + 2)
        _, _, w3, w4 = widths
        w1 = widths[0]
        evidence = len(EVIDENCE_VOXELS) + w4 + w3 + 4
        self.study1 = nn.Linear(evidence, 64)
        self.study2 = nn.Linear(64, 1)
        self.head1 = nn.Linear(2 * w4, 32)
        self.head2 = nn.Linear(32, 1)
        self.oddness = Oddness(w1)
        # the last word on the study: a small readout fitted to many cases at once after the training
        # (study.py).  Buffers, because the trainer does not touch them; unfitted they pass the online logit on.
        v1, v2 = voxels.HIDDEN
        shapes = {"centre": (EVIDENCE,), "scale": (EVIDENCE,), "hidden": (READOUT, EVIDENCE), "hidden_b": (READOUT,), "out": (1, READOUT),
                  "direct": (1, EVIDENCE), "out_b": (1,), "voxel1": (v1, voxels.FEATURES), "voxel1_b": (v1,),
                  "voxel2": (v2, v1), "voxel2_b": (v2,), "voxel3": (1, v2), "voxel3_b": (1,)}
        for name, shape in shapes.items():
            self.register_buffer("readout_" + name, torch.zeros(shape))
        self.readout_scale[-1], self.readout_direct[0, -1] = 0.1, 10.0

    def forward(self, image, fine: bool = True):
        """`fine` False leaves out everything at 2 mm but the stem: about half the time, for training the trunk."""
        thin, f1, f3, s4 = self.trunk(image)
        k = CLASS_COUNT
        out4 = self.out4(f1).float()
        odd_map, odd_study, figures = self.oddness(image, out4[:, :k], f1)
        out4 = torch.cat([out4[:, :k + 1], out4[:, k + 1:] + odd_map], 1)
        online = self.study(out4, f3, s4).float() + odd_study
        out = {"classes4": out4[:, :k], "side4": out4[:, k:k + 1], "lesion4": out4[:, k + 1:k + 2], "head": self.head(s4), "online": online}
        if not self.training:  # what is fitted afterwards; a training step would spend a quarter of its time here
            with torch.autocast(image.device.type, enabled=False):
                evidence = self.evidence(image.float(), out4, figures, online)
                out.update(evidence=evidence, study=self.readout(evidence))
        if fine:
            out2 = self.edges(thin, f1) + up2(out4)
            out.update(classes=out2[:, :k], side=out2[:, k:k + 1], lesion=out2[:, k + 1:k + 2])
        return out

    def evidence(self, image, out4, figures, online):
        """What the readout sees [B,EVIDENCE]: figures at 2 and 4 mm, the map's strongest logits, volumes, the online logit."""
        k = CLASS_COUNT
        with torch.no_grad():
            p = torch.softmax(out4[:, :k], 1)
            features, inside = voxels.describe(image, p, out4[:, k + 1:k + 2])
            small = voxels.figures(features, inside, voxels.score(features, self.voxel_weights()).float())
            brain = 1.0 - p[:, :1]
            volume = brain.sum((1, 2, 3, 4))[:, None] + 1.0
            logits = out4[:, k + 1].clamp(-12.0, 12.0)
            top = logits.flatten(1).topk(EVIDENCE_VOXELS[-1], dim=1).values
            tops = torch.stack([top[:, :n].mean(1) for n in EVIDENCE_VOXELS], 1)
            average = (logits[:, None] * brain).sum((1, 2, 3, 4))[:, None] / volume
            shares = torch.log(torch.stack([p[:, i].sum((1, 2, 3)) for i in SHARE_CLASSES], 1) / volume + 1e-4)
        return torch.cat([small, figures, tops, average, shares, online.detach().clamp(-10.0, 10.0)[:, None]], 1)

    def voxel_weights(self) -> tuple:
        """The fitted network of `voxels.score`."""
        return ((self.readout_voxel1, self.readout_voxel1_b), (self.readout_voxel2, self.readout_voxel2_b), (self.readout_voxel3, self.readout_voxel3_b))

    def readout(self, evidence):
        """Study logit [B] from the evidence; while it is not fitted, the online logit (which must learn)."""
        z = ((evidence - self.readout_centre) * self.readout_scale).clamp(-READOUT_LIMIT, READOUT_LIMIT)
        h = F.silu(F.linear(z, self.readout_hidden, self.readout_hidden_b))
        return (F.linear(h, self.readout_out) + F.linear(z, self.readout_direct, self.readout_out_b)).squeeze(1)

    def study(self, out4, f3, s4):
        """Study logit [B] from the strongest local evidence, brain-weighted features and volumes.

        Everything is taken relative to the brain the network itself found, so that the field of view
        and skull stripping change as little as possible.
        """
        k = CLASS_COUNT
        out4 = out4.float()
        lesion = out4[:, k + 1].flatten(1)
        top = torch.sigmoid(lesion).topk(min(EVIDENCE_VOXELS[-1], lesion.shape[1]), dim=1).values
        local = torch.stack([top[:, :n].mean(1) for n in EVIDENCE_VOXELS], 1)
        local = torch.log((local + 1e-4) / (1.0001 - local))
        p = torch.softmax(out4[:, :k], 1)
        brain = (1.0 - p[:, :1])
        total = brain.sum((1, 2, 3, 4)) + 1.0
        share = torch.stack([p[:, i].sum((1, 2, 3)) / total for i in VENTRICLE_CSF_CLASSES], 1)
        share = torch.cat([torch.log(share + 1e-4), (torch.sigmoid(lesion).sum(1) / total)[:, None].add(1e-4).log()], 1)
        w8 = F.avg_pool3d(brain, 4)
        w16 = F.avg_pool3d(w8, 2)
        mean3 = (f3.float() * w8).sum((2, 3, 4)) / (w8.sum((2, 3, 4)) + 1e-3)
        mean4 = (s4.float() * w16).sum((2, 3, 4)) / (w16.sum((2, 3, 4)) + 1e-3)
        x = torch.cat([local, share, mean3.mul(0.5), mean4.mul(0.5)], 1)
        return self.study2(F.silu(self.study1(x))).squeeze(1)

    def head(self, s4):
        """"This is a head" logit [B] from the coarsest features."""
        s4 = s4.float()
        x = torch.cat([s4.mean((2, 3, 4)), s4.amax((2, 3, 4))], 1)
        return self.head2(F.silu(self.head1(x))).squeeze(1)


def fitting(net: nn.Module, weights: dict) -> dict:
    """`weights` for `net`: a readout of another shape (older checkpoints) gives way to the unfitted one, and so does a voxels' score; the rest must fit."""
    own = net.state_dict()
    out = {k: v for k, v in weights.items() if not k.startswith("readout_")}
    voxel = lambda k: k.startswith("readout_voxel")
    for part in ([k for k in own if voxel(k)], [k for k in own if k.startswith("readout_") and not voxel(k)]):
        fits = all(k in weights and weights[k].shape == own[k].shape for k in part)
        out.update({k: weights[k] if fits else own[k].clone() for k in part})
    return out
