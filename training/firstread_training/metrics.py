"""Dice, ranking, calibration: plain numpy, no model in sight."""

from __future__ import annotations

import numpy as np

from . import labels as L

# reference codes to ours before a comparison
ASEG = {30: 2, 62: 41, 31: 4, 63: 43, 77: 2, 78: 2, 79: 41, 80: 0, 85: 0, 5: 4, 44: 43, 24: 0,
        251: 2, 252: 2, 253: 2, 254: 2, 255: 2}
NEUROMORPHOMETRICS = {
    4: 14, 11: 15, 23: 58, 30: 26, 31: 54, 32: 18, 35: 16, 36: 50, 37: 11, 38: 47, 39: 8, 40: 46, 41: 7, 44: 41, 45: 2,
    47: 53, 48: 17, 49: 43, 50: 4, 51: 43, 52: 4, 55: 52, 56: 13, 57: 51, 58: 12, 59: 49, 60: 10, 61: 60, 62: 28,
    71: 8, 72: 8, 73: 8}


def aseg_codes(a: np.ndarray) -> np.ndarray:
    a = np.asarray(a).astype(np.int64)
    out = a.copy()
    for source, code in ASEG.items():
        out[a == source] = code
    return out


def neuromorphometrics_codes(a: np.ndarray) -> np.ndarray:
    a = np.asarray(a).astype(np.int64)
    out = np.zeros_like(a)
    for source, code in NEUROMORPHOMETRICS.items():
        out[a == source] = code
    out[(a >= 100) & (a % 2 == 1)] = 3
    out[(a >= 100) & (a % 2 == 0)] = 42
    return out


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks; nan when the reference b is empty."""
    n = int(a.sum()) + int(b.sum())
    return float("nan") if not b.any() else 2.0 * int((a & b).sum()) / n


def dice_16(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Dice of the 16 structures of two code arrays; sides averaged but for the pooled white matter."""
    out = {}
    for i in L.DICE_CLASSES:
        code = L.CLASS_CODES[i]
        right = L.RIGHT_OF.get(code)
        if right is None:
            value = dice(prediction == code, reference == code)
        elif code == 2:
            value = dice(np.isin(prediction, (2, 41)), np.isin(reference, (2, 41)))
        else:
            sides = [dice(prediction == c, reference == c) for c in (code, right)]
            value = float(np.nanmean(sides)) if not np.isnan(sides).all() else float("nan")
        out[L.CLASS_NAMES[i]] = value
    return out


def pairs_ranked(abnormal, healthy) -> tuple[float, int, float]:
    """Share of (abnormal, healthy) pairs with the abnormal one higher (ties half), how many, worst margin."""
    a, h = np.asarray(abnormal, float), np.asarray(healthy, float)
    d = a[:, None] - h[None]
    if d.size == 0:
        return float("nan"), 0, float("nan")
    return float(((d > 0) + 0.5 * (d == 0)).mean()), d.size, float(d.min())


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, float)))


def fit_calibration(logits, truth, ridge: float = 1e-2) -> tuple[float, float]:
    """(scale, offset) of p = sigmoid(scale*logit + offset), by Newton's method; the ridge pulls scale to 1."""
    x, y = np.asarray(logits, float), np.asarray(truth, float)
    w = np.array([1.0, 0.0])
    design = np.column_stack([x, np.ones_like(x)])
    for _ in range(100):
        p = sigmoid(design @ w)
        gradient = design.T @ (p - y) + ridge * len(x) * np.array([w[0] - 1.0, 0.0]) * 0.1
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag([ridge * len(x) * 0.1, 0.0]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        w = w - np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return float(w[0]), float(w[1])


def ece(p, truth, bins: int = 10) -> float:
    """Expected calibration error in `bins` equal-count bins."""
    order = np.argsort(p, kind="stable")
    p, y = np.asarray(p, float)[order], np.asarray(truth, float)[order]
    return float(sum(len(b) * abs(p[b].mean() - y[b].mean()) for b in np.array_split(np.arange(len(p)), bins) if len(b)) / len(p))


def ece_by_chance(p, draws: int = 200) -> float:
    """The error that perfect probabilities would show on so many cases."""
    rng = np.random.default_rng(0)
    return float(np.mean([ece(p, rng.random(len(p)) < p) for _ in range(draws)]))


def auc(logits, truth) -> float:
    y = np.asarray(truth).astype(bool)
    return pairs_ranked(np.asarray(logits)[y], np.asarray(logits)[~y])[0]


def wilson(k: float, n: int) -> tuple[float, float]:
    """95 % interval of a share k/n."""
    if n == 0:
        return (0.0, 1.0)
    p, z = k / n, 1.96
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n)))
