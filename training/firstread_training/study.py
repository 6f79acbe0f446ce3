"""Fits the study's readout, and the voxels' score below it, to many generated cases at once.

Batch-1 gradients teach the study logit slowly.  Once the rest is trained, on/off pairs of the *training*
people are drawn (forward passes only).  The first part of the time gives voxels inside and outside painted
lesions, to which the small network of `voxels.score` is fitted; the other part gives the evidence of new
pairs, to which the readout is fitted: abnormal or not, and on above off.  Calibration comes later, on
other people.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from . import evaluate, maps, voxels
from .generator import Generator, GeneratorConfig
from .network import READOUT, READOUT_LIMIT
from .preprocess import GRID

SEED = 4242
SHAPES = ((80, 96, 80), (80, 96, 80), GRID)  # in turn, so that the field of view gives nothing away
VOXEL_SHARE = 0.4  # of the minutes, for the voxels
VOXELS_A_CASE = (250, 150, 350)  # in a lesion, outside in the same image, in its healthy twin
VOXEL_STEPS, STEPS = 2500, 600
FOLDS = 5
DECAYS = (3.0, 10.0, 30.0)  # strong: below 3 the readout learned its few hundred pairs by heart
PAIR_WEIGHT = 3.0
FITTED = ("centre", "scale", "hidden", "hidden_b", "out", "direct", "out_b")  # of the readout; evidence does not depend on them


def pairs(cfg, data, cache, first: int, stride: int, minutes: float, seed: int):
    """(pair, [on, off]) number first, first + stride, ... for some minutes; only cases with a truth."""
    people = maps.load_maps(cache, cfg.training_people(), data)
    make = Generator(people, maps.load_shapes(cache, data), dataclasses.replace(GeneratorConfig(), nonhead=0.0), seed)
    pair, started = first, time.time()
    while time.time() - started < 60 * minutes:
        make.config.shape = SHAPES[(pair // stride) % len(SHAPES)]
        yield pair, [case for case in make.paired(pair) if case.abnormal >= 0]
        pair += stride


def _start(cfg, weights, device: str):
    """A collecting process: cases are generated where the network runs."""
    torch.set_num_threads(1)
    if device != "cpu":
        torch.set_default_device(device)
    return evaluate.build(cfg, weights).to(device)


@torch.no_grad()
def collect(job) -> list[tuple]:
    """(evidence, abnormal, pair, person, kind) of many cases."""
    cfg, weights, device, *where = job
    net, rows = _start(cfg, weights, device), []
    for pair, cases in pairs(cfg, *where, SEED + 1):
        for case in cases:
            evidence = evaluate.answer(net, case.image, half=device == "cpu", fine=False)["evidence"]
            rows.append((evidence[0].float().cpu().numpy(), case.abnormal, pair, case.person, case.kind))
    return rows


@torch.no_grad()
def collect_voxels(job) -> list[tuple]:
    """(features [n,FEATURES], in a painted lesion [n], person) of many cases."""
    cfg, weights, device, *where = job
    net, rows = _start(cfg, weights, device), []
    for pair, cases in pairs(cfg, *where, SEED):
        rng = np.random.default_rng([SEED, pair])
        for case in cases:
            image = torch.from_numpy(case.image)[None, None].to(device)
            out = evaluate.answer(net, case.image, half=device == "cpu", fine=False)
            features, brain = voxels.describe(image, torch.softmax(out["classes4"].float(), 1), out["lesion4"].float())
            features, brain, lesion = features[0].flatten(1).cpu(), brain.flatten().cpu().numpy(), case.lesion.flatten()
            inside, outside = VOXELS_A_CASE[0], VOXELS_A_CASE[1 if case.kind != "healthy" else 2]
            for value, count in ((1, inside), (0, outside)):
                at = np.flatnonzero(brain & (lesion == value))
                at = rng.choice(at, min(count, len(at)), replace=False)
                rows.append((features[:, torch.from_numpy(at)].t().contiguous().numpy(), np.full(len(at), float(value)), case.person))
    return rows


def fit_voxels(rows) -> tuple[dict, dict]:
    """The weights of `voxels.score`, and how well one half of the people was told by a fit to the other."""
    def stack(rs):
        return torch.from_numpy(np.concatenate([r[0] for r in rs])).float(), torch.from_numpy(np.concatenate([r[1] for r in rs])).float()
    half = set(sorted({r[2] for r in rows})[::2])
    (x, y), told = stack([r for r in rows if r[2] not in half]), _train_voxels(*stack([r for r in rows if r[2] in half]))
    with torch.no_grad():
        left_out = F.binary_cross_entropy_with_logits(_voxel_logits(x, told), y) if len(x) else torch.zeros(())
    weights = _train_voxels(*stack(rows))
    return weights, {"voxels": sum(len(r[1]) for r in rows), "voxel_loss_left_out": float(left_out)}


def _voxel_logits(x, w: dict) -> torch.Tensor:
    for i in (1, 2, 3):
        x = F.linear(F.relu(x) if i > 1 else x, w[f"readout_voxel{i}"], w[f"readout_voxel{i}_b"])
    return x.squeeze(1)


def _train_voxels(x, y) -> dict:
    torch.manual_seed(0)
    centre, spread = x.mean(0), x.std(0) + 1e-2
    z = (x - centre) / spread
    sizes, w = (x.shape[1], *voxels.HIDDEN, 1), {}
    for i in (1, 2, 3):
        w[f"readout_voxel{i}"] = (torch.randn(sizes[i], sizes[i - 1]) * (1.4 / sizes[i - 1] ** 0.5)).requires_grad_()
        w[f"readout_voxel{i}_b"] = torch.zeros(sizes[i], requires_grad=True)
    optimizer = torch.optim.AdamW(w.values(), lr=4e-3, weight_decay=0.1)
    for step in range(VOXEL_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / VOXEL_STEPS)
        i = torch.randint(0, len(z), (2048,))
        loss = F.binary_cross_entropy_with_logits(_voxel_logits(z[i], w), y[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    w = {k: v.detach().clone() for k, v in w.items()}
    w["readout_voxel1"] /= spread  # fold the scaling into the weights
    w["readout_voxel1_b"] -= w["readout_voxel1"] @ centre
    return w


def _train(x, y, pairs, decay: float) -> dict:
    """Readout weights by Adam on all cases: cross-entropy, and every on above its off."""
    torch.manual_seed(0)
    r = {"readout_centre": x.mean(0), "readout_scale": 1.0 / (x.std(0) + 1e-3), "readout_hidden": torch.randn(READOUT, x.shape[1]) * 0.1,
         "readout_hidden_b": torch.zeros(READOUT), "readout_out": torch.zeros(1, READOUT), "readout_direct": torch.zeros(1, x.shape[1]), "readout_out_b": torch.zeros(1)}
    learned = [r[k].requires_grad_() for k in r if k not in ("readout_centre", "readout_scale")]
    optimizer = torch.optim.AdamW(learned, lr=1e-2, weight_decay=decay)
    on, off = pairs
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / STEPS)
        s = _apply(r, x)
        loss = F.binary_cross_entropy_with_logits(s, y)
        if len(on):
            loss = loss + PAIR_WEIGHT * F.softplus(-(s[on] - s[off])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {k: v.detach().clone() for k, v in r.items()}


def _apply(r: dict, x) -> torch.Tensor:
    z = ((x - r["readout_centre"]) * r["readout_scale"]).clamp(-READOUT_LIMIT, READOUT_LIMIT)
    h = F.silu(F.linear(z, r["readout_hidden"], r["readout_hidden_b"]))
    return (F.linear(h, r["readout_out"]) + F.linear(z, r["readout_direct"], r["readout_out_b"])).squeeze(1)


def _pairs(rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the painted and the healthy member of each whole pair (the healthy one may have wide ventricles)."""
    by_pair: dict[int, list] = {}
    for i, (_, _, pair, _, _) in enumerate(rows):
        by_pair.setdefault(pair, []).append(i)
    whole = [p for p in by_pair.values() if len(p) == 2 and rows[p[0]][1] == 1]
    return torch.tensor([p[0] for p in whole], dtype=torch.long), torch.tensor([p[1] for p in whole], dtype=torch.long)


