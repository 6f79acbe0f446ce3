"""One small volume with what every step of preprocessing and the network made of it.

The volume is a generated head written in an awkward orientation (axes permuted and reversed, rotated a
few degrees, uneven spacing), so that a port of `preprocess.py` cannot pass by luck.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from . import export, labels as L, measuring, nifti, preprocess, warp

PROBES = 24
BLOCK = np.array([[-60.0, -80.0, -50.0], [60.0, 70.0, 70.0]])[..., None]  # upright mm


def awkward(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A 2 mm picture [x,y,z] (RAS) -> uint8 voxels stored anterior-to-posterior, inferior-to-superior, right-to-left."""
    v = np.clip(image * 200 / max(float(image.max()), 1e-6), 0, 255).astype(np.uint8)
    v = np.ascontiguousarray(np.transpose(v[::-1, ::-1, :], (1, 2, 0)))
    r = warp.rotation((4.0, -3.0, 5.0))
    spacing = np.array([1.9, 2.1, 1.6])  # along the stored axes: y reversed, z, x reversed
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = -r[:, 1] * spacing[0], r[:, 2] * spacing[1], -r[:, 0] * spacing[2]
    affine[:3, 3] = np.array([12.5, -7.25, 31.0]) - affine[:3, :3] @ ((np.array(v.shape) - 1) / 2)
    return v, affine


def write(folder: Path, image: np.ndarray | None, model: Path) -> dict:
    """Writes the volume (when `image` is given) and the expected values; reads the volume back as a port would."""
    folder.mkdir(parents=True, exist_ok=True)
    if image is not None:
        nifti.write(folder / "golden_head.nii.gz", *awkward(image))
    volume, affine = nifti.read(folder / "golden_head.nii.gz")
    grid, origin = preprocess.prepare(volume, affine)
    run = export.session(model)
    labels, volumes, abnormality, p_logit, head_logit = run.run(list(export.NAMES), {"image": grid[None, None]})
    rng = np.random.default_rng(5)
    inside = np.argwhere(grid > 0.2)
    probes = [[int(x) for x in inside[i]] for i in rng.choice(len(inside), PROBES, replace=False)]
    at = lambda a: [round(float(a[tuple(p)]), 6) for p in probes]
    expected = {
        "input": "golden_head.nii.gz", "origin_mm": [round(float(x), 6) for x in origin], "grid": list(grid.shape),
        "spacing_mm": preprocess.SPACING_MM, "mean": round(float(grid.mean()), 7), "max": round(float(grid.max()), 6),
        "zeros": int((grid == 0).sum()), "probes": probes, "image": at(grid), "labels": [int(labels[tuple(p)]) for p in probes],
        "abnormality": at(abnormality), "codes": list(L.CODES), "volumes_mm3": [round(float(x), 3) for x in volumes],
        "p_logit": round(float(p_logit[0]), 6), "head_logit": round(float(head_logit[0]), 6),
        "tolerance": {"origin_mm": 1e-3, "image": 2e-3, "volumes_relative": 0.01, "logit": 0.02}}
    (folder / "golden_screening.json").write_text(json.dumps(expected, indent=1) + "\n")
    return expected


def seen(upright: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Screening labels of a head that lies so (RAS mm to upright mm, [4,4]), and their origin: a ball of 6 mm at each structure in a block of CSF."""
    middles = measuring.upright_middles()
    back = np.linalg.inv(upright)
    origin = back[:3, :3] @ [0.0, -4.0, 0.0] + back[:3, 3] - (np.array(preprocess.GRID) - 1.0)
    mm = np.indices(preprocess.GRID).reshape(3, -1) * 2.0 + origin[:, None]
    place = upright[:3, :3] @ mm + upright[:3, 3:]
    far = np.stack([((place - middle[:, None]) ** 2).sum(0) for _, middle in middles])
    index = np.array([L.CODES.index(code) for code, _ in middles])
    block = ((place >= BLOCK[0]) & (place <= BLOCK[1])).all(0) * L.CODES.index(24)
    return np.where(far.min(0) < 36.0, index[far.argmin(0)], block).reshape(preprocess.GRID).astype(np.uint8), origin


def write_measuring(folder: Path) -> dict:
    """The box of the kept volume, and of the same at half its size, with labels that lie turned in it; `golden_measuring.json`."""
    volume, affine = nifti.read(folder / "golden_head.nii.gz")
    volume, cases = np.asarray(volume, np.float32), []
    for number, (scale, degrees) in enumerate(((1.0, (17.0, -6.0, 4.0)), (0.5, (-8.0, 5.0, -11.0)))):
        m = affine.copy()
        m[:3] *= scale
        upright = np.eye(4)
        upright[:3, :3] = warp.rotation(degrees)
        middle = m[:3, :3] @ ((np.array(volume.shape) - 1) / 2) + m[:3, 3]
        upright[:3, 3] = np.array([1.0, -6.0, 3.0]) - upright[:3, :3] @ middle
        upright = np.round(upright, 9)
        labels, origin = seen(upright)
        image, box = measuring.prepare(volume, m, labels, origin)
        rng = np.random.default_rng(11 + number)
        inside = np.argwhere(image > 0.2)
        probes = [[int(x) for x in inside[i]] for i in rng.choice(len(inside), PROBES, replace=False)]
        x, y, z = np.indices(measuring.BOX)
        back = box.to_input((x // 7 + y // 5 + z // 3).astype(np.uint8))
        there = np.argwhere(back > 0)
        spots = [[int(x) for x in there[i]] for i in rng.choice(len(there), PROBES, replace=False)]
        cases.append({
            "scale": scale, "upright": [[round(float(v), 9) for v in row] for row in upright[:3]],
            "affine": [[round(float(v), 6) for v in row] for row in box.affine[:3]], "probes": probes,
            "image": [round(float(image[tuple(p)]), 6) for p in probes], "mean": round(float(image.mean(dtype=np.float64)), 7),
            "label_sum": int(back.sum(dtype=np.int64)), "label_probes": spots, "labels": [int(back[tuple(p)]) for p in spots]})
    expected = {"input": "golden_head.nii.gz", "middles": [[code, [float(v) for v in place]] for code, place in measuring.upright_middles()], "cases": cases}
    (folder / "golden_measuring.json").write_text(json.dumps(expected, indent=1) + "\n")
    return expected
