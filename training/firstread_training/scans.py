"""The real scans of the data folder, for measuring only: never for training.

DICOM series are read plainly (classic or enhanced multi-frame, uncompressed) because the Rust server has
its own, better reader; here they only need to reach the network.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import nifti


@dataclass
class Scan:
    name: str
    group: str  # healthy_ixi, manual, heads, glioma, ms_flair, young_healthy, phantom
    truth: str  # healthy, abnormal, unknown, nonhead
    path: Path
    reference: Path | None = None
    scheme: str = ""

    def load(self):
        return series_volume(self.path) if self.path.is_dir() else nifti.read(self.path)


def _dicom(data: Path, cache: Path, name: str) -> Path:
    folder = cache / "dicom" / name
    if not folder.exists():
        folder.mkdir(parents=True)
        with tarfile.open(data / "dicom" / f"{name}.tar.xz") as tar:
            tar.extractall(folder)
    return folder


def series_folders(folder: Path) -> dict[str, list[Path]]:
    """Series description -> files with pixels, of every DICOM file below a folder."""
    import pydicom
    out: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            d = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # not DICOM
            continue
        if "Rows" in d:
            out.setdefault(f"{d.get('SeriesDescription', '')}/{d.SeriesInstanceUID}", []).append(path)
    return out


def series_volume(files) -> tuple[np.ndarray, np.ndarray]:
    """A classic single-frame series as voxels [column, row, slice] and affine to RAS mm."""
    import pydicom
    slices = [pydicom.dcmread(p) for p in files]
    row, col = np.array(slices[0].ImageOrientationPatient[:3], float), np.array(slices[0].ImageOrientationPatient[3:], float)
    normal = np.cross(row, col)
    slices.sort(key=lambda s: float(np.dot(normal, np.array(s.ImagePositionPatient, float))))
    first, last = (np.array(slices[i].ImagePositionPatient, float) for i in (0, -1))
    v = np.stack([s.pixel_array.astype(np.float32) * float(s.get("RescaleSlope", 1)) + float(s.get("RescaleIntercept", 0)) for s in slices], -1)
    spacing = [float(x) for x in slices[0].PixelSpacing]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * spacing[1], col * spacing[0]
    affine[:3, 2] = (last - first) / max(1, len(slices) - 1)
    affine[:3, 3] = first
    return np.transpose(v, (1, 0, 2)), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


@dataclass
class Series(Scan):
    files: list | None = None

    def load(self):
        return series_volume(self.files)


def validation(data: Path, cache: Path, dicom: bool = True) -> list[Scan]:
    out = []
    for d in sorted((data / "heads_freesurfer").glob("sub-*")):
        out.append(Scan(d.name, "heads", "unknown", d / "t1.nii.gz", d / "aseg.nii.gz", "aseg"))
    for p in sorted((data / "manual_miccai2012").glob("*_t1.nii.gz")):
        out.append(Scan(p.name[:4], "manual", "healthy", p, p.with_name(p.name.replace("_t1", "_labels")), "nmm"))
    for p in sorted((data / "healthy_ixi_2mm").glob("*_t1.nii.gz")):
        out.append(Scan(p.name[:6], "healthy_ixi", "healthy", p))
    for p in sorted((data / "glioma").glob("*/*.nii.gz")):
        if "classes" not in p.name:
            out.append(Scan(f"{p.parent.name}/{p.name.split('.')[0]}", "glioma", "abnormal", p))
    for p in sorted((data / "ms_flair").glob("*/*.nii.gz")):
        if "lesions" not in p.name:
            out.append(Scan(f"{p.parent.name}/{p.name.split('.')[0]}", "ms_flair", "abnormal", p))
    if dicom:
        for name, group, truth in (("t1_flair_study", "young_healthy", "healthy"), ("phantom_brain_tags", "phantom", "nonhead"),
                                   ("decubitus_hfs", "decubitus", "unknown")):
            for series, files in series_folders(_dicom(data, cache, name)).items():
                out.append(Series(series.split("/")[0], group, truth, files[0], files=files))
    return out
