"""The model card: what the server checks a model against, and what a person should know before trusting it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from . import labels as L
from . import preprocess as P


def toml_value(v) -> str:
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (int, np.integer)):
        return str(int(v))
    if isinstance(v, (float, np.floating)):
        return "nan" if v != v else repr(round(float(v), 6))
    if isinstance(v, (list, tuple, np.ndarray)):
        return "[" + ", ".join(toml_value(x) for x in v) + "]"
    if isinstance(v, dict):
        return "{ " + ", ".join(f"{toml_key(k)} = {toml_value(x)}" for k, x in v.items()) + " }"
    return json.dumps(str(v), ensure_ascii=False)


def toml_key(k) -> str:
    """Bare where TOML allows it, else quoted: scans are named by their folders."""
    k = str(k)
    return k if k and all(c.isascii() and (c.isalnum() or c in "-_") for c in k) else json.dumps(k)


def toml(tables: dict) -> str:
    """Top-level values, then one [table] for each dictionary."""
    lines = [f"{k} = {toml_value(v)}" for k, v in tables.items() if not isinstance(v, dict)]
    for name, table in tables.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]"] + [f"{toml_key(k)} = {toml_value(v)}" for k, v in table.items()]
    return "\n".join(lines) + "\n"


def preprocessing() -> dict:
    return {
        "grid": P.GRID, "spacing_mm": P.SPACING_MM, "axes": "RAS: x to the patient's right, y anterior, z superior; z fastest",
        "coarse_mm": P.COARSE_MM, "coarse_rank": P.COARSE_RANK, "coarse_threshold": P.COARSE_THRESHOLD,
        "min_plane_voxels": P.MIN_PLANE_VOXELS, "head_depth_mm": P.HEAD_DEPTH_MM, "top_margin_mm": P.TOP_MARGIN_MM,
        "sigma_factor": P.SIGMA_FACTOR, "norm_rank_all": P.NORM_RANK_ALL, "norm_foreground": P.NORM_FOREGROUND,
        "norm_rank_foreground": P.NORM_RANK_FOREGROUND, "norm_clip": P.NORM_CLIP, "norm_min_voxels": P.NORM_MIN_VOXELS,
        "steps": " ".join(P.__doc__.split())}


def build(version: str, sha256: str, calibration: dict, head_threshold: float, run: dict, metrics: dict, failures: list[str]) -> dict:
    return {
        "name": "screening", "version": version, "file": "screening.onnx", "sha256": sha256, "opset": 17,
        "runtime": "onnxruntime >= 1.24, CPU or CUDA", "written": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "licence": "Apache-2.0", "notice": "Research use; not a medical device.",
        "gives": "coarse structures with sides at 2 mm, their soft volumes, an abnormality map, a study logit, and whether this is a head",
        "codes": L.CODES, "code_names": L.CODE_NAMES,
        "prevalence_train": calibration["prevalence_train"], "head_threshold": head_threshold,
        "calibration": {"scale": calibration["scale"], "offset": calibration["offset"],
                        "use": "calibrated logit = scale * p_logit + offset, then + logit(prev_site) - logit(prevalence_train)"},
        "input": {"image": "float32 [1, 1, 96, 112, 96]", **preprocessing()},
        "output": {"labels": "uint8 [96, 112, 96], index into codes", "volumes_mm3": f"float32 [{len(L.CODES)}], sum of probabilities times 8 mm3",
                   "abnormality": "float32 [96, 112, 96], 0..1", "p_logit": "float32 [1], uncalibrated",
                   "head_logit": "float32 [1]; below head_threshold: not analysed, not a head"},
        "training_data": {
            "label_maps": "50 of 54 whole-head label maps of 54 people, SynthSeg repository, Apache-2.0 (4 held out: see training/heldout.toml)",
            "lesion_shapes": "binary masks only: Ljubljana MS database (28, CC-BY), Stroke Outcome Optimization Project demo (250, BSD-2)",
            "images": "none: every image was generated from the above by training/firstread_training"},
        "run": run, "metrics": metrics, "known_failures": {"list": failures}}


def volumetry(version: str, sha256: str, run: dict, metrics: dict, failures: list[str]) -> dict:
    """The card of the volumetry network."""
    from . import measuring
    grid = " , ".join(map(str, measuring.BOX)).replace(" ,", ",")
    return {
        "name": "volumetry", "version": version, "file": "volumetry.onnx", "sha256": sha256, "opset": 17,
        "runtime": "onnxruntime >= 1.24, CPU or CUDA", "written": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "licence": "Apache-2.0", "notice": "Research use; not a medical device.",
        "gives": "structures with sides at 1 mm, their soft volumes and confidence, and white-matter lesions, of any contrast",
        "codes": L.VOLUMETRY_ALL, "code_names": L.VOLUMETRY_ALL_NAMES,
        "input": {"image": f"float32 [1, 1, {grid}]", "grid": measuring.BOX, "spacing_mm": 1.0,
                  "axes": "of the upright head: x to the patient's right, y anterior, z superior; z fastest",
                  "pitch_degrees": measuring.PITCH_DEGREES, "start_mm": measuring.START_MM, "plane_voxels": measuring.PLANE_VOXELS,
                  "margin_mm": measuring.MARGIN_MM, "top_mm": measuring.TOP_MM,
                  "steps": " ".join(measuring.__doc__.split())},
        "output": {"labels": f"uint8 [{grid}], index into codes", "volumes_voxels": f"float32 [{len(L.VOLUMETRY_ALL)}], sum of probabilities",
                   "confidence": f"float32 [{len(L.VOLUMETRY_ALL)}], mean probability of the voxels labelled so",
                   "lesion": f"float32 [{grid}], 0..1"},
        "training_data": {
            "label_maps": "50 of 54 whole-head label maps of 54 people, SynthSeg repository, Apache-2.0 (4 held out: see training/heldout.toml)",
            "lesion_shapes": "binary masks only: Ljubljana MS database (28, CC-BY), Stroke Outcome Optimization Project demo (250, BSD-2)",
            "images": "none: every image was generated from the above by training/firstread_training"},
        "run": run, "metrics": metrics, "known_failures": {"list": failures}}


def write(path: Path, card: dict) -> None:
    path.write_text("# Written by `python -m firstread_training export`; checked by the server at start-up.\n" + toml(card))
