"""Label maps and lesion shapes, prepared once into a cache folder and loaded by the generator.

Source: `labelmaps.tar.xz` and `lesion_shapes/` of the data folder (its README names origins and
licences).  Nothing else may go into the weights.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from . import labels, nifti

FIELD_MM = 4  # voxel size of the smooth fields that drive enlargement and atrophy
PREPARED_VERSION = 3  # raise when what `prepare` writes changes
# the cerebrum's bounding box in MNI space, mm (x, y, z low to high), to bring lesion shapes onto a map
MNI_CEREBRUM = np.array([[-69.0, -105.0, -45.0], [69.0, 71.0, 79.0]])


def data_folder() -> Path:
    """The data folder: `FIRSTREAD_TEST_DATA`, else ../shared/data beside the checkout."""
    env = os.environ.get("FIRSTREAD_TEST_DATA")
    return Path(env) if env else Path(__file__).resolve().parents[3] / "shared" / "data"


def unpack(data: Path, cache: Path) -> Path:
    """Unpacks the label maps into `cache`/maps unless they are there; returns that folder."""
    folder = cache / "maps"
    if not any(folder.glob("*.nii")):
        part = _own(folder)
        part.mkdir(parents=True, exist_ok=True)
        with tarfile.open(data / "labelmaps.tar.xz") as tar:
            for member in tar.getmembers():
                if member.isfile() and member.name.endswith(".nii"):
                    member.name = Path(member.name).name
                    tar.extract(member, part)
        try:
            part.rename(folder)
        except OSError:  # another process was first
            if not any(folder.glob("*.nii")):
                raise
            shutil.rmtree(part)
    return folder


def _own(target: Path) -> Path:
    """Where this process makes a file or folder of the cache before it gives it its name: several may make it at once."""
    return target.with_name(f".{os.getpid()}.{target.name}")


def midplane(vox: np.ndarray) -> np.ndarray:
    """Coefficients (a, b, c) of the mid-sagittal plane x = a + b*y + c*z of merged tissues, voxels.

    Each small paired structure is split at its own middle (two modes in x), and the plane that best
    separates left from right is found by least squares on -1/+1; sides of big structures follow it.
    """
    points, sides = [], []
    for tissue in (6, 7, 8, 9, 13, 14, 16):
        p = np.argwhere(vox == tissue).astype(np.float64)
        if len(p) < 50:
            continue
        cut = p[:, 0].mean()
        for _ in range(5):
            cut = 0.5 * (p[p[:, 0] < cut, 0].mean() + p[p[:, 0] >= cut, 0].mean())
        s = np.where(p[:, 0] < cut, -1.0, 1.0)
        # equal weight for both sides and all structures
        take = np.random.default_rng(0).choice(len(p), min(2000, len(p)), replace=False)
        points.append(p[take])
        sides.append(s[take])
    p, s = np.concatenate(points), np.concatenate(sides)
    design = np.column_stack([np.ones(len(p)), p])
    w = np.linalg.lstsq(design, s, rcond=None)[0]
    return np.array([-w[0] / w[1], -w[2] / w[1], -w[3] / w[1]])


def to_tissue(code: np.ndarray) -> np.ndarray:
    """Source codes [x,y,z] -> bytes `tissue | SIDE_BIT | HORN_BIT` [x,y,z] (RAS order, so higher x is right)."""
    vox = labels.tissue_table()[code]
    sided_source = np.isin(code, labels.RIGHT_SOURCE)
    a, b, c = midplane(vox)
    x, y, z = np.ogrid[:code.shape[0], :code.shape[1], :code.shape[2]]
    right = x > a + b * y + c * z
    if sided_source.any():  # the map knows its sides: they win over the plane
        right = np.where(sided_source, True, right)
        right = np.where(np.isin(code, labels.LEFT_SOURCE), False, right)
    horn = np.where(np.isin(code, labels.HORN_SOURCE), labels.HORN_BIT, 0)
    return (vox | np.where(right, labels.SIDE_BIT, 0) | horn).astype(np.uint8)


def blur(mask: torch.Tensor, sigma_vox: float) -> torch.Tensor:
    """Gaussian blur of [x,y,z] float with zero padding, separable, radius 3 sigma."""
    r = int(np.ceil(3 * sigma_vox))
    k = torch.exp(-0.5 * (torch.arange(-r, r + 1) / sigma_vox) ** 2)
    k = k / k.sum()
    v = mask[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        pad = [0, 0, 0]
        pad[axis] = r
        v = F.conv3d(v, k.reshape(shape), padding=pad)
    return v[0, 0]


def smooth_fields(vox: np.ndarray) -> np.ndarray:
    """Blurred masks [3,x,y,z] at FIELD_MM: ventricles, brain without ventricles, hippocampus+amygdala."""
    tissue = torch.from_numpy(vox & 63)
    masks = (
        (tissue == labels.LATERAL) | (tissue == labels.THIRD),
        (tissue > 0) & (tissue < labels.CLASS_COUNT) & (tissue != labels.CSF) & (tissue != labels.LATERAL) & (tissue != labels.THIRD),
        (tissue == labels.HIPPOCAMPUS) | (tissue == labels.AMYGDALA))
    out = []
    for mask, sigma_mm in zip(masks, (5.0, 5.0, 4.0)):
        low = F.avg_pool3d(mask.float()[None, None], FIELD_MM, ceil_mode=True, count_include_pad=True)[0, 0]
        out.append(blur(low, sigma_mm / FIELD_MM))
    return torch.stack(out).half().numpy()


@dataclass
class LabelMap:
    """One prepared person: `vox` [x,y,z] bytes at 1 mm, `fields` [3,x/4,..], brain centre and boxes in voxels."""
    name: str
    vox: torch.Tensor
    fields: torch.Tensor
    centre: np.ndarray
    cerebrum: np.ndarray  # [2,3] low and high corner
    brain_voxels: int
    ventricle_share: float  # lateral and third ventricle over brain and ventricles


def prepare(source: Path, target: Path) -> None:
    code, affine = nifti.read(source)
    if not np.allclose(np.abs(np.diag(affine)[:3]), 1, atol=0.01) or (np.diag(affine)[:3] < 0).any():
        raise ValueError(f"{source}: expected a 1 mm RAS map")
    vox = to_tissue(np.asarray(code).astype(np.int64))
    tissue = vox & 63
    brain = np.argwhere((tissue > 0) & (tissue < labels.CLASS_COUNT) & (tissue != labels.CSF))
    cerebrum = np.argwhere((tissue == labels.WM) | (tissue == labels.CORTEX))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _own(target)
    np.savez(part, vox=vox, fields=smooth_fields(vox), centre=(brain.min(0) + brain.max(0)) / 2.0,
             cerebrum=np.stack([np.percentile(cerebrum, 0.05, axis=0), np.percentile(cerebrum, 99.95, axis=0)]),
             brain_voxels=len(brain))
    part.rename(target)


def load_maps(cache: Path, names, data: Path | None = None) -> list[LabelMap]:
    """The named maps, prepared on first use under `cache`/prepared; their tensors are where `warp.tensor` puts them."""
    from . import warp
    prepare_all(cache, names, data)
    out = []
    for name in names:
        with np.load(prepared(cache, name)) as z:
            out.append(LabelMap(name, warp.tensor(z["vox"]), warp.tensor(z["fields"]),
                                z["centre"], z["cerebrum"], int(z["brain_voxels"]), ventricle_share(z["vox"])))
    return out


def prepared(cache: Path, name: str) -> Path:
    return cache / f"prepared-v{PREPARED_VERSION}" / f"{name}.npz"


def prepare_all(cache: Path, names, data: Path | None = None, processes: int = 1) -> None:
    """Prepares the named maps that are not there yet."""
    source = unpack(data or data_folder(), cache)
    missing = [(source / f"{name}.nii", prepared(cache, name)) for name in names if not prepared(cache, name).exists()]
    if processes > 1 and missing:
        with torch.multiprocessing.get_context("spawn").Pool(processes) as pool:
            pool.starmap(prepare, missing, chunksize=1)
    else:
        for one in missing:
            prepare(*one)


def ventricle_share(vox: np.ndarray) -> float:
    n = np.bincount((vox & 63).ravel(), minlength=64)
    return float((n[labels.LATERAL] + n[labels.THIRD]) / (n[1:labels.CLASS_COUNT].sum() - n[labels.CSF]))


def all_names() -> list[str]:
    return [f"a_lr_{i:02d}" for i in range(1, 21)] + [f"b_merged_{i:02d}" for i in range(1, 35)]


@dataclass
class Shape:
    """A binary lesion mask [x,y,z] cropped to its box, 1 mm; `low` is the first voxel's MNI mm; x grows to the right."""
    name: str
    mask: torch.Tensor
    low: np.ndarray


