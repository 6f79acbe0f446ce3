"""What the networks are asked for, over a batch; every term is a mean over its own voxels or cases.

Targets of a batch: `classes` [B,X,Y,Z] (IGNORE: not scored), `side` (0 left, 1 right, IGNORE), `lesion`
(0, 1, IGNORE), `head` [B] and `abnormal` [B] (1, 0, -1: open).  Cases 2n and 2n+1 may be a pair: the same
head with and without its pathology.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .generator import IGNORE

# small structures would drown in 600 000 voxels: weights about volume^-1/3, background low; the last is the inferior horn
CLASS_WEIGHTS = (0.5, 0.8, 1.0, 1.5, 1.5, 1.0, 2.0, 2.5, 2.2, 3.0, 3.5, 3.5, 1.5, 2.5, 3.0, 0.8, 4.0, 2.5, 3.0)
PRESENT_VOXELS, FOUND_VOXELS = 8, 8  # fewer voxels of a class or a lesion say nothing by Dice
UNSEEN = 0.7  # spreads: what differs less from the white matter nearby nobody would draw
SCALE = {"seg": 1.0, "seg4": 0.5, "side": 0.3, "lesion": 1.5, "lesion4": 0.75, "study": 1.0, "pair": 0.5, "head": 0.2}


def segmentation(logits, target) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted cross-entropy + soft Dice of logits [B,C,...] against classes [B,...]; also Dice [C] (nan: absent)."""
    count = logits.shape[1]
    log_p = F.log_softmax(logits.float(), 1)
    valid = target != IGNORE
    index = torch.where(valid, target, torch.zeros_like(target)).long()
    nll = -log_p.gather(1, index[:, None])[:, 0]
    weights = torch.tensor(CLASS_WEIGHTS[:count], device=logits.device)
    w = weights[index] * valid
    ce = (nll * w).sum() / w.sum().clamp(min=1.0)
    p = log_p.exp() * valid[:, None]
    own = torch.arange(count, device=p.device).reshape(1, -1, 1, 1, 1) == index[:, None]
    each = (0, 2, 3, 4)
    voxels = (own & valid[:, None]).sum(each)
    dice = (2 * (p * own).sum(each) + 1.0) / (p.sum(each) + voxels + 1.0)
    present = voxels > PRESENT_VOXELS
    present = present & (torch.arange(count, device=p.device) > 0)
    mean = (dice * present).sum() / present.sum().clamp(min=1)
    return ce + (1.0 - mean) * present.any(), torch.where(present, dice.detach(), torch.full_like(dice, float("nan")))


def lesion_map(logits, target) -> torch.Tensor:
    """Abnormality of logits and targets [B,...]: cross-entropy balanced between lesion and rest, and some Dice.

    Balanced, because lesions are 0.5 % of the voxels: with a fixed weight the map stayed a faint picture
    of where lesions are likely (step 1,808 of the first run).
    """
    logits, each = logits.float(), tuple(range(1, target.dim()))
    lesion, rest = (target == 1), (target == 0)
    outside = (F.softplus(logits) * rest).sum(each) / rest.sum(each).clamp(min=1)
    found = lesion.sum(each)
    inside = (F.softplus(-logits) * lesion).sum(each) / found.clamp(min=1)
    p = torch.sigmoid(logits) * (target != IGNORE)
    dice = (2 * (p * lesion).sum(each) + 1.0) / (p.sum(each) + found + 1.0)
    return (outside + (found > FOUND_VOXELS) * (inside + 0.5 * (1.0 - dice))).mean()