def fit(rows) -> tuple[dict, dict]:
    """The readout, and how it did on people left out: pairs right and area under the curve for each weight decay tried."""
    tensors = lambda rs: (torch.from_numpy(np.stack([r[0] for r in rs])).float(), torch.tensor([float(r[1]) for r in rs]))
    people = sorted({r[3] for r in rows})
    x, y = tensors(rows)
    on, off = _pairs(rows)
    tried = {}
    for decay in DECAYS:
        s = torch.zeros(len(rows))
        for fold in range(FOLDS):
            out = set(people[fold::FOLDS])
            train = [r for r in rows if r[3] not in out]
            held = torch.tensor([r[3] in out for r in rows])
            if train and held.any():
                s[held] = _apply(_train(*tensors(train), _pairs(train), decay), x[held])
        right = (s[on] > s[off]).float()
        kinds = [rows[i][4] for i in on.tolist()]
        tried[decay] = {"pairs_right": float(right.mean()) if len(on) else 0.0, "auc": evaluate.metrics.auc(s.numpy(), y.numpy()),
                        "by_kind": {k: [kinds.count(k), round(float(np.mean([float(v) for v, kind in zip(right, kinds) if kind == k])), 3)] for k in sorted(set(kinds))}}
    best = max(tried, key=lambda d: tried[d]["pairs_right"] + tried[d]["auc"])
    report = {"cases": len(rows), "pairs": len(on), "left_out": tried, "weight_decay": best,
              "pairs_right_online": float((x[on, -1] > x[off, -1]).float().mean()) if len(on) else 0.0}
    return _train(x, y, (on, off), best), report


