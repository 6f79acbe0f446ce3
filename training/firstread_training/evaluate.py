"""Measures a network by every row of the screening table; prints, and returns a dictionary for the card.

Generated cases come from the held-out maps with the frozen seeds of `heldout.toml`; real scans are only
measured.  Nothing here changes weights; the two numbers of the calibration are fitted to generated cases of
their own seed (`heldout_calibration.toml`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from . import config as config_module
from . import labels as L
from . import metrics, preprocess, scans
from .heldout import Heldout
from .network import ScreeningNet, fitting

# The map is trained balanced (as if half the voxels were lesion); the exported graph subtracts the
# offset that gives the best Dice on the calibration cases, so that 0.5 means more likely lesion than not.
MAP_OFFSETS = tuple(float(x) for x in np.arange(0.0, 9.0, 0.5))


def build(cfg, weights: dict) -> ScreeningNet:
    net = ScreeningNet(tuple(cfg.model.widths), cfg.model.thin)
    net.load_state_dict(fitting(net, weights))
    return net.eval()


@torch.no_grad()
def predict(net, image: np.ndarray, half: bool = False) -> dict:
    """One normalised image [x,y,z] -> classes, codes, abnormality, study and head logits."""
    out = answer(net, image, half)
    classes = out["classes"][0].float().argmax(0).cpu().numpy()
    right = out["side"][0, 0].float().cpu().numpy() > 0
    return {"classes": classes, "codes": codes(classes, right), "lesion_logit": out["lesion"][0, 0].float().cpu().numpy(),
            "study": float(out["study"][0]), "head": float(out["head"][0])}


@torch.no_grad()
def study_logit(net, image: np.ndarray, half: bool = False) -> float:
    """The study logit alone: half the time of `predict`."""
    return float(answer(net, image, half, fine=False)["study"][0])


def answer(net, image: np.ndarray, half: bool = False, fine: bool = True) -> dict:
    """What the network says of one normalised image [x,y,z], wherever the network is; `half`: in bf16."""
    device = next(net.parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(image))[None, None].to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        return net(x, fine=fine)


def codes(classes: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Classes and sides -> FreeSurfer codes."""
    left = np.array(L.CLASS_CODES)
    other = np.array([L.RIGHT_OF.get(c, c) for c in L.CLASS_CODES])
    return np.where(right, other[classes], left[classes])


def reference_on_grid(labels, affine, origin) -> np.ndarray:
    """Nearest reference code at each voxel of the network's grid; 0 outside."""
    inverse = np.linalg.inv(affine)
    index = np.indices(preprocess.GRID).reshape(3, -1)
    mm = np.asarray(origin)[:, None] + preprocess.SPACING_MM * index
    q = np.rint(inverse[:3, :3] @ mm + inverse[:3, 3:]).astype(int)
    ok = np.all((q >= 0) & (q < np.array(labels.shape)[:, None]), 0)
    out = np.zeros(ok.shape, np.int64)
    out[ok] = np.asarray(labels)[q[0, ok], q[1, ok], q[2, ok]]
    return out.reshape(preprocess.GRID)


def real_scans(net, data: Path, cache: Path, half: bool = False, map_offset: float = 0.0) -> dict:
    """Dice on the reference heads, ranking of abnormal against healthy, and the phantom."""
    rows, dices = [], {"heads": {}, "manual": {}}
    for scan in scans.validation(data, cache):
        volume, affine = scan.load()
        image, origin = preprocess.prepare(volume, affine)
        p = predict(net, image, half)
        rows.append({"name": scan.name, "group": scan.group, "truth": scan.truth, "study": p["study"], "head": p["head"],
                     "abnormal_ml": float((p["lesion_logit"] > map_offset).sum() * 0.008)})
        if scan.reference is not None:
            reference, ref_affine = nifti_codes(scan)
            for name, value in metrics.dice_16(p["codes"], reference_on_grid(reference, ref_affine, origin)).items():
                dices[scan.group].setdefault(name, []).append(value)
    score = lambda truth: [r["study"] for r in rows if r["truth"] == truth]
    ranked, pairs, margin = metrics.pairs_ranked(score("abnormal"), score("healthy"))
    return {"scans": rows, "dice": dices, "ranked": ranked, "pairs": pairs, "margin": margin,
            "dice_heads": mean_dice(dices["heads"]), "dice_manual": mean_dice(dices["manual"]),
            "phantom_head_logit": [r["head"] for r in rows if r["group"] == "phantom"],
            "lowest_head_logit": min(r["head"] for r in rows if r["truth"] != "nonhead")}


def nifti_codes(scan):
    from . import nifti
    labels, affine = nifti.read(scan.reference)
    return (metrics.aseg_codes(labels) if scan.scheme == "aseg" else metrics.neuromorphometrics_codes(labels)), affine


def mean_dice(table: dict) -> float:
    return float(np.mean([np.nanmean(v) for v in table.values()])) if table else float("nan")


