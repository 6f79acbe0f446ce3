"""The atlas has a say where a structure can be, none where the head does not fit it."""

import numpy as np
import torch

from firstread_training import atlas, labels as L
from firstread_training.location import Location, solve

SHAPE = (72, 88, 72)  # 2 mm: the fit finds the size as well


def a_head(shift=(0.0, 0.0, 0.0)):
    """Balls of probability at the atlas's own middles, 2 mm voxels, the side that belongs to them."""
    with np.load(atlas.PATH) as z:
        middles = z["middles"]
    grid = torch.stack(torch.meshgrid(*[2 * torch.arange(n).float() - (n - 1) for n in SHAPE], indexing="ij"), -1)
    p = [torch.full(SHAPE, 0.001) for _ in range(atlas.CLASSES)]
    for k in range(1, atlas.CLASSES):
        for side in (0, 1) if atlas.SIDED[k] else (0,):
            at = torch.tensor(middles[k, side]) + torch.tensor(shift)
            p[k] = torch.maximum(p[k], (((grid - at) ** 2).sum(-1) < 36).float())
    p[0] = (1.0 - sum(p[1:])).clamp(min=0.001)
    total = sum(p[1:], p[0])
    return [v / total for v in p], 20.0 * grid[..., 0].sign(), middles, grid


def test_affine_of_weighted_points_is_least_squares():
    rng = np.random.default_rng(1)
    x, y, w = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), rng.uniform(0.2, 1, 20)
    one = np.column_stack([x, np.ones(20)])
    expected = np.linalg.lstsq(one * np.sqrt(w)[:, None], y * np.sqrt(w)[:, None], rcond=None)[0]
    got = solve(*[torch.tensor(v, dtype=torch.float32) for v in (x, y, w)])
    assert np.allclose(got.numpy(), expected, atol=1e-2)


def test_caudate_where_only_the_thalamus_lies_becomes_thalamus():
    p, side, middles, grid = a_head()
    thalamus = ((grid - torch.tensor(middles[6, 0])) ** 2).sum(-1) < 9
    p[6][thalamus], p[7][thalamus] = 0.45, 0.55
    out = Location()(p, side)
    assert (out[6] > out[7])[thalamus].all()
    assert torch.allclose(sum(out[1:], out[0]), torch.ones(SHAPE), atol=1e-4)
    assert torch.equal(out[0], p[0])


def test_no_say_where_the_middles_do_not_fit():
    p, side, middles, grid = a_head()
    p[6], p[13], p[12], p[8] = p[13], p[12], p[8], p[6]
    out = Location()(p, side)
    assert torch.allclose(out[7], p[7], atol=1e-5)
