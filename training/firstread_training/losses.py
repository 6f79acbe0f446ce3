"""What the network is asked for; every term is a mean over its own voxels or cases."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .generator import IGNORE
from .labels import CLASS_COUNT

# small structures would drown in 600 000 voxels: weights about volume^-1/3, background low
CLASS_WEIGHTS = (0.5, 0.8, 1.0, 1.5, 1.5, 1.0, 2.0, 2.5, 2.2, 3.0, 3.5, 3.5, 1.5, 2.5, 3.0, 0.8, 4.0, 2.5)
# At 2 mm one voxel in so many of the big classes is scored and counts so many times: neighbours are all
# alike, and the loss over every voxel cost a third of a step.  (Counted once, background let white
# matter spill over scalp and air in the first run.)
KEEP_ONE_IN = {0: 5, 1: 3, 2: 3, 5: 2, 15: 3}


def flat(logits: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """[1,C,x,y,z] -> [C,N] float32 at the kept flat positions."""
    return logits[0].flatten(1).index_select(1, keep).float()


def one_in(device) -> torch.Tensor:
    """How many voxels each kept voxel of a class stands for; [CLASS_COUNT]."""
    return torch.tensor([KEEP_ONE_IN.get(i, 1) for i in range(CLASS_COUNT)], device=device)


def segmentation(logits, target, times=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted cross-entropy + soft Dice of logits [C,N] against classes [N]; also Dice [C] (nan: absent).

    A voxel of class c stands for `times[c]` voxels (default 1).
    """
    weights = torch.tensor(CLASS_WEIGHTS, device=logits.device)
    log_p = F.log_softmax(logits, 0)
    nll = -log_p.gather(0, target[None])[0]
    times = torch.ones(CLASS_COUNT, device=logits.device) if times is None else times.float()
    each = times[target]
    w = weights[target] * each
    ce = (nll * w).sum() / w.sum()
    p = log_p.exp()
    right = p.gather(0, target[None])[0]
    inter = torch.zeros(CLASS_COUNT, device=p.device).index_add_(0, target, right)
    inter = inter * times
    count = torch.bincount(target, minlength=CLASS_COUNT).float() * times
    dice = (2 * inter + 1.0) / (torch.mv(p, each) + count + 1.0)
    present = count > 8
    present[0] = False
    loss = ce
    if present.any():
        loss = loss + 1.0 - dice[present].mean()
    return loss, torch.where(present, dice.detach(), torch.full_like(dice, float("nan")))


def lesion_map(logits, target) -> torch.Tensor:
    """Abnormality: cross-entropy balanced between lesion and rest, and a little Dice where there is a lesion.

    Balanced, because lesions are 0.5 % of the voxels: with a fixed weight the map stayed a faint picture
    of where lesions are likely (step 1,808).  `target` [N] uint8; IGNORE is not scored.
    """
    loss = F.softplus(logits[target == 0]).mean()
    found = logits[target == 1]
    if len(found) > 8:
        p, q = torch.sigmoid(logits[target != IGNORE]), torch.sigmoid(found)
        loss = loss + F.softplus(-found).mean() + 0.5 * (1.0 - (2 * q.sum() + 1.0) / (p.sum() + len(found) + 1.0))
    return loss


def total(out: dict, case: dict, step: int) -> tuple[torch.Tensor, dict]:
    """The sum of all terms for one case (batch 1) and their values for the log."""
    classes, side, lesion = case["classes"], case["side"], case["lesion"]
    terms = {}
    fine = "classes" in out
    if case["head"] == 1:
        if fine:
            terms["seg"] = _full(out, classes, side, lesion, step, terms)
        dice = _coarse(out, classes, side, lesion, step, terms)
        terms["dice"] = torch.nanmean(dice)
    else:
        terms["lesion4"] = F.softplus(out["lesion4"].float()).mean()
    if case["abnormal"] >= 0:
        truth = torch.tensor([float(case["abnormal"])], device=classes.device)
        terms["study"] = F.binary_cross_entropy_with_logits(out["online"].float(), truth)
    terms["head"] = F.binary_cross_entropy_with_logits(out["head"].float(), torch.tensor([float(case["head"])], device=classes.device))
    # the map and the study learn slowest (a lesion is little of the picture): they get the larger share
    scale = {"seg": 1.0, "seg4": 0.5 if fine else 1.0, "side": 0.3, "lesion": 1.5, "lesion4": 0.75 if fine else 2.0,
             "study": 1.0, "head": 0.2, "dice": 0.0}
    loss = sum(scale[k] * v for k, v in terms.items() if scale[k] > 0)
    return loss, {k: float(v.detach()) for k, v in terms.items()}


def _full(out, classes, side, lesion, step, terms):
    """Terms at 2 mm on all voxels of the small classes and a part of the others, another part each step."""
    c = classes.flatten().long()
    times = one_in(c.device)
    valid = c != IGNORE
    turn = (torch.arange(c.numel(), device=c.device) + step) % times[c.clamp(max=CLASS_COUNT - 1)] == 0
    les = lesion.flatten()
    keep = torch.nonzero(valid & turn).squeeze(1)
    target = c[keep]
    seg, _ = segmentation(flat(out["classes"], keep), target, times)
    again = torch.nonzero(turn | (les > 0) | ~valid).squeeze(1)
    terms["lesion"] = lesion_map(flat(out["lesion"], again)[0], les[again])
    s = side.flatten()
    sided = torch.nonzero((s != IGNORE) & turn).squeeze(1)
    if len(sided):
        terms["side"] = F.binary_cross_entropy_with_logits(flat(out["side"], sided)[0], s[sided].float())
    return seg


def _coarse(out, classes, side, lesion, step, terms):
    """Deep supervision at 4 mm: one of the eight 2 mm voxels of each block, another one each step."""
    i, j, k = (step >> 2) & 1, (step >> 1) & 1, step & 1
    c = classes[i::2, j::2, k::2].flatten().long()
    keep = torch.nonzero(c != IGNORE).squeeze(1)
    terms["seg4"], dice = segmentation(flat(out["classes4"], keep), c[keep])
    terms["lesion4"] = lesion_map(out["lesion4"][0, 0].flatten().float(), lesion[i::2, j::2, k::2].flatten())
    if "classes" not in out:
        s = side[i::2, j::2, k::2].flatten()
        sided = torch.nonzero(s != IGNORE).squeeze(1)
        if len(sided):
            terms["side"] = F.binary_cross_entropy_with_logits(flat(out["side4"], sided)[0], s[sided].float())
    return dice