def key_of(weights: dict) -> str:
    """What evidence was collected with: changes with every weight it depends on."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name not in {f"readout_{part}" for part in FITTED}:
            digest.update(name.encode() + weights[name].half().cpu().numpy().tobytes())  # as compact checkpoints keep them
    return digest.hexdigest()


def save_rows(path: Path, weights: dict, rows) -> None:
    """Evidence as float16: a megabyte for two thousand pairs."""
    evidence, abnormal, pair, person, kind = zip(*rows)
    part = path.with_suffix(".part")
    with open(part, "wb") as f:
        np.savez_compressed(f, key=key_of(weights), evidence=np.stack(evidence).astype(np.float16), abnormal=np.array(abnormal, np.int8), pair=np.array(pair), person=np.array(person), kind=np.array(kind))
    part.rename(path)


def load_rows(path: Path | None, weights: dict) -> list[tuple]:
    """What was collected before with the same weights; nothing where they are others."""
    if path is None or not path.exists():
        return []
    with np.load(path) as z:
        if str(z["key"]) != key_of(weights):
            return []
        return [(e.astype(np.float32), int(a), int(p), str(w), str(k)) for e, a, p, w, k in zip(*(z[n] for n in ("evidence", "abnormal", "pair", "person", "kind")))]


def run(cfg, weights: dict, data, cache, minutes: float, processes: int = 2, device: str = "cpu", kept: Path | None = None, keep_voxels: bool = False):
    """Collects and fits; the readout's weights, and the report.

    `kept`: a file of evidence.  Where it is of these very weights, all minutes go into more pairs, which are added to it;
    otherwise it is begun anew.  `keep_voxels`: the voxels' score is not fitted again (it rests on the trunk alone).
    """
    def everywhere(collector, weights, minutes, first=0):
        jobs = [(cfg, weights, device, data, cache, first + i, processes, minutes) for i in range(processes)]
        if processes == 1:
            return collector(jobs[0])
        with torch.multiprocessing.get_context("spawn").Pool(processes) as pool:
            return [row for part in pool.map(collector, jobs, chunksize=1) for row in part]
    weights, told, report = evaluate.build(cfg, weights).state_dict(), {}, {}
    rows = load_rows(kept, weights)
    if not rows and not keep_voxels:
        told, report = fit_voxels(everywhere(collect_voxels, weights, minutes * VOXEL_SHARE))
        weights, minutes = {**weights, **told}, minutes * (1 - VOXEL_SHARE)
    rows += everywhere(collect, weights, minutes, 1 + max((row[2] for row in rows), default=-1))
    if kept is not None:
        save_rows(kept, weights, rows)
    readout, more = fit(rows)
    return {**told, **readout}, {**report, **more}