def load_shapes(cache: Path, data: Path | None = None) -> dict[str, list[Shape]]:
    """Lesion shapes by kind, `ms` and `stroke`, packed into one cached file."""
    from . import warp
    target = cache / "shapes-v1.npz"
    if not target.exists():
        packed = {}
        for kind, folder in (("ms", "ms_mni"), ("stroke", "stroke_mni")):
            for path in sorted(((data or data_folder()) / "lesion_shapes" / folder).glob("*.nii.gz")):
                mask, affine = nifti.read(path)
                mask = mask[::-1] if affine[0, 0] < 0 else mask
                x0 = affine[0, 3] + (affine[0, 0] * (mask.shape[0] - 1) if affine[0, 0] < 0 else 0)
                points = np.argwhere(mask > 0)
                if len(points) == 0:
                    continue
                lo, hi = points.min(0), points.max(0) + 1
                packed[f"{kind}/{path.name.split('.')[0]}/mask"] = mask[lo[0]:hi[0], lo[1]:hi[1], lo[2]:hi[2]] > 0
                packed[f"{kind}/{path.name.split('.')[0]}/low"] = lo + np.array([x0, affine[1, 3], affine[2, 3]])
        cache.mkdir(parents=True, exist_ok=True)
        part = _own(target)
        np.savez_compressed(part, **packed)
        part.rename(target)
    out: dict[str, list[Shape]] = {"ms": [], "stroke": []}
    with np.load(target) as z:
        for key in z.files:
            if key.endswith("/mask"):
                kind, name, _ = key.split("/")
                out[kind].append(Shape(name, warp.tensor(z[key].astype(np.uint8)), z[key[:-4] + "low"]))
    return out
