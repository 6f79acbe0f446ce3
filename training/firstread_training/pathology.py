"""Painted pathology: masks and deformations, each with its truth.

A `Plan` is drawn once per pair; `displace` moves the pull-back coordinates, `paint` returns soft masks
with what to paint.  Distances are mm (map voxels are 1 mm), masks [x,y,z] at 2 mm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from . import labels as L
from . import scattered, warp
from .maps import MNI_CEREBRUM, LabelMap

KINDS = {"wm_lesions": 0.26, "stroke": 0.18, "tumour": 0.24, "haemorrhage": 0.08, "metastases": 0.06,
         "ventricles": 0.10, "atrophy": 0.04, "collection": 0.04}
# lateral + third ventricle as a share of brain and ventricles: above is called enlarged, below normal,
# between them the truth is left open (healthy old people reach about 5 %)
VENTRICLE_ABNORMAL, VENTRICLE_NORMAL = 0.068, 0.05
MIN_LESION_ML = 0.35
SCATTERED_ML = (0.3, 25.0)


@dataclass
class Plan:
    kind: str
    seed: int
    centre: np.ndarray | None = None  # map voxels
    radius: float = 0.0
    amount: float = 0.0
    direction: np.ndarray | None = None
    extra: dict = field(default_factory=dict)


@dataclass
class Layer:
    """A soft mask [x,y,z] in 0..1 to paint, with the kind of intensity it gets; `inside`: what of it is lesion, if not all above 0.5."""
    mask: torch.Tensor
    value: str
    truth: bool = True
    fold: str = "fluid"
    inside: torch.Tensor | None = None


def draw(rng: np.random.Generator, person: LabelMap, kinds=None) -> Plan:
    kinds = kinds or KINDS
    names = list(kinds)
    p = np.array([kinds[n] for n in names], float)
    plan = Plan(names[rng.choice(len(names), p=p / p.sum())], int(rng.integers(2 ** 31)))
    if plan.kind in ("tumour", "haemorrhage", "metastases", "stroke"):
        plan.centre = _point_in(rng, person, (L.WM, L.CORTEX, L.CEREBELLUM_WM, 6, 8) if rng.random() < 0.9 else (L.BRAIN_STEM, L.LATERAL))
        plan.radius = float({"tumour": rng.uniform(6, 20), "haemorrhage": rng.uniform(4, 15), "metastases": rng.uniform(3, 8),
                             "stroke": rng.uniform(6, 26)}[plan.kind])
        plan.amount = rng.uniform(0.2, 0.75) if plan.kind in ("tumour", "haemorrhage") and rng.random() < 0.8 else 0.0
    elif plan.kind == "ventricles":
        plan.amount = flow_for_share(person, rng.uniform(0.075, 0.16))
    elif plan.kind == "atrophy":
        plan.extra["where"] = str(rng.choice(["global", "hippocampus"], p=[0.6, 0.4]))
        plan.amount = -rng.uniform(10, 28) if plan.extra["where"] == "global" else -rng.uniform(45, 90)
    elif plan.kind == "collection":
        plan.amount = -rng.uniform(60, 150)
        side = rng.choice([-1.0, 1.0])
        d = np.array([side * rng.uniform(0.4, 1), rng.normal(0, 0.5), rng.uniform(0.0, 0.9)])
        plan.direction = d / np.linalg.norm(d)
        plan.radius = float(rng.uniform(25, 45))
    return plan


def flow_for_share(person: LabelMap, target: float) -> float:
    """About the `flow` amount that brings a person's ventricles to a share of the brain.

    Measured on seven maps: the share grows by 1.15 % of itself for each mm2 of flow.
    """
    base = max(person.ventricle_share, 0.008)
    return float(np.clip((target - base) / (0.0115 * base), -60, 450))


def _point_in(rng, person: LabelMap, tissues) -> np.ndarray:
    vox = person.vox
    for _ in range(2000):
        p = [int(rng.integers(0, n)) for n in vox.shape]
        if int(vox[p[0], p[1], p[2]]) & 63 in tissues:
            return np.array(p, float)
    return person.centre.copy()


def displace(plan: Plan, person: LabelMap, x: torch.Tensor) -> torch.Tensor:
    """Pull-back lattice coordinates with the pathology's deformation."""
    fields = person.fields
    if plan.kind in ("tumour", "haemorrhage") and plan.amount > 0:
        return warp.swell(x, plan.centre, plan.radius * 1.6, plan.amount)
    if plan.kind == "ventricles":
        x = warp.flow(x, warp.gradient(fields[0]), plan.amount)
    if plan.kind == "atrophy":
        if plan.extra["where"] == "global":
            x = warp.flow(x, warp.gradient(fields[1]), plan.amount)
            return warp.flow(x, warp.gradient(fields[0]), -0.9 * plan.amount)
        return warp.flow(x, warp.gradient(fields[2]), plan.amount)
    if plan.kind == "collection":
        surface = person.centre + plan.direction * np.array([60.0, 75.0, 55.0])
        c = warp.tensor(surface).float().reshape(3, 1, 1, 1)
        window = lambda at: torch.exp(-((at - c) ** 2).sum(0) / (2.0 * plan.radius ** 2))
        return warp.flow(x, warp.gradient(fields[1]), plan.amount, window, steps=6)
    return x


