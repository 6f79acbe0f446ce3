"""A refined graph: what was kept is kept to the bit, what was made is today's."""

import tomllib

import numpy as np
import pytest
import torch

from firstread_training import card, export, labels as L, surgery
from firstread_training.network import ScreeningNet

SHAPE = (32, 48, 32)


@pytest.fixture
def exported(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    path = tmp_path / "screening.onnx"
    export.write(export.Screening(ScreeningNet((8, 8, 16, 16), 8).eval()), path, SHAPE)
    return path


def test_labels_and_volumes_are_refined_and_nothing_else(exported, tmp_path):
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    target = tmp_path / "refined.onnx"
    sha, worst = surgery.write(exported, target, [image])
    assert len(sha) == 64 and worst["labels"] <= 1e-4 and not (tmp_path / "tail.onnx").exists()
    before, after = (dict(zip(export.NAMES, export.session(p).run(list(export.NAMES), {"image": image[None, None]}))) for p in (exported, target))
    assert all(np.array_equal(before[n], after[n]) for n in surgery.KEPT)
    assert after["labels"].dtype == np.uint8 and after["labels"].shape == SHAPE
    assert not np.array_equal(before["labels"], after["labels"])
    assert after["volumes_mm3"].shape == (len(L.CODES),) and after["volumes_mm3"].sum() == pytest.approx(8 * image.size, rel=1e-3)
    with pytest.raises(ValueError, match="refined already"):
        surgery.write(target, tmp_path / "again.onnx", [image])


def test_a_smaller_image_lies_in_the_middle_of_the_grid():
    image = np.random.default_rng(1).random((80, 96, 80))
    full, where = surgery.on_grid(image)
    assert full.shape == tuple(surgery.preprocess.GRID) and full.dtype == np.float32
    assert np.allclose(full[where], image) and full.sum() == pytest.approx(image.sum(), rel=1e-4)
    assert where == (slice(8, 88), slice(8, 104), slice(8, 88))


def test_the_card_says_what_it_was_made_of(exported, tmp_path):
    old = card.build("0.1.7", "ab" * 32, {"scale": 0.5, "offset": 0.8, "prevalence_train": 0.7}, 5.0, {"steps": 7}, {"dice_manual": 0.7, "ece": 0.1}, ["none"])
    new = surgery.carded(old, "cd" * 32, {"dice_manual": 0.8}, {"labels": 0.0}, "1234567")
    card.write(tmp_path / "c.toml", new)
    read = tomllib.loads((tmp_path / "c.toml").read_text())
    assert read["sha256"] == "cd" * 32 and read["version"] == "0.2.7"
    assert read["run"]["refined"]["from_sha256"] == "ab" * 32 and read["run"]["steps"] == 7
    assert read["metrics"] == {"dice_manual": 0.8, "ece": 0.1}
    assert read["calibration"]["scale"] == 0.5 and read["head_threshold"] == 5.0
