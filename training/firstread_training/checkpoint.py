"""Checkpoints: a full one that resumes bit for bit, and a compact one that fits the repository."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

BLOCK = 256  # values that share one scale in the compact form


def save(path: Path, state: dict) -> None:
    """Writes atomically: a killed run leaves the last whole checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load(path: Path) -> dict:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except TypeError:  # torch 1.13
        return torch.load(path, map_location="cpu")


def _pack(t: torch.Tensor) -> dict:
    """int8 with a scale for every BLOCK values."""
    flat = t.detach().float().flatten().numpy()
    blocks = np.pad(flat, (0, -len(flat) % BLOCK)).reshape(-1, BLOCK)
    scale = np.abs(blocks).max(1) / 127 + 1e-30
    # as tensors: torch.save pickles numpy bytes as text, half as big again
    return {"q": torch.from_numpy(np.rint(blocks / scale[:, None]).astype(np.int8)), "scale": torch.from_numpy(scale.astype(np.float32)), "shape": tuple(t.shape)}


def _unpack(p: dict) -> torch.Tensor:
    n = int(np.prod(p["shape"]))
    return (p["q"].float() * p["scale"][:, None]).reshape(-1)[:n].clone().reshape(p["shape"])


def compact(state: dict) -> dict:
    """The averaged weights in fp16; current weights (as a difference) and both Adam moments in int8.

    The second moment is kept as its square root, which int8 holds better.  5 bytes a weight.
    """
    ema = {k: v.half() for k, v in state["ema"].items()}
    optimizer = {}
    for i, s in state["optimizer"]["state"].items():
        optimizer[i] = {"step": float(s["step"]), "exp_avg": _pack(s["exp_avg"]), "root": _pack(s["exp_avg_sq"].sqrt())}
    return {"format": "compact-1", "ema": ema,
            "model": {k: _pack(v - ema[k].float()) for k, v in state["model"].items()},
            "optimizer": optimizer, "groups": state["optimizer"]["param_groups"],
            **{k: state[k] for k in ("step", "seconds", "config_text", "commit")}}


def expand(small: dict) -> dict:
    """A compact checkpoint as a full one (close to, not exactly, what was saved)."""
    ema = {k: v.float() for k, v in small["ema"].items()}
    state = {}
    for i, s in small["optimizer"].items():
        state[i] = {"step": torch.tensor(s["step"]), "exp_avg": _unpack(s["exp_avg"]), "exp_avg_sq": _unpack(s["root"]) ** 2}
    return {"ema": ema, "model": {k: ema[k] + _unpack(v) for k, v in small["model"].items()},
            "optimizer": {"state": state, "param_groups": small["groups"]},
            **{k: small[k] for k in ("step", "seconds", "config_text", "commit")}}