def lesion_voxels(logits, target) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy and Dice of a batch's lesions, logits and targets [B,...]; also the Dice.

    Not balanced as `lesion_map`: a voxel's probability shall be what it says.  The sum counts by what there is to
    find, or one voxel in 500 where there is less.
    """
    lesion, valid = target == 1, target != IGNORE
    logits = logits.float()
    each = F.softplus(torch.where(lesion, -logits, logits)) * valid
    found = lesion.sum()
    ce = each.sum() / (found + valid.sum() / 500)
    p = torch.sigmoid(logits) * valid
    dice = (2 * (p * lesion).sum() + 1.0) / (p.sum() + found + 1.0)
    return ce + (found > FOUND_VOXELS) * (1.0 - dice), dice.detach()


def sides(logits, target) -> torch.Tensor:
    known = target != IGNORE
    loss = F.binary_cross_entropy_with_logits(logits.float(), torch.where(known, target, torch.zeros_like(target)).float(), reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def studies(logits, abnormal) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of the cases with a truth, and every painted member of a pair above its healthy twin."""
    known = abnormal >= 0
    each = F.binary_cross_entropy_with_logits(logits, abnormal.clamp(min=0).float(), reduction="none")
    pair = torch.zeros((), device=logits.device)
    if len(logits) % 2 == 0:
        on, off = logits[0::2], logits[1::2]
        told = (abnormal[0::2] == 1) & (abnormal[1::2] == 0)
        pair = (F.softplus(off - on) * told).sum() / told.sum().clamp(min=1)
    return (each * known).sum() / known.sum().clamp(min=1), pair


def coarse(target, step: int):
    """One of the eight voxels of each 2x2x2 block, another one each step."""
    return target[:, (step >> 2) & 1::2, (step >> 1) & 1::2, step & 1::2]


def screening(out: dict, batch: dict, step: int) -> dict:
    """Terms of the screening network; where `out` has no 2 mm logits, of its 4 mm ones alone."""
    head = batch["head"].reshape(-1, 1, 1, 1) == 1
    classes = torch.where(head, batch["classes"], torch.full_like(batch["classes"], IGNORE))
    terms = {}
    if "classes" in out:
        terms["seg"], dice = segmentation(out["classes"], classes)
        terms["side"] = sides(out["side"][:, 0], batch["side"])
        terms["lesion"] = lesion_map(out["lesion"][:, 0], batch["lesion"])
    terms["seg4"], dice4 = segmentation(out["classes4"], coarse(classes, step))
    terms["lesion4"] = lesion_map(out["lesion4"][:, 0], coarse(batch["lesion"], step))
    if "classes" not in out:
        dice = dice4
        terms["side"] = sides(out["side4"][:, 0], coarse(batch["side"], step))
    terms["study"], terms["pair"] = studies(out["online"].float(), batch["abnormal"])
    terms["head"] = F.binary_cross_entropy_with_logits(out["head"].float(), batch["head"].float())
    terms["dice"] = torch.nanmean(dice)
    return terms


def volumetry(out: dict, batch: dict, step: int) -> dict:
    """Terms of the volumetry network, at whatever resolution the batch has."""
    seg, dice = segmentation(out["classes"], batch["classes"])
    return {"seg": seg, "side": sides(out["side"][:, 0], batch["side"]),
            "lesion": lesion_map(out["lesion"][:, 0], batch["lesion"]), "dice": torch.nanmean(dice)}


def unseen(apart, lesion):
    """Lesions [B,X,Y,Z] that are `apart` spreads from the white matter nearby; not scored where the scan's own blur and noise left nothing of them."""
    mean = F.avg_pool3d(apart.float(), 3, stride=1, padding=1)
    return torch.where((lesion == 1) & (mean.abs() < UNSEEN), torch.full_like(lesion, IGNORE), lesion)


def lesions(out, batch: dict, _: int) -> dict:
    """Terms of the lesion network; `out` as of `lesion_net.answer`."""
    term, dice = lesion_voxels(out["lesion"][:, 0], unseen(out["apart"], batch["lesion"]))
    return {"lesion": term, "dice": dice}


KINDS = {"screening": screening, "volumetry": volumetry, "lesions": lesions}


def total(terms: dict) -> torch.Tensor:
    """The weighted sum; without 2 mm terms the 4 mm ones count in full."""
    scale = SCALE if "seg" in terms else {**SCALE, "seg4": 1.0, "lesion4": 2.0}
    return sum(scale[k] * v for k, v in terms.items() if k in scale)
