"""Tests need no data: two small made-up label maps stand in for people."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from firstread_training import labels as L  # noqa: E402
from firstread_training.maps import LabelMap, Shape, smooth_fields, ventricle_share  # noqa: E402


def made_up_person(name="made-up", size=100) -> LabelMap:
    """A ball of a head: scalp, skull, CSF, cortex, white matter, two ventricles and all small structures."""
    n = size
    x, y, z = np.meshgrid(*[np.arange(n) - (n - 1) / 2] * 3, indexing="ij")
    r = np.sqrt(x ** 2 + (y * 0.9) ** 2 + z ** 2)
    vox = np.zeros((n, n, n), np.uint8)
    for radius, tissue in ((48, L.SKIN), (44, L.SKULL), (40, L.CSF), (37, L.CORTEX), (32, L.WM)):
        vox[r < radius] = tissue
    small = [i for i in range(3, L.CLASS_COUNT) if i not in (L.CSF,)]
    for j, tissue in enumerate(small):
        angle = 2 * np.pi * j / len(small)
        for side in (-1, 1):
            cx, cy, cz = side * 9, 20 * np.cos(angle), 20 * np.sin(angle)
            vox[(x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < 16] = tissue
    for side in (-1, 1):
        vox[((x - side * 6) / 3) ** 2 + (y / 10) ** 2 + (z / 4) ** 2 < 1] = L.LATERAL
    vox |= np.where(x > 0, L.SIDE_BIT, 0).astype(np.uint8)
    t = vox & 63
    brain = np.argwhere((t > 0) & (t < L.CLASS_COUNT) & (t != L.CSF))
    return LabelMap(name, torch.from_numpy(vox), torch.from_numpy(smooth_fields(vox)), (n - 1) / 2 * np.ones(3),
                    np.stack([brain.min(0), brain.max(0)]).astype(float), len(brain), ventricle_share(vox))


@pytest.fixture(scope="session")
def person():
    return made_up_person()


@pytest.fixture(scope="session")
def shapes():
    mask = torch.ones(12, 12, 12, dtype=torch.uint8)
    return {"ms": [Shape("ms", mask, np.array([10.0, -20.0, 15.0]))], "stroke": [Shape("stroke", mask, np.array([20.0, 0.0, 10.0]))]}


@pytest.fixture
def tiny(monkeypatch, person, shapes):
    """The tiny config, with the made-up person instead of the maps."""
    from firstread_training import config, maps
    cfg = config.load(Path(__file__).resolve().parents[1] / "configs" / "tiny.toml")
    monkeypatch.setattr(maps, "load_maps", lambda *a, **k: [person])
    monkeypatch.setattr(maps, "load_shapes", lambda *a, **k: shapes)
    torch.set_num_threads(1)
    return cfg