def soft(mask: torch.Tensor) -> torch.Tensor:
    """A binary mask with a partial-volume edge of one voxel; inside it stays above 0.75.

    A plain 3x3x3 mean washed out lesions of a few voxels until nobody could have seen them.
    """
    mean = F.avg_pool3d(mask.float()[None, None], 3, stride=1, padding=1)[0, 0]
    return torch.where(mask, 0.75 + 0.25 * mean, 0.4 * mean)


def _ball(gen, x: torch.Tensor, centre, radius: float, rough: float, cells: int = 7) -> torch.Tensor:
    """Distance from `centre` over a noisy radius: below 1 is inside; [x,y,z]."""
    c = torch.as_tensor(centre, dtype=torch.float32).reshape(3, 1, 1, 1)
    noise = warp.noise_field(gen, 1, x.shape[1:], cells)[0]
    return (x - c).square().sum(0).sqrt() / (radius * torch.exp(rough * noise))


def _quantile_mask(score: torch.Tensor, candidates: torch.Tensor, voxels: int) -> torch.Tensor:
    """The `voxels` candidates with the highest score."""
    values = score[candidates]
    voxels = min(voxels, len(values))
    if voxels < 1:
        return torch.zeros_like(candidates)
    cut = torch.topk(values, voxels).values[-1]
    return candidates & (score >= cut)


def _from_shape(shape, person: LabelMap, x: torch.Tensor, shift) -> torch.Tensor:
    """A lesion shape in MNI space brought onto the map by the cerebrum's box; [x,y,z] bool."""
    low, high = person.cerebrum
    scale = (MNI_CEREBRUM[1] - MNI_CEREBRUM[0]) / (high - low)
    out = torch.ones(x.shape[1:], dtype=torch.bool)
    index = []
    for a in range(3):
        i = (x[a] - low[a]) * float(scale[a]) + float(MNI_CEREBRUM[0][a] - shape.low[a] + shift[a])
        i = i.round().long()
        out &= (i >= 0) & (i < shape.mask.shape[a])
        index.append(i.clamp(0, shape.mask.shape[a] - 1))
    out &= shape.mask[index[0], index[1], index[2]] > 0
    return out


def white_lesions(rng, gen, person, x, tissue, shapes, ml: float, periventricular: float, voxel_mm: float = 2.0) -> torch.Tensor:
    """White-matter lesions of about `ml`: real MS shapes, or noise blobs that prefer the ventricles' edge."""
    wm = tissue == L.WM
    if shapes and rng.random() < 0.5:
        shape = shapes[int(rng.integers(len(shapes)))]
        mask = _from_shape(shape, person, x, rng.normal(0, 3, 3)) & (wm | (tissue == L.CORTEX))
        if int(mask.sum()) * voxel_mm ** 3 > 480:
            return mask
    score = warp.noise_field(gen, 1, x.shape[1:], int(rng.choice([3, 4, 6] if voxel_mm > 1 else [3, 5, 8, 12])))[0]
    near = warp.sample(person.fields[:1].float(), (x - 1.5) / 4.0)[0]
    score = score + periventricular * 6.0 * near
    return _quantile_mask(score, wm, int(ml * 1000 / voxel_mm ** 3))