def one_map(job) -> dict:
    """Every generated measurement of one held-out map; runs in its own process."""
    number, cfg, weights, data, cache, half, shape, part, device, folder = job
    torch.set_num_threads(1)
    net, cases = build(cfg, weights).to(device), Heldout(number, data, cache, shape, folder)
    out = {"dice": [], "head": [], "cases": [], "pairs": [], "fit": [], "error": [], "nonhead": [], "map": [], "false_ml": []}
    each = cases.all(part)
    for case in each["image"]:
        p = predict(net, case.image, half)
        out["dice"].append(dice_case(p, case))
        out["head"].append(p["head"])
        if case.abnormal >= 0:
            out["cases"].append((case.kind, case.abnormal, p["study"]))
    for on, off in each["pair"]:
        if on.abnormal == 1 and off.abnormal >= 0:
            out["pairs"].append((on.kind, study_logit(net, on.image, half) - study_logit(net, off.image, half)))
    out["nonhead"] = [predict(net, case.image, half)["head"] for case in each["nonhead"]]
    for case in each["calibration"]:
        p = predict(net, case.image, half)
        mask, scored = case.lesion == 1, case.lesion != 255
        if mask.sum() > 40:
            out["map"].append([metrics.dice((p["lesion_logit"] > o) & scored, mask) for o in MAP_OFFSETS])
        elif case.abnormal == 0:
            out["false_ml"].append([float((p["lesion_logit"] > o).sum() * 0.008) for o in MAP_OFFSETS])
    for key in ("fit", "error"):
        out[key] = [(case.kind, case.abnormal, study_logit(net, case.image, half)) for case in each[key] if case.abnormal >= 0]
    return out


def generated(weights: dict, cfg, data, cache, half=False, part=1.0, processes=1, device="cpu", folder=None) -> dict:
    """Dice, study logits, on/off pairs and non-heads on the held-out maps; `part` < 1 measures fewer."""
    held = config_module.heldout()
    jobs = [(i, cfg, weights, data, cache, half, tuple(held["shape"]), part, device, folder) for i in range(len(held["maps"]))]
    if processes > 1:
        with torch.multiprocessing.get_context("spawn").Pool(processes) as pool:
            parts = pool.map(one_map, jobs, chunksize=1)
    else:
        parts = [one_map(job) for job in jobs]
    join = lambda key: [x for p in parts for x in p[key]]
    _, fit_truth, fit_logits = zip(*join("fit"))
    scale, offset = metrics.fit_calibration(fit_logits, fit_truth)
    pairs = join("pairs")
    kinds, truth, logits = zip(*join("error"))
    p = metrics.sigmoid(scale * np.array(logits) + offset)
    _, first_truth, first_logits = zip(*join("cases"))
    dices = {}
    for image in join("dice"):
        for name, value in image.items():
            dices.setdefault(name, []).append(value)
    map_dice = np.nanmean(np.array(join("map")), 0) if join("map") else np.zeros(len(MAP_OFFSETS))
    best = int(map_dice.argmax())
    by_pair = {}
    for kind, d in pairs:
        by_pair.setdefault(kind, []).append(d > 0)
    return {"map_offset": MAP_OFFSETS[best], "map_dice": float(map_dice[best]),
            "map_false_ml": float(np.median(np.array(join("false_ml"))[:, best])) if join("false_ml") else float("nan"),
            "dice": dices, "dice_generated": mean_dice(dices), "images": len(join("head")), "auc": metrics.auc(first_logits, first_truth), "auc_many": metrics.auc(logits, truth),
            "scale": scale, "offset": offset, "prevalence_train": float(np.mean(fit_truth)),
            "ece": metrics.ece(p, truth), "ece_by_chance": metrics.ece_by_chance(p), "ece_n": len(truth),
            "ece_first": metrics.ece(metrics.sigmoid(scale * np.array(first_logits) + offset), first_truth), "paired_right": float(np.mean([d > 0 for _, d in pairs])),
            "paired_n": len(pairs), "paired_by_kind": {k: [len(v), float(np.mean(v))] for k, v in sorted(by_pair.items())},
            "nonhead_logits": join("nonhead"), "head_logits": join("head"), "kinds": by_kind(kinds, truth, p)}


def dice_case(p: dict, case) -> dict:
    """Dice of a generated case against its own labels, ignoring voxels without a label."""
    valid = case.classes != 255
    reference = np.where(valid, codes(np.where(valid, case.classes, 0), case.side == 1), 0)
    present = {}
    for name, value in metrics.dice_16(np.where(valid, p["codes"], 0), reference).items():
        present[name] = value
    return present


def by_kind(kinds, truth, p) -> dict:
    out = {}
    for kind, y, value in zip(kinds, truth, p):
        out.setdefault(f"{kind}/{'abnormal' if y else 'normal'}", []).append(float(value))
    return {k: [len(v), float(np.mean(v))] for k, v in sorted(out.items())}


def head_threshold(result: dict) -> float:
    """Half-way between the highest generated non-head and the lowest generated head where they do not overlap, else 0."""
    low, high = np.quantile(result["head_logits"], 0.01), np.quantile(result["nonhead_logits"], 0.995)
    return float((low + high) / 2) if low > high else 0.0
