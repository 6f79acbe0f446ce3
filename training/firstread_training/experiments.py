"""What a run leaves behind: figures as JSON, curves as pictures, a table to compare runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from . import metrics


def summary(real: dict | None, made: dict | None) -> dict:
    """Flat figures of one evaluation, as they go into the card."""
    out = {}
    if real:
        table = {k: round(float(np.nanmean(v)), 3) for k, v in real["dice"]["heads"].items()}
        per_scan = np.array([v for v in real["dice"]["heads"].values()]).mean(0)
        out.update(dice_heads_freesurfer=real["dice_heads"], dice_heads_sd=float(per_scan.std()), dice_heads_n=len(per_scan),
                   dice_heads_structures=table, dice_manual=real["dice_manual"], pairs_real_ranked=real["ranked"],
                   pairs_real_n=real["pairs"], pairs_real_worst_margin=real["margin"],
                   phantom_head_logit=real["phantom_head_logit"], lowest_real_head_logit=real["lowest_head_logit"],
                   real_study_logits={r["group"] + "/" + r["name"]: round(r["study"], 3) for r in real["scans"]})
    if made:
        right = made["paired_right"]
        threshold = made["head_threshold"]
        refused = float(np.mean([x < threshold for x in made["nonhead_logits"]]))
        per_image = np.nanmean(np.array([v for v in made["dice"].values()]), 0)
        out.update(map_dice=made["map_dice"], map_false_ml_median=made["map_false_ml"], dice_generated=made["dice_generated"], dice_generated_sd=float(per_image.std()), dice_generated_n=made["images"],
                   auc_generated=made["auc"], paired_right=right,
                   paired_ci95=metrics.wilson(right * made["paired_n"], made["paired_n"]), paired_n=made["paired_n"],
                   ece=made["ece"], ece_n=made["ece_n"], ece_by_chance=made["ece_by_chance"], ece_first_n90=made["ece_first"], auc_many=made["auc_many"], nonheads_refused=refused, nonheads_n=len(made["nonhead_logits"]),
                   heads_refused=float(np.mean([x < threshold for x in made["head_logits"]])), heads_n=len(made["head_logits"]),
                   p_by_kind=made["kinds"], paired_by_kind=made["paired_by_kind"],
                   dice_generated_structures={k: round(float(np.nanmean(v)), 3) for k, v in made["dice"].items()})
    return out


def save(run: Path, step: int, result: dict) -> None:
    run.mkdir(parents=True, exist_ok=True)
    with open(run / "metrics.jsonl", "a") as f:
        f.write(json.dumps({"step": step, **result}, default=float) + "\n")


def history(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def log(run: Path) -> list[dict]:
    path = run / "log.csv"
    return [{k: float(v) if v else float("nan") for k, v in row.items()} for row in csv.DictReader(open(path))] if path.exists() else []


COMPARED = ("step", "dice_heads_freesurfer", "dice_manual", "dice_generated", "pairs_real_ranked", "paired_right", "ece", "nonheads_refused")


def compare(runs: Path) -> str:
    """A Markdown table with the last evaluation of every run."""
    lines = ["| run | " + " | ".join(COMPARED) + " |", "|" + "---|" * (len(COMPARED) + 1)]
    for run in sorted(p for p in runs.iterdir() if p.is_dir()):
        merged = {}
        for row in history(run):  # an evaluation may have measured a part only
            merged.update(row)
        for row in [merged] if merged else []:
            lines.append(f"| {run.name} | " + " | ".join(_show(row.get(k)) for k in COMPARED) + " |")
    return "\n".join(lines)


def _show(v) -> str:
    return "" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v)


def curves(run: Path, out: Path) -> None:
    """Learning curves: losses by step (running mean) and Dice on real and generated heads."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    rows, evaluations = log(run), history(run)
    step = np.array([r["step"] for r in rows])
    there = lambda *keys: [key for key in keys if any(np.isfinite(r.get(key, np.nan)) for r in rows)]
    losses = [(keys, title) for keys, title in ((there("seg", "seg4"), "segmentation loss"), (there("lesion", "study", "head", "side"), "other losses")) if keys]
    figure, axes = plt.subplots(1, len(losses) + 1, figsize=(4 * len(losses) + 4, 3.4))
    for axis, (keys, title) in zip(axes, losses):
        for key in keys:
            y = np.array([r.get(key, np.nan) for r in rows])
            smooth = np.array([np.nanmean(y[max(0, i - 9):i + 1]) if np.isfinite(y[max(0, i - 9):i + 1]).any() else np.nan for i in range(len(y))])
            axis.plot(step, smooth, label=key, lw=1.2)
        axis.set_title(title, fontsize=10)
        axis.legend(fontsize=8, frameon=False)
    y = np.array([r["dice"] for r in rows])
    axes[-1].plot(step, [np.nanmean(y[max(0, i - 9):i + 1]) for i in range(len(y))], lw=1.2, label="soft Dice, training images")
    for key, name, mark in (("dice_heads_freesurfer", "Dice, 4 FreeSurfer heads (EMA)", "o"), ("dice_generated", "Dice, held-out maps (EMA)", "s")):
        points = [(e["step"], e[key]) for e in evaluations if e.get(key) is not None]
        if points:
            axes[-1].plot(*zip(*points), mark + "-", ms=4, lw=1, label=name)
    axes[-1].set_title("Dice", fontsize=10)
    axes[-1].legend(fontsize=8, frameon=False)
    for axis in axes:
        axis.set_xlabel("step", fontsize=9)
        axis.grid(alpha=0.25)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)


def contact_sheet(cases, real, out: Path, columns: int = 8) -> None:
    """Generated cases (two middle cuts each, truth outlined) above real scans prepared the same way.

    `real`: list of (name, image [x,y,z] on the network's grid).
    """
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    tiles = [(f"{c.kind}, {c.contrast}", c.image, (c.lesion == 1).astype(np.uint8)) for c in cases] + [(f"real: {n}", v, None) for n, v in real]
    rows = (len(tiles) + columns - 1) // columns
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 1.5, rows * 1.75))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, image, lesion) in zip(axes.flat, tiles):
        z = int(lesion.sum((0, 1)).argmax()) if lesion is not None and lesion.any() else image.shape[2] * 11 // 20
        axis.imshow(image[:, :, z].T, cmap="gray", origin="lower", vmin=0, vmax=1.2)
        if lesion is not None and lesion[:, :, z].any():
            axis.contour(lesion[:, :, z].T, [0.5], colors="#ff5050", linewidths=0.6)
        axis.set_title(title, fontsize=6.5)
    figure.tight_layout(pad=0.4)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=60)
