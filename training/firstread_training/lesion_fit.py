"""Fits the lesion network where there is no GPU: what it is shown is collected once, then trained on in pieces.

Most of a training step is the picture and the volumetry network below, neither of which learns.  So each generated
head gives some cubes of `figures` that are kept in a folder (a file a head: collecting goes on where it
stopped), and the small network sees each of them many times.  Every tenth head is left out and only measured.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from . import checkpoint
from .generator import IGNORE
from .lesion_net import LIMIT, MAP, answer, figures
from .lesion_stage import finished_volumetry
from .losses import unseen
from .refine import unweighted

SIDE = 64  # voxels of a cube; even
CUBES = 6  # of a head: half of them about a lesion where there is one
EDGE = 4  # voxels at a cube's faces that are not scored: there the network lacks what is around
LEFT_OUT = 10
BATCH = 4
FAINT = (1.1, 4.0)  # halves of a spread, as in the figures


def collect(cfg, make, folder: Path, first: int, stride: int, minutes: float) -> int:
    """Cubes of heads number first, first + stride, ... into `folder` for some minutes; how many heads there are."""
    folder.mkdir(parents=True, exist_ok=True)
    below = finished_volumetry().to(memory_format=torch.channels_last_3d)  # in a third of the time
    started, number = time.time(), first
    while time.time() - started < 60 * minutes:
        path = folder / f"{number:05d}.npz"
        if not path.exists():
            kept = cubes(below, make(number), np.random.default_rng([cfg.seed, number]))
            part = path.with_suffix(".part")
            with open(part, "wb") as f:
                np.savez(f, **kept)
            part.rename(path)
        number += stride
    return len(list(folder.glob("*.npz")))


@torch.no_grad()
def cubes(below, case, rng) -> dict:
    """`shown` [CUBES,FIGURES,SIDE...] float16 and `lesion` [CUBES,SIDE...] uint8."""
    image = torch.as_tensor(case.image)[None, None].contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        out = below(image)
    shown = figures(unweighted(out["classes"][0].float()), out["lesion"][0, 0].float(), image[0, 0])
    truth, brain = np.asarray(case.lesion), np.asarray(case.classes) > 0
    wanted = {"shown": [], "lesion": []}
    for n in range(CUBES):
        at = np.argwhere(truth == 1 if n < CUBES // 2 and (truth == 1).any() else brain)
        centre = at[rng.integers(len(at))] + rng.integers(-12, 13, 3)
        low = np.clip(centre - SIDE // 2, 0, np.array(truth.shape) - SIDE)
        x, y, z = (slice(v, v + SIDE) for v in low)
        wanted["shown"].append(shown[:, x, y, z].half().numpy())
        wanted["lesion"].append(truth[x, y, z])
    return {k: np.stack(v) for k, v in wanted.items()}


def batches(files: list, seed: int, step: int):
    """Batches of cubes without end: each head's in a new order every time; steps before `step` are passed over."""
    rng, n = np.random.default_rng(seed), 0
    while True:
        order = rng.permutation(len(files) * CUBES)
        for i in range(0, len(order) - BATCH + 1, BATCH):
            if n >= step:
                yield joined([(files[k // CUBES], k % CUBES) for k in order[i:i + BATCH]])
            n += 1


def joined(places):
    rows = []
    for path, k in places:
        with np.load(path) as z:
            rows.append((z["shown"][k], z["lesion"][k]))
    shown, lesion = (torch.from_numpy(np.stack(v)) for v in zip(*rows))
    scored = torch.full_like(lesion, IGNORE)
    inner = (slice(None), *(slice(EDGE, SIDE - EDGE),) * 3)
    scored[inner] = lesion[inner]
    return shown.float().contiguous(memory_format=torch.channels_last_3d), {"lesion": scored}


def fainter(shown, lesion, rng):
    """Figures of a batch [B,FIGURES,...] with its lesions (== 1) painted fainter, to FAINT spreads at the least.

    Exact but for the limits of the figures: where a voxel's distance from the white matter shrinks, those from
    cortex and fluid change by as much, in the same units.  What the network below says of a lesion shrinks along:
    of real ones it says about as much less as they are fainter (median logit 1.4 for 3 spreads, painted 3.8 for 6).
    """
    shown = shown.clone()
    for i, inside in enumerate(lesion == 1):
        if not inside.any():
            continue
        typical = float(shown[i, 0][inside].abs().median())
        keep = min(1.0, rng.uniform(*FAINT) / max(typical, 1e-3))
        near = F.avg_pool3d(F.max_pool3d(inside.float()[None, None], 3, 1, 1), 3, 1, 1)[0, 0]
        less = (1 - keep) * torch.where(inside, torch.ones_like(near), near)
        shift = less * shown[i, 0]
        shown[i, :3] = (shown[i, :3] - shift).clamp(-LIMIT / 2, LIMIT / 2)
        shown[i, MAP] *= 1 - less
    return shown


def fit(trainer, folder: Path, minutes: float, steps: int | None = None) -> dict:
    """Trains on the collected cubes for some minutes (or `steps`), the rate falling over the last seven tenths; saves and measures."""
    files = sorted(folder.glob("*.npz"))
    train, out = [f for i, f in enumerate(files) if i % LEFT_OUT], files[::LEFT_OUT]
    if not train or len(train) * CUBES < BATCH:
        raise ValueError(f"{folder}: too few heads collected ({len(files)})")
    started, first = time.time(), trainer.step
    mark = started
    trainer.net.to(memory_format=torch.channels_last_3d)
    recent, rng = {}, np.random.default_rng([trainer.cfg.seed, trainer.step])
    for shown, batch in batches(train, trainer.cfg.seed, trainer.step):
        left = 1 - ((trainer.step - first) / steps if steps else (time.time() - started) / (60 * minutes))
        if left <= 0:
            break
        trainer.fade = min(1.0, max(0.01, left / 0.7))
        for key, value in trainer.learn(partial(answer, trainer.net, fainter(shown, batch["lesion"], rng)), batch).items():
            recent.setdefault(key, []).append(value)
        now = time.time()
        trainer.seconds, mark = trainer.seconds + now - mark, now
        if trainer.step % 50 == 0:
            trainer.log(recent)
            checkpoint.save(trainer.run / "last.pt", trainer.state())
            recent = {}
    checkpoint.save(trainer.run / "last.pt", trainer.state())
    return {"heads": len(train), "step": trainer.step, **measured(trainer, out)}


@torch.no_grad()
def measured(trainer, files: list) -> dict:
    """Dice over all cubes of the heads left out, their lesions made fainter, of the averaged weights at several thresholds; and what one cube without a lesion is given (ml, mean)."""
    trainer.net.load_state_dict(trainer.ema)
    thresholds, rng = (0.3, 0.5, 0.7), np.random.default_rng(0)
    hit, total, false, clean = np.zeros(3), np.zeros(3), np.zeros(3), 0
    for path in files:
        shown, batch = joined([(path, k) for k in range(CUBES)])
        out = answer(trainer.net, fainter(shown, batch["lesion"], rng))
        for logit, truth in zip(out["lesion"][:, 0], unseen(out["apart"], batch["lesion"])):
            valid, lesion = truth != IGNORE, truth == 1
            for i, t in enumerate(thresholds):
                found = (torch.sigmoid(logit) > t) & valid
                hit[i] += 2 * float((found & lesion).sum())
                total[i] += float(found.sum() + lesion.sum())
                if not lesion.any():
                    false[i] += float(found.sum()) * 1e-3
            clean += not lesion.any()
    return {"dice_left_out": dict(zip(map(str, thresholds), (hit / np.maximum(total, 1)).round(3))), "false_ml": dict(zip(map(str, thresholds), (false / max(clean, 1)).round(3))), "heads_left_out": len(files)}
