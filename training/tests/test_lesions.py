"""The lesion network: what it is shown and collects, what it learns, and that it goes on where it stopped."""

import numpy as np
import pytest
import torch

from firstread_training import config, labels as L, lesion_fit, losses, trainer
from firstread_training.generator import IGNORE, Case
from firstread_training.lesion_net import FIGURES, MAP, figures
from firstread_training.volumetry import VolumetryNet


@pytest.fixture
def below(monkeypatch):
    """A young volumetry network instead of the finished one."""
    torch.manual_seed(6)
    net = VolumetryNet((8, 8, 16, 16), 8).eval().requires_grad_(False)
    for module in ("lesion_fit", "lesion_stage"):
        monkeypatch.setattr(f"firstread_training.{module}.finished_volumetry", lambda: net)
    return net


def head(number: int) -> Case:
    """White matter with a bright cube in it, as the generator would give it."""
    rng = np.random.default_rng(number)
    shape = (80, 80, 80)
    lesion = np.zeros(shape, np.uint8)
    at = rng.integers(20, 50, 3)
    lesion[tuple(slice(v, v + 10) for v in at)] = 1
    image = (0.4 + 0.02 * rng.normal(size=shape) + 0.5 * lesion).astype(np.float32)
    classes = np.full(shape, L.WM, np.uint8)
    return Case(image, classes, np.full(shape, IGNORE, np.uint8), np.zeros(shape, bool), lesion, 1, 1, "wm_lesions", "flair", "nobody")


def started(tmp_path):
    path = config.TRAINING_FOLDER / "configs" / "lesions.toml"
    return trainer.Trainer(config.load(path), path.read_text(), tmp_path / "run", tmp_path, tmp_path)


def test_it_learns_from_collected_cubes(below, tmp_path, monkeypatch):
    monkeypatch.setattr(lesion_fit, "SIDE", 32)
    folder = tmp_path / "cubes"
    folder.mkdir()
    for number in range(4):
        kept = lesion_fit.cubes(below, head(number), np.random.default_rng(number))
        assert kept["lesion"].shape == (lesion_fit.CUBES, 32, 32, 32)
        assert (kept["lesion"][: lesion_fit.CUBES // 2] == 1).any((1, 2, 3)).all(), "half of the cubes lie about a lesion"
        np.savez(folder / f"{number:05d}.npz", **kept)
    report = lesion_fit.fit(started(tmp_path), folder, 0.0, steps=60)
    assert report["dice_left_out"]["0.5"] > 0.5, report
    again = started(tmp_path)
    again.restore(trainer.checkpoint.load(tmp_path / "run" / "last.pt"))
    assert again.step == report["step"] > 0


def test_too_few_cubes_are_refused(below, tmp_path):
    with pytest.raises(ValueError, match="too few heads"):
        lesion_fit.fit(started(tmp_path), tmp_path, 0.1)


def test_the_network_below_is_neither_trained_nor_saved(below, tmp_path):
    stage = started(tmp_path).net
    assert not any("thin" in name or "f1" in name for name in stage.state_dict())
    out = stage(torch.rand(1, 1, 64, 64, 64))
    assert out["lesion"].shape == (1, 1, 64, 64, 64)
    target = {"lesion": torch.zeros(1, 64, 64, 64, dtype=torch.uint8)}
    losses.total(losses.lesions(out, target, 0)).backward()
    assert all(p.grad is None for p in below.parameters()) and any(p.grad is not None for p in stage.parameters())


def test_it_is_shown_how_far_a_voxel_stands_out():
    p = [torch.zeros(64, 64, 64) for _ in L.VOLUMETRY_CODES]
    p[L.WM][:] = 0.95
    p[L.CORTEX][:] = 0.05
    image = 0.5 + 0.01 * torch.randn(64, 64, 64, generator=torch.Generator().manual_seed(3))
    image[20:24, 20:24, 20:24] += 0.05
    shown = figures(p, torch.zeros_like(image), image)
    assert shown.shape == (FIGURES, 64, 64, 64)
    off = shown[0] * 2  # spreads of the white matter nearby
    assert abs(float(off[20:24, 20:24, 20:24].mean()) - 5.0) < 0.7 and abs(float(off[40:60, 40:60, 40:60].mean())) < 0.1
    # what stands out is measured by what does not: brighter lesions widen the spread by little
    image[20:24, 20:24, 20:24] += 1.0
    assert abs(float(figures(p, torch.zeros_like(image), image)[0][40:60, 40:60, 40:60].std()) * 2 - 1.0) < 0.2


def test_lesions_fade_and_nothing_else():
    shown = torch.zeros(2, FIGURES, 16, 16, 16)
    lesion = torch.zeros(2, 16, 16, 16, dtype=torch.uint8)
    lesion[0, 6:9, 6:9, 6:9] = 1
    shown[0, 0, 6:9, 6:9, 6:9], shown[0, 1, 6:9, 6:9, 6:9], shown[0, MAP, 6:9, 6:9, 6:9] = 3.0, 2.5, 1.0
    shown[1, 0] = 2.0
    faint = lesion_fit.fainter(shown, lesion, np.random.default_rng(1))
    inside = lesion[0] == 1
    kept = float(faint[0, 0][inside][0])
    assert lesion_fit.FAINT[0] <= kept < 2.9
    assert torch.allclose(faint[0, 1][inside], torch.tensor(2.5 - (3.0 - kept))) and torch.allclose(faint[0, MAP][inside], torch.tensor(kept / 3.0))
    assert torch.equal(faint[1], shown[1]) and not faint[0, 0, :3].any()


def test_a_lesion_that_the_scan_blurred_away_is_not_scored():
    lesion = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
    lesion[0, 2:7, 2:7, 2:7] = lesion[0, 10:15, 10:15, 10:15] = 1
    apart = torch.zeros(1, 16, 16, 16)
    apart[0, 10:15, 10:15, 10:15] = -3.0  # dark, as on a T1
    scored = losses.unseen(apart, lesion)
    assert (scored[0, 2:7, 2:7, 2:7] == IGNORE).all() and (scored[0, 11:14, 11:14, 11:14] == 1).all()
    assert (scored == 0).sum() == (lesion == 0).sum()
