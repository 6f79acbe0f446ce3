"""Fits the study's readout to many generated cases at once.

Batch-1 gradients teach the study logit slowly.  Once the rest is trained, the evidence of some hundred
on/off pairs of the *training* people is collected (forward passes only) and a readout of a few hundred
weights is fitted to all of them together: abnormal or not, and on above off.  Calibration comes later,
on other people.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import torch
import torch.nn.functional as F

from . import evaluate, maps
from .generator import Generator, GeneratorConfig
from .network import READOUT
from .preprocess import GRID

SEED = 4242
SHAPES = ((80, 96, 80), GRID)  # alternating, so that the field of view gives nothing away
STEPS = 1500
FOLDS = 4


def collect(job) -> list[tuple]:
    """(evidence, abnormal, pair, person) of on/off pairs number first, first+stride, ... for some minutes."""
    cfg, weights, data, cache, first, stride, minutes = job
    torch.set_num_threads(1)
    net = evaluate.build(cfg, weights)
    people = maps.load_maps(cache, cfg.training_people(), data)
    make = Generator(people, maps.load_shapes(cache, data), dataclasses.replace(GeneratorConfig(), nonhead=0.0), SEED)
    rows, pair, started = [], first, time.time()
    while time.time() - started < 60 * minutes:
        make.config.shape = SHAPES[(pair // stride) % 2]
        for case in make.paired(pair):
            if case.abnormal >= 0:
                x = torch.from_numpy(case.image)[None, None]
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                    evidence = net(x, fine=False)["evidence"]
                rows.append((evidence[0].float().numpy(), case.abnormal, pair, case.person))
        pair += stride
    return rows


def _train(x, y, pairs, decay: float) -> dict:
    """Readout weights by Adam on all cases: cross-entropy, and every on above its off."""
    torch.manual_seed(0)
    centre, spread = x.mean(0), x.std(0) + 1e-3
    z = (x - centre) / spread
    w1 = (torch.randn(READOUT, x.shape[1]) * 0.15).requires_grad_()
    b1, b2 = torch.zeros(READOUT, requires_grad=True), torch.zeros(1, requires_grad=True)
    w2, direct = torch.zeros(1, READOUT, requires_grad=True), torch.zeros(1, x.shape[1], requires_grad=True)
    optimizer = torch.optim.AdamW([w1, b1, w2, direct, b2], lr=1e-2, weight_decay=decay)
    on, off = pairs
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / STEPS)
        s = (F.linear(F.silu(F.linear(z, w1, b1)), w2) + F.linear(z, direct, b2)).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(s, y)
        if len(on):
            loss = loss + F.softplus(-(s[on] - s[off])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # fold the scaling into the weights
        return {"readout_centre": centre, "readout_w1": w1 / spread, "readout_b1": b1.clone(), "readout_w2": w2.clone(),
                "readout_direct": direct / spread, "readout_b2": b2 - F.linear(centre, direct / spread)}


def _apply(r: dict, x) -> torch.Tensor:
    h = F.silu(F.linear(x - r["readout_centre"], r["readout_w1"], r["readout_b1"]))
    return (F.linear(h, r["readout_w2"]) + F.linear(x, r["readout_direct"], r["readout_b2"])).squeeze(1)


def _pairs(rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the abnormal and the healthy member of each whole pair."""
    by_pair: dict[int, dict] = {}
    for i, (_, y, pair, _) in enumerate(rows):
        by_pair.setdefault(pair, {})[y] = i
    whole = [(p[1], p[0]) for p in by_pair.values() if len(p) == 2]
    return torch.tensor([a for a, _ in whole], dtype=torch.long), torch.tensor([b for _, b in whole], dtype=torch.long)


def fit(rows) -> tuple[dict, dict]:
    """The readout, and how it did on people left out: pairs right for each weight decay tried."""
    tensors = lambda rs: (torch.from_numpy(np.stack([r[0] for r in rs])).float(), torch.tensor([float(r[1]) for r in rs]))
    people = sorted({r[3] for r in rows})
    scores = {}
    for decay in (0.01, 0.1, 0.5, 2.0):
        right = total = online = 0
        for fold in range(FOLDS):
            out = set(people[fold::FOLDS])
            train, test = [r for r in rows if r[3] not in out], [r for r in rows if r[3] in out]
            on, off = _pairs(test)
            if not len(on):
                continue
            r = _train(*tensors(train), _pairs(train), decay)
            x, _ = tensors(test)
            s = _apply(r, x)
            right, total = right + int((s[on] > s[off]).sum()), total + len(on)
            online += int((x[on, -1] > x[off, -1]).sum())
        scores[decay] = right / max(total, 1)
    best = max(scores, key=scores.get)
    report = {"cases": len(rows), "pairs_right_left_out": scores, "pairs_right_online": online / max(total, 1), "weight_decay": best}
    return _train(*tensors(rows), _pairs(rows), best), report


def run(cfg, weights: dict, data, cache, minutes: float, processes: int = 2):
    """Collects and fits; `weights` (a state dict) with the new readout, and the report."""
    jobs = [(cfg, weights, data, cache, i, processes, minutes) for i in range(processes)]
    if processes > 1:
        with torch.multiprocessing.get_context("spawn").Pool(processes) as pool:
            parts = pool.map(collect, jobs, chunksize=1)
    else:
        parts = [collect(jobs[0])]
    readout, report = fit([row for part in parts for row in part])
    return {**weights, **readout}, report