def paint(plan: Plan, person: LabelMap, x: torch.Tensor, tissue: torch.Tensor, shapes, voxel_mm: float = 2.0, apart: float = 0.0) -> list[Layer]:
    """Layers for the kinds that change intensity, in the order they are painted; `apart`: share of heads whose white-matter lesions are `scattered`."""
    rng = np.random.default_rng(plan.seed)
    gen = warp.generator(plan.seed)
    ball = partial(_ball, cells=int(14 / voxel_mm))
    brain = (tissue > 0) & (tissue < L.CLASS_COUNT) & (tissue != L.CSF)
    if plan.kind == "wm_lesions" and apart > 0 and rng.random() < apart:
        inside, mask = scattered.lesions(rng, gen, tissue, float(np.exp(rng.uniform(*np.log(SCATTERED_ML)))), voxel_mm)
        return [Layer(mask, "fluid", inside=inside)]
    if plan.kind == "wm_lesions":
        ml = float(np.exp(rng.uniform(np.log(1.5 if voxel_mm > 1 else 0.3), np.log(40.0))))
        return [Layer(soft(white_lesions(rng, gen, person, x, tissue, shapes["ms"], ml, rng.uniform(0, 1.5), voxel_mm)), "fluid")]
    if plan.kind == "stroke":
        if rng.random() < 0.6:
            mask = _from_shape(shapes["stroke"][int(rng.integers(len(shapes["stroke"])))], person, x, rng.normal(0, 4, 3))
        else:
            mask = torch.zeros_like(brain)
        mask &= brain
        if int(mask.sum()) * voxel_mm ** 3 < 800:  # drawn so, or the shape fell outside this brain
            mask = (ball(gen, x, plan.centre, plan.radius, 0.35) < 1) & brain
        layers = [Layer(soft(mask), "fluid")]
        if rng.random() < 0.4:  # an old stroke: fluid-filled core in a gliotic rim
            core = F.avg_pool3d(mask.float()[None, None], 5, stride=1, padding=2)[0, 0] > rng.uniform(0.6, 0.95)
            layers.append(Layer(soft(core), "cavity"))
        return layers
    if plan.kind == "tumour":
        d = ball(gen, x, plan.centre, plan.radius, 0.25)
        layers = []
        if rng.random() < 0.75:  # oedema spreads in white matter
            reach = rng.uniform(1.2, 2.4)
            layers.append(Layer(soft((ball(gen, x, plan.centre, plan.radius * reach, 0.35) < 1) & (tissue == L.WM)), "fluid"))
        layers.append(Layer(soft((d < 1) & (brain | (tissue == L.CSF))), str(rng.choice(["enhancing", "fluid", "blood", "fluid"])), fold="core"))
        if rng.random() < 0.5:
            layers.append(Layer(soft((d < rng.uniform(0.4, 0.8)) & brain), str(rng.choice(["cavity", "fluid", "blood"])), fold="core"))
        return layers
    if plan.kind == "haemorrhage":
        d = ball(gen, x, plan.centre, plan.radius, 0.3)
        layers = [Layer(soft((ball(gen, x, plan.centre, plan.radius * 1.5, 0.3) < 1) & (tissue == L.WM)), "fluid")] if rng.random() < 0.5 else []
        return layers + [Layer(soft((d < 1) & (brain | (tissue == L.CSF))), "blood", fold="core")]
    if plan.kind == "metastases":
        layers = []
        for _ in range(int(rng.integers(2, 6))):
            p = _point_in(rng, person, (L.WM, L.CORTEX, L.CEREBELLUM_WM))
            r = plan.radius * rng.uniform(0.7, 1.5)
            if rng.random() < 0.6:
                layers.append(Layer(soft((ball(gen, x, p, r * 2.0, 0.3) < 1) & (tissue == L.WM)), "fluid"))
            layers.append(Layer(soft((ball(gen, x, p, r, 0.15) < 1) & brain), str(rng.choice(["enhancing", "blood", "fluid"]))))
        return layers
    return []
