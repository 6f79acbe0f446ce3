"""Measures the exported volumetry network on real scans, through the same steps as the server: box, network, labels back.

Real scans are only measured.  Dice by the 16 structures on the scan's own grid, volumes against the
reference, and the lesion map of FLAIRs against their raters.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import evaluate, export, labels as L, measuring, metrics, nifti, preprocess, scans


class Measurer:
    """Screening (to place the box) and volumetry sessions."""

    def __init__(self, models: Path, threads: int = 2):
        self.screening = export.session(models / "screening.onnx", threads)
        self.volumetry = export.session(models / "volumetry.onnx", threads)

    def __call__(self, volume, affine) -> dict:
        """Codes on the input's grid, the lesion probability there, soft volumes in mm3 by code."""
        image, origin = preprocess.prepare(volume, affine)
        coarse = self.screening.run(["labels"], {"image": image[None, None]})[0]
        image, box = measuring.prepare(volume, affine, coarse, origin)
        labels, volumes, confidence, lesion = self.volumetry.run(list(export.VOLUMETRY_NAMES), {"image": image[None, None]})
        codes = np.array(L.VOLUMETRY_ALL)
        return {"codes": box.to_input(codes[labels]), "lesion": box.to_input(lesion), "box": box, "box_labels": labels, "image": image,
                "volumes": dict(zip(L.VOLUMETRY_ALL, volumes * box.voxel_mm3)), "confidence": dict(zip(L.VOLUMETRY_ALL, confidence))}


def folded(codes: np.ndarray) -> np.ndarray:
    """Inferior horns to their ventricles and CSF to background, as every Dice table wants it."""
    out = np.where(codes == 5, 4, np.where(codes == 44, 43, codes))
    return np.where(out == 24, 0, out)


def structures(models: Path, data: Path, cache: Path, threads: int = 2, groups=("heads", "manual")) -> dict:
    """Dice tables, and reference and measured volumes, of the scans that have a reference."""
    measure = Measurer(models, threads)
    out = {g: {} for g in groups}
    volumes = {g: [] for g in groups}
    for scan in scans.validation(data, cache, dicom=False):
        if scan.group not in groups:
            continue
        volume, affine = scan.load()
        result = measure(volume, affine)
        reference, _ = evaluate.nifti_codes(scan)
        for name, value in metrics.dice_16(folded(result["codes"]), reference).items():
            out[scan.group].setdefault(name, []).append(value)
        mm3 = float(np.abs(np.linalg.det(affine[:3, :3])))
        soft = dict(result["volumes"])
        soft[4], soft[43] = soft[4] + soft[5], soft[43] + soft[44]
        for code in sorted(set(L.CODES) - {0, 24}):
            volumes[scan.group].append((scan.name, code, float((reference == code).sum()) * mm3, float(soft[code])))
        print(scan.group, scan.name, {k: round(v[-1], 3) for k, v in out[scan.group].items()}, flush=True)
    return {"dice": out, "mean": {g: evaluate.mean_dice(t) for g, t in out.items()}, "volumes": volumes}


def raters_on(grid, affine, path: Path) -> np.ndarray:
    """A rater's mask on another grid of the same patient space: nearest voxel."""
    mask, m = nifti.read(path)
    index = np.indices(grid.shape).reshape(3, -1)
    at = np.linalg.inv(m) @ affine
    q = np.rint(at[:3, :3] @ index + at[:3, 3:]).astype(int)
    ok = np.all((q >= 0) & (q < np.array(mask.shape)[:, None]), 0)
    out = np.zeros(index.shape[1], bool)
    out[ok] = mask[tuple(q[:, ok])] > 0
    return out.reshape(grid.shape)


def lesion_rows(models: Path, data: Path, threads: int = 2) -> list[dict]:
    """Each MS scan's lesion Dice against each rater, and the raters' own agreement."""
    measure, out = Measurer(models, threads), []
    for folder in sorted((data / "ms_flair").iterdir()):
        volume, affine = nifti.read(folder / "flair.nii.gz")
        found = measure(volume, affine)["lesion"] > 0.5
        raters = [raters_on(volume, affine, path) for path in sorted(folder.glob("lesions_*"))]
        out.append({"scan": folder.name, "dice": [metrics.dice(found, r) for r in raters],
                    "raters": metrics.dice(raters[0], raters[1]) if len(raters) > 1 else None})
    return out


def table(models: Path, data: Path, cache: Path, threads: int = 2) -> dict:
    """What the card says of real scans."""
    r = structures(models, data, cache, threads)
    pairs = [v for v in r["volumes"]["heads"] if v[2] > 0]
    hippocampus = [abs(v[3] / v[2] - 1) for v in pairs if v[1] in (17, 53)]
    out = {f"dice_{g}": r["mean"][g] for g in r["mean"]}
    out |= {f"dice_{g}_structures": {k: float(np.nanmean(v)) for k, v in t.items()} for g, t in r["dice"].items()}
    out["volume_r_heads"] = float(np.corrcoef([v[2] for v in pairs], [v[3] for v in pairs])[0, 1])
    out["hippocampus_error_heads"] = float(np.mean(hippocampus))
    retest = {}
    for name, code, _, soft in r["volumes"]["manual"]:
        if name in ("1003", "1023"):
            retest.setdefault(code, []).append(soft)
    out["retest_percent"] = float(100 * np.mean([abs(a - b) / ((a + b) / 2) for a, b in retest.values()]))
    return {**out, "lesions": lesion_rows(models, data, threads)}
