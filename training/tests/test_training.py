"""A tiny network: a few steps, a bit-exact resume, a compact checkpoint, an export that agrees."""

import tomllib

import numpy as np
import pytest
import torch

from firstread_training import card, checkpoint, evaluate, export, labels as L, losses, preprocess, trainer
from firstread_training.network import ScreeningNet


def start(tiny, folder):
    return trainer.Trainer(tiny, "text", folder, folder, folder, inline=True)


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_a_few_steps_and_a_resume_bit_for_bit(tiny, tmp_path):
    straight = start(tiny, tmp_path / "a")
    straight.fit(steps=6)
    first = start(tiny, tmp_path / "b")
    first.fit(steps=3)
    second = start(tiny, tmp_path / "b")
    second.restore(checkpoint.load(tmp_path / "b" / "last.pt"))
    assert second.step == 3
    second.fit(steps=6)
    assert same(straight.net.state_dict(), second.net.state_dict())
    assert same(straight.ema, second.ema)
    a, b = straight.optimizer.state_dict()["state"], second.optimizer.state_dict()["state"]
    assert all(torch.equal(a[i]["exp_avg_sq"], b[i]["exp_avg_sq"]) for i in a)


def test_training_lowers_the_loss(tiny, tmp_path):
    t = start(tiny, tmp_path)
    g = trainer.build_generator(tiny, tmp_path, tmp_path)
    import dataclasses
    case = dataclasses.asdict(next(c for c in (g(i) for i in range(20)) if c.head and c.abnormal >= 0))
    values = [t.one_step([case]) for _ in range(12)]
    assert values[-1]["seg"] < values[0]["seg"]


def test_a_compact_checkpoint_continues(tiny, tmp_path):
    t = start(tiny, tmp_path)
    t.fit(steps=3)
    small = checkpoint.compact(t.state())
    checkpoint.save(tmp_path / "small.pt", small)
    again = start(tiny, tmp_path)
    again.restore(checkpoint.expand(checkpoint.load(tmp_path / "small.pt")))
    for k, v in t.net.state_dict().items():
        assert torch.allclose(v, again.net.state_dict()[k], atol=2e-2)
    again.fit(steps=5)
    assert again.step == 5


def test_the_last_share_of_a_run_lowers_the_rate(tiny, tmp_path):
    t = start(tiny, tmp_path)
    t.step, t.decay = 90, (80, 100)
    assert t.learning_rate() == pytest.approx(0.5 * tiny.train.learning_rate)
    t.step = 200
    assert t.learning_rate() == pytest.approx(0.01 * tiny.train.learning_rate)


def test_loss_of_an_ignored_voxel_is_nothing():
    torch.manual_seed(0)
    net = ScreeningNet((8, 8, 16, 16), 8)
    out = net(torch.rand(1, 1, 32, 32, 32))
    case = {"classes": torch.ones(32, 32, 32, dtype=torch.uint8), "side": torch.zeros(32, 32, 32, dtype=torch.uint8),
            "lesion": torch.zeros(32, 32, 32, dtype=torch.uint8), "head": 1, "abnormal": -1}
    loss, values = losses.total(out, case, 0)
    assert torch.isfinite(loss) and "study" not in values


def test_onnx_gives_what_pytorch_gives(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = ScreeningNet((8, 8, 16, 16), 8).eval()
    shape = (32, 48, 32)
    path = tmp_path / "x.onnx"
    sha = export.write(net, path, shape)
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    differences = export.compare(net, path, [image])
    assert len(sha) == 64 and differences["labels"] <= 1e-4
    labels, volumes, abnormality, p, h = export.session(path).run(list(export.NAMES), {"image": image[None, None]})
    assert labels.dtype == np.uint8 and labels.shape == shape and abnormality.shape == shape
    assert volumes.shape == (len(L.CODES),) and p.shape == h.shape == (1,)
    assert volumes.sum() == pytest.approx(8 * image.size, rel=1e-3)
    mine = evaluate.predict(net, image)
    assert (np.array(L.CODES)[labels] == mine["codes"]).mean() > 0.999


def test_export_refuses_what_disagrees(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net, other = ScreeningNet((8, 8, 16, 16), 8).eval(), ScreeningNet((8, 8, 16, 16), 8).eval()
    export.write(net, tmp_path / "x.onnx", (32, 32, 32))
    with pytest.raises(ValueError, match="disagree"):
        export.compare(other, tmp_path / "x.onnx", [np.random.default_rng(0).random((32, 32, 32), dtype=np.float32)])


def test_a_card_is_toml_and_complete(tmp_path):
    c = card.build("0", "ab" * 32, {"scale": 1.5, "offset": -0.2, "prevalence_train": 0.5}, 0.3, {"steps": 3}, {"dice": float("nan"), "t": {"a b": 1}}, ["none"])
    card.write(tmp_path / "c.toml", c)
    read = tomllib.loads((tmp_path / "c.toml").read_text())
    assert read["codes"][0] == 0 and len(read["codes"]) == 31 and read["calibration"]["scale"] == 1.5
    assert read["metrics"]["t"]["a b"] == 1
    assert read["input"]["grid"] == list(preprocess.GRID)
