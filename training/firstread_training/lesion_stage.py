"""The lesion network on top of the finished volumetry network, as it is trained and exported.

Only the lesion network's weights are trained, and only they are in its checkpoints; what it rests on is the averaged
volumetry network of `training/runs/`, else of `training/checkpoints/`.
"""

from __future__ import annotations

import torch

from . import checkpoint, config as config_module
from .lesion_net import LesionNet, answer, figures
from .network import fitting
from .refine import unweighted
from .volumetry import VolumetryNet


def finished_volumetry():
    """The volumetry network with its averaged weights; raises FileNotFoundError where there is no checkpoint."""
    folder = config_module.TRAINING_FOLDER
    cfg = config_module.load(folder / "configs" / "volumetry.toml")
    full, small = folder / "runs" / cfg.name / "last.pt", folder / "checkpoints" / f"{cfg.name}.pt"
    state = checkpoint.load(full) if full.exists() else checkpoint.expand(checkpoint.load(small))
    net = VolumetryNet(tuple(cfg.model.widths), cfg.model.thin)
    net.load_state_dict(fitting(net, state["ema"]))
    return net.eval().requires_grad_(False)


class LesionStage(LesionNet):
    """image [B,1,X,Y,Z] at 1 mm -> `lesion` [B,1,X,Y,Z] logits and how far `apart` each voxel is; X, Y, Z are multiples of 16."""

    def __init__(self, volumetry=None):
        super().__init__()
        self.below = [volumetry or finished_volumetry()]  # in a list: neither trained nor saved

    def forward(self, image, fine: bool = True):
        below = self.below[0].to(image.device)
        with torch.no_grad():
            out = below(image)
            shown = torch.stack([figures(unweighted(c.float()), m[0].float(), i[0].float()) for c, m, i in zip(out["classes"], out["lesion"], image)])
        return answer(self, shown)
