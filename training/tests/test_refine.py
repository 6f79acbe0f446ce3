"""Refinement: the picture moves a border, nothing else does, and the exported graph takes any grid."""

import numpy as np
import pytest
import torch

from firstread_training import export, labels as L
from firstread_training.lesion_net import LesionNet
from firstread_training.lesions import lesions
from firstread_training.refine import refine, softmax, unweighted


def halves(border: int, shape=(64, 64, 64)):
    """Logits that put white matter left of `border` and cortex right of it, unsure within 4 voxels."""
    x = torch.arange(shape[0]).float().reshape(-1, 1, 1).expand(shape)
    logits = torch.full((len(L.VOLUMETRY_CODES), *shape), -8.0)
    logits[L.WM], logits[L.CORTEX] = (border - x).clamp(-4, 4), (x - border).clamp(-4, 4)
    return logits, x


def test_the_border_goes_where_the_picture_has_it():
    logits, x = halves(30)
    image = torch.where(x < 33, 0.8, 0.5) + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    p = refine(unweighted(logits), image)
    share = (p[L.WM] > p[L.CORTEX]).float().mean((1, 2))
    assert share[:33].min() > 0.95 and share[33:].max() < 0.05
    before = unweighted(logits)
    assert (before[L.WM] > before[L.CORTEX]).float().mean((1, 2))[31:33].max() < 0.5


def test_probabilities_stay_probabilities_and_background_stays():
    logits, x = halves(30)
    logits[0, 50:] = 12.0
    first = unweighted(logits)
    p = refine(first, torch.where(x < 30, 0.8, 0.5))
    assert torch.allclose(sum(p[1:], p[0]), torch.ones_like(p[0]), atol=1e-4)
    assert torch.equal(p[0], first[0])


def test_softmax_of_a_list_is_torchs_own():
    scores = 20 * torch.randn(5, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(torch.stack(softmax(list(scores))), torch.softmax(scores, 0), atol=1e-6)


def test_a_lesion_is_bright_and_the_lesion_network_agrees():
    p = [torch.zeros(64, 64, 64) for _ in L.VOLUMETRY_CODES]
    p[L.WM][:] = 0.95
    p[L.CORTEX][:] = 0.05
    image = 0.5 + 0.01 * torch.randn(64, 64, 64, generator=torch.Generator().manual_seed(3))
    one, other = (slice(20, 24),) * 3, (slice(40, 44),) * 3
    image[one] += 0.2
    image[other] += 0.2
    said = torch.full((1, 1, 64, 64, 64), -8.0)
    said[0, 0][one] = 0.0
    nothing = torch.zeros(64, 64, 64)
    found = lesions(p, nothing, image, lambda _: said) > 0.5
    assert found[one].all() and not found[other].any()
    sure_of_all = torch.full_like(said, -2.0)
    assert not (lesions(p, nothing, torch.full_like(image, 0.5), lambda _: sure_of_all) > 0.5).any()


def test_a_graph_recorded_on_a_small_grid_takes_a_larger_one(tmp_path):
    pytest.importorskip("onnxruntime")
    from firstread_training.volumetry import VolumetryNet
    torch.manual_seed(4)
    net = VolumetryNet((8, 8, 16, 16), 8).eval()
    path = tmp_path / "small.onnx"
    model = export.Volumetry(net, LesionNet().eval())
    export.write(model, path, (64, 80, 64), export.VOLUMETRY_NAMES, traced=(64, 64, 64))
    image = np.random.default_rng(5).random((64, 80, 64), np.float32)
    worst = export.compare_volumetry(model, path, image)
    assert worst["labels"] < 1e-4
