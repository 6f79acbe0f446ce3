"""A tiny network: a few steps, a bit-exact resume, a compact checkpoint, an export that agrees."""

import os
import time
import tomllib

import numpy as np
import pytest
import torch

from firstread_training import card, checkpoint, evaluate, export, feed, labels as L, losses, maps, preprocess, study, trainer, voxels
from firstread_training.network import EVIDENCE, ScreeningNet, fitting
from firstread_training.volumetry import VolumetryNet


def start(tiny, folder):
    return trainer.Trainer(tiny, "text", folder, folder, folder, workers=0)


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
    g = feed.build_generator(tiny, tmp_path, tmp_path)
    pair = next(i for i in range(0, 20, 2) if g(i).head)
    values = [t.one_step(feed.make_batch(g, pair, 2, False)) for _ in range(12)]
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
    t.fit(minutes=0.05, decay_share=1.0)
    assert t.step >= 1 and 0 < t.fade < 1 and t.learning_rate() < tiny.train.learning_rate


def one_of_two(rank, folder, cfg, person, shapes):
    """What `torchrun` starts, but on the made-up person."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    maps.load_maps, maps.load_shapes = lambda *a, **k: [person], lambda *a, **k: shapes
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    t = trainer.Trainer(cfg, "text", folder / "run", folder, folder, workers=0)
    time.sleep(0.5 * rank)  # a clock of its own
    t.fit(minutes=0.1, decay_share=1.0)
    torch.save((t.step, t.fade, t.net.state_dict()), folder / f"{rank}.pt")


def test_two_processes_learn_the_same_and_stop_together(tiny, tmp_path, person, shapes):
    ctx = torch.multiprocessing.get_context("spawn")
    both = [ctx.Process(target=one_of_two, args=(rank, tmp_path, tiny, person, shapes)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    (steps, fade, weights), (steps_too, fade_too, weights_too) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert steps == steps_too > 1 and fade == fade_too < 1
    assert same(weights, weights_too)
    assert checkpoint.load(tmp_path / "run" / "last.pt")["step"] == steps


def test_loss_of_an_ignored_voxel_is_nothing():
    torch.manual_seed(0)
    net = ScreeningNet((8, 8, 16, 16), 8)
    out = net(torch.rand(1, 1, 32, 32, 32))
    batch = {"classes": torch.ones(1, 32, 32, 32, dtype=torch.uint8), "side": torch.zeros(1, 32, 32, 32, dtype=torch.uint8),
             "lesion": torch.zeros(1, 32, 32, 32, dtype=torch.uint8), "head": torch.ones(1), "abnormal": -torch.ones(1)}
    terms = losses.screening(out, batch, 0)
    assert torch.isfinite(losses.total(terms)) and float(terms["study"]) == 0 and float(terms["pair"]) == 0
    logits = torch.randn(1, 3, 4, 4, 4)
    target = torch.randint(0, 3, (1, 4, 4, 4)).to(torch.uint8)
    target[0, 0] = 255
    changed = logits.clone()
    changed[:, :, 0] += 5 * torch.randn(1, 3, 4, 4)
    assert float(losses.segmentation(logits, target)[0]) == pytest.approx(float(losses.segmentation(changed, target)[0]), rel=1e-5)


def test_a_painted_head_must_rank_above_its_healthy_twin():
    apart = losses.studies(torch.tensor([3.0, -3.0]), torch.tensor([1, 0]))[1]
    wrong = losses.studies(torch.tensor([-3.0, 3.0]), torch.tensor([1, 0]))[1]
    unknown = losses.studies(torch.tensor([-3.0, 3.0]), torch.tensor([-1, 0]))[1]
    assert float(apart) < 0.01 < float(wrong) and float(unknown) == 0


def test_a_batch_survives_packing(tiny, person, shapes):
    make = feed.build_generator(tiny, None, None)
    for n in range(4):
        case = make(n)
        image, targets = feed.unpack(*feed.make_batch(make, n, 1, True), "cpu")
        classes = targets["classes"][0].numpy()
        assert np.array_equal(np.where(classes == L.HORN_CLASS, L.LATERAL, classes), case.classes)
        assert np.array_equal(targets["lesion"][0].numpy(), case.lesion) and np.abs(image[0, 0].numpy() - case.image).max() < 1e-3
        known = case.side != 255
        assert np.array_equal(targets["side"][0].numpy()[known], case.side[known])


def test_batches_do_not_depend_on_the_workers(tiny, tmp_path, person, shapes):
    for first, workers in ((0, 3), (5, 4), (7, 1)):
        made = [[next(turn) for _ in range(6)] for turn in (feed.turns(first, w, workers) for w in range(workers))]
        assert sorted(sum(made, [])) == list(range(first, first + 6 * workers))
        assert all(n % workers == w for w, numbers in enumerate(made) for n in numbers)  # where `take` looks for it
    a, b = (feed.Feed(tiny, tmp_path, tmp_path, first, 2, workers=0) for first in (0, 1))
    a.take()
    assert all(torch.equal(x, y) for x, y in zip(a.take(), b.take()))


def test_the_volumetry_network_begins_where_its_2_mm_stage_ends():
    torch.manual_seed(0)
    net = VolumetryNet((8, 8, 16, 16), 8).eval()
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        fine, coarse = net(image), net(torch.nn.functional.avg_pool3d(image, 2), fine=False)
    assert fine["classes"].shape == (1, 19, 32, 32, 32) and coarse["lesion"].shape == (1, 1, 16, 16, 16)
    assert torch.allclose(fine["classes"][:, :, ::2, ::2, ::2], coarse["classes"], atol=1e-4)


def test_volumetry_trains_at_2_mm_and_then_at_1_mm(tiny, tmp_path):
    import dataclasses
    fine = dataclasses.replace(tiny.generator, voxel_mm=1.0, shape=(32, 32, 32), pairs=False, few_are_lesions=True, distractors=1.0, uneven=1.0, faint=0.4, slices={"t1": 0.5})
    cfg = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, kind="volumetry"), generator=fine,
                              coarse=dataclasses.replace(tiny.generator, pairs=False), train=dataclasses.replace(tiny.train, coarse_steps=2, coarse_batch=2, batch=1))
    t = trainer.Trainer(cfg, "text", tmp_path, tmp_path, tmp_path, workers=0)
    t.fit(steps=4)
    assert t.step == 4 and all(torch.isfinite(v).all() for v in t.net.state_dict().values()) and float(t.net.out2.weight.abs().max()) > 0


def test_onnx_gives_what_pytorch_gives(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = ScreeningNet((8, 8, 16, 16), 8).eval()
    for key, value in net.named_buffers():  # as after fit-study
        if key.startswith("readout_"):
            value.copy_(0.1 * torch.randn(value.shape))
    shape = (32, 48, 32)
    path = tmp_path / "x.onnx"
    sha = export.write(export.Screening(net), path, shape)
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    differences = export.compare(export.Screening(net), path, [image])
    assert len(sha) == 64 and differences["labels"] <= 1e-4
    labels, volumes, abnormality, p, h = export.session(path).run(list(export.NAMES), {"image": image[None, None]})
    assert labels.dtype == np.uint8 and labels.shape == shape and abnormality.shape == shape
    assert volumes.shape == (len(L.CODES),) and p.shape == h.shape == (1,)
    assert volumes.sum() == pytest.approx(8 * image.size, rel=1e-3)
    mine = evaluate.predict(net, image)
    assert (np.array(L.CODES)[labels] == mine["codes"]).mean() > 0.999


def test_an_unfitted_readout_passes_the_online_logit_on():
    torch.manual_seed(0)
    net = ScreeningNet((8, 8, 16, 16), 8).eval()
    with torch.no_grad():
        out = net(torch.rand(1, 1, 32, 32, 32), fine=False)
    assert out["evidence"].shape == (1, EVIDENCE)
    assert float(out["study"]) == pytest.approx(float(out["online"]), abs=1e-4)
    assert "evidence" not in net.train()(torch.rand(1, 1, 32, 32, 32), fine=False)


def test_a_readout_of_another_shape_gives_way():
    net, older = ScreeningNet((8, 8, 16, 16), 8), ScreeningNet((8, 8, 16, 16), 8).state_dict()
    older["readout_w1"], older["readout_centre"] = torch.ones(24, 28), torch.ones(28)
    older["readout_voxel1"] = torch.full_like(net.readout_voxel1, 3.0)
    net.load_state_dict(fitting(net, older))
    assert float(net.readout_direct[0, -1]) == 10.0 and torch.equal(net.d1.c.weight, older["d1.c.weight"])
    assert float(net.readout_voxel1.min()) == 3.0, "the voxels' score is of another fit and stays"
    del older["d1.c.weight"]
    with pytest.raises(RuntimeError):
        net.load_state_dict(fitting(net, older))


def test_a_small_bright_spot_is_described():
    p = torch.zeros(1, L.CLASS_COUNT, 16, 16, 16)
    p[:, 0], p[:, L.WM, 3:13, 3:13, 3:13] = 1.0, 1.0
    p[:, 0, 3:13, 3:13, 3:13] = 0.0
    torch.manual_seed(0)
    image = 0.8 * voxels.up(p[:, L.WM:L.WM + 1]) + 0.02 * torch.randn(1, 1, 32, 32, 32)
    spot = image.clone()
    spot[:, :, 15:17, 15:17, 15:17] += 0.3
    (a, brain), (b, _) = (voxels.describe(i, p, torch.zeros(1, 1, 16, 16, 16)) for i in (image, spot))
    assert a.shape == (1, voxels.FEATURES, 32, 32, 32) and brain[0, 0, 16, 16, 16] and not brain[0, 0, 0, 0, 0]
    assert b[0, 0, 15, 15, 15] > a[0, 0, 15, 15, 15] + 2
    logits = torch.full((1, 1, 32, 32, 32), -6.0)
    quiet = voxels.figures(a, brain, logits)
    assert quiet.shape == (1, voxels.FIGURES) and torch.isfinite(quiet).all()
    assert voxels.figures(b, brain, logits)[0, 40] > quiet[0, 40]  # the strongest differences from what is expected


def test_the_readout_learns_what_tells_the_pairs_apart(monkeypatch):
    torch.set_num_threads(1)
    for name, value in (("STEPS", 150), ("VOXEL_STEPS", 300), ("FOLDS", 2), ("DECAYS", (3.0,))):
        monkeypatch.setattr(study, name, value)
    rng = np.random.default_rng(0)
    rows = []
    for pair in range(60):
        base = rng.normal(0, 1, EVIDENCE).astype(np.float32)
        for abnormal in (1, 0):
            evidence = base.copy()
            evidence[3] += 2.0 * abnormal
            rows.append((evidence, abnormal, pair, f"p{pair % 10}", "stroke" if abnormal else "healthy"))
    _, report = study.fit(rows)
    assert report["pairs"] == 60 and report["left_out"][report["weight_decay"]]["pairs_right"] > 0.9
    told, report = study.fit_voxels([(rng.normal(2 * y, 1, (40, voxels.FEATURES)).astype(np.float32), np.full(40, float(y)), f"p{i}") for i in range(6) for y in (0, 1)])
    assert report["voxel_loss_left_out"] < 0.4 and told["readout_voxel1"].shape == (voxels.HIDDEN[0], voxels.FEATURES)


def test_evidence_is_kept_for_the_same_network_only(tmp_path):
    torch.manual_seed(0)
    net = ScreeningNet((8, 8, 16, 16), 8)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    rows = [(np.linspace(-2, 2, EVIDENCE, dtype=np.float32), 1, 7, "p1", "stroke"), (np.zeros(EVIDENCE, np.float32), 0, 7, "p1", "healthy")]
    study.save_rows(tmp_path / "e.npz", weights, rows)
    weights["readout_out_b"] += 1.0  # a readout fitted anew
    again = study.load_rows(tmp_path / "e.npz", weights)
    assert [row[1:] for row in again] == [row[1:] for row in rows] and np.abs(again[0][0] - rows[0][0]).max() < 2e-3
    weights["out2.weight"] += 0.01
    assert study.load_rows(tmp_path / "e.npz", weights) == [] and study.load_rows(tmp_path / "none.npz", weights) == []


def test_export_refuses_what_disagrees(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net, other = ScreeningNet((8, 8, 16, 16), 8).eval(), ScreeningNet((8, 8, 16, 16), 8).eval()
    export.write(export.Screening(net), tmp_path / "x.onnx", (32, 32, 32))
    with pytest.raises(ValueError, match="disagree"):
        export.compare(export.Screening(other), tmp_path / "x.onnx", [np.random.default_rng(0).random((32, 32, 32), dtype=np.float32)])


def test_a_card_is_toml_and_complete(tmp_path):
    c = card.build("0", "ab" * 32, {"scale": 1.5, "offset": -0.2, "prevalence_train": 0.5}, 0.3, {"steps": 3}, {"dice": float("nan"), "t": {"a b": 1}}, ["none"])
    card.write(tmp_path / "c.toml", c)
    read = tomllib.loads((tmp_path / "c.toml").read_text())
    assert read["codes"][0] == 0 and len(read["codes"]) == 31 and read["calibration"]["scale"] == 1.5
    assert read["metrics"]["t"]["a b"] == 1
    assert read["input"]["grid"] == list(preprocess.GRID)


def test_a_worker_that_died_is_told_and_not_waited_for(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "LOOK_SECONDS", 0.2)
    made = feed.Feed(tiny, tmp_path, tmp_path, 0, 2, workers=1)  # neither maps nor data lie there
    try:
        with pytest.raises(RuntimeError, match="worker 0, which makes cases, ended with 1"):
            made.take()
    finally:
        made.close()


def test_maps_that_another_process_unpacked_first_are_used(tmp_path, monkeypatch):
    import tarfile
    from firstread_training import maps
    (tmp_path / "one.nii").write_bytes(b"mine")
    with tarfile.open(tmp_path / "labelmaps.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "one.nii", "maps/one.nii")
    cache, own = tmp_path / "cache", maps._own

    def beaten(target):
        target.mkdir(parents=True)
        (target / "one.nii").write_bytes(b"the other's")
        return own(target)

    monkeypatch.setattr(maps, "_own", beaten)
    assert (maps.unpack(tmp_path, cache) / "one.nii").read_bytes() == b"the other's"
    assert [p.name for p in cache.iterdir()] == ["maps"]
    monkeypatch.setattr(maps, "_own", own)
    assert (maps.unpack(tmp_path, tmp_path / "fresh") / "one.nii").read_bytes() == b"mine"
