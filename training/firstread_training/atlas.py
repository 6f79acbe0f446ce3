"""Where structures lie in people: built once from the training people's label maps, kept in `atlas.npz`.

Every map is brought onto the others by the affine that fits the middles of its structures best (residuals of
1.2 to 2.5 mm for all but fluid), mirrored, and counted on a lattice of 4 mm.  The held-out people are not in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import config as config_module, labels as L, maps

PATH = config_module.TRAINING_FOLDER / "atlas.npz"
CLASSES = len(L.VOLUMETRY_CODES)
SIDED = (*L.SIDED, True)
NOT_FITTED = (0, L.CSF, L.HORN_CLASS)  # too ragged to have a middle that means something
DEEP = (6, 7, 8, 13, 14, 16)  # classes whose place is kept; pallidum (too small for 4 mm), brain-stem and ventral diencephalon lost by it
STEP_MM = 4.0
LOW = np.array([-84.0, -104.0, -84.0])  # mm from the middle of all middles, of the lattice's first point
SIZE = (43, 53, 43)
ROUNDS = 10
SMOOTH = 0.75  # lattice steps
LEAST_VOXELS = 20


def middles(vox: np.ndarray) -> np.ndarray:
    """Centres [classes, 2 sides, 3] in voxels of a prepared map; NaN where a class has no such side."""
    tissue, right = classes_of(vox), (vox & L.SIDE_BIT) > 0
    out = np.full((CLASSES, 2, 3), np.nan)
    for k in range(1, CLASSES):
        for side in (0, 1) if SIDED[k] else (0,):
            points = np.argwhere((tissue == k) & (right == bool(side)) if SIDED[k] else tissue == k)
            if len(points) > LEAST_VOXELS:
                out[k, side] = points.mean(0)
    return out


def classes_of(vox: np.ndarray) -> np.ndarray:
    tissue = vox & 63
    tissue = np.where(tissue < L.CLASS_COUNT, tissue, 0)
    return np.where((tissue == L.LATERAL) & ((vox & L.HORN_BIT) > 0), L.HORN_CLASS, tissue).astype(np.uint8)


def affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares [4,3] with target = [source, 1] @ affine, over the middles both have."""
    both = ~np.isnan(source[..., 0]) & ~np.isnan(target[..., 0])
    both[list(NOT_FITTED)] = False
    x = np.concatenate([source[both], np.ones((both.sum(), 1))], 1)
    return np.linalg.lstsq(x, target[both], rcond=None)[0]


def moved(points, a):
    return points @ a[:3] + a[3]


def template(people: list[np.ndarray]) -> np.ndarray:
    """Mean middles, mirror-symmetric about x = 0, of the people's mean size, in mm."""
    mean = people[0] - np.nanmean(people[0], (0, 1))
    for _ in range(ROUNDS):
        all_ = np.array([moved(p, affine(p, mean)) for p in people])
        have = ~np.isnan(all_).all(0)
        mean = np.where(have, np.nanmean(np.where(have, all_, 0.0), 0), np.nan)
        for k in range(1, CLASSES):
            if SIDED[k]:
                half = (mean[k, 0] + mean[k, 1] * [-1, 1, 1]) / 2
                mean[k] = half, half * [-1, 1, 1]
            else:
                mean[k, 0, 0] = 0.0
        mean *= np.mean([np.linalg.det(affine(p, mean)[:3]) for p in people]) ** (-1 / 3)
        mean -= [0.0, np.nanmean(mean[..., 1]), np.nanmean(mean[..., 2])]
    return mean


def build(cache: Path, data: Path, names: list[str], path: Path = PATH) -> dict:
    """Writes `path`: `middles` [classes,2,3] mm and `deep` uint8 [len(DEEP), *SIZE], 255 for certainty."""
    from scipy import ndimage
    maps.prepare_all(cache, names, data)
    voxels = [np.load(maps.prepared(cache, n))["vox"] for n in names]
    people = [middles(v) for v in voxels]
    mean = template(people)
    lattice = np.stack(np.meshgrid(*[LOW[a] + STEP_MM * np.arange(SIZE[a]) for a in range(3)], indexing="ij"), -1)
    counted, looks = np.zeros((len(DEEP), *SIZE)), 0
    offsets = [np.array([x, y, z]) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]
    for vox, person in zip(voxels, people):
        tissue, back = classes_of(vox), affine(mean, person)
        for offset in offsets:
            at = np.rint(moved(lattice + offset, back)).astype(int)
            inside = ((at >= 0) & (at < vox.shape)).all(-1)
            at = np.clip(at, 0, np.array(vox.shape) - 1)
            found = np.where(inside, tissue[at[..., 0], at[..., 1], at[..., 2]], 0)
            counted += np.stack([found == k for k in DEEP])
            looks += 1
    share = counted / looks
    share = (share + share[:, ::-1]) / 2
    share = np.stack([ndimage.gaussian_filter(s, SMOOTH) for s in share])
    np.savez_compressed(path, middles=mean.astype(np.float32), deep=np.rint(255 * share).astype(np.uint8))
    left = np.array([moved(p, affine(p, mean)) - mean for p in people])
    return {"people": len(people), "residual_mm": {L.VOLUMETRY_NAMES[k]: float(np.sqrt(np.nanmean((left[:, k] ** 2).sum(-1)))) for k in range(1, CLASSES)}}
