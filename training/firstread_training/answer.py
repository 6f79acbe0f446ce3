"""From refined probabilities to what is answered: labels with their sides, and volumes.

Volumes are sums of probabilities, squared and made to sum to one again: a class's faint tails far from it are no
volume (third ventricle of the FreeSurfer heads: 2.5 times too large with them, 0.9 without).
"""

from __future__ import annotations

import torch


def right_labels(codes, right_of: dict) -> tuple[list, list]:
    """The label of each class on the right (its own where it has no side), and which classes have one.

    Labels count all left and unpaired codes first, then the right ones: `labels.codes_with_sides`.
    """
    sided = [i for i, code in enumerate(codes) if code in right_of]
    return [len(codes) + sided.index(i) if i in sided else i for i in range(len(codes))], sided


def answer(p: list, side, right, sided: list) -> tuple:
    """Probabilities by class and the side's logits [X,Y,Z] -> labels [X,Y,Z], volumes in voxels by label, and the probability of each voxel's own."""
    best, index, squares = p[0], torch.zeros_like(p[0], dtype=torch.long), p[0] * p[0]
    for i, own in enumerate(p[1:], 1):
        index = torch.where(own > best, torch.full_like(index, i), index)
        best, squares = torch.maximum(best, own), squares + own * own
    labels = torch.where(side > 0, right[index], index)
    share, rightness = 1.0 / squares, torch.sigmoid(side)
    of_left, of_right = [], []
    for i, own in enumerate(p):
        sharp = own * own * share
        total = sharp.sum()
        if i in sided:
            of_right.append((sharp * rightness).sum())
            total = total - of_right[-1]
        of_left.append(total)
    return labels, torch.stack(of_left + of_right), best
