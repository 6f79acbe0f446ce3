"""Cases from label maps: one call, one image with its labels, lesion mask and truth.

Case `index` is a pure function of (config, seed, index).  Cases come in pairs: 2n has the pathology,
2n + 1 is the same person and deformation without it; with `same_style` they share contrast and artefacts too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from . import acquisition, appearance, nonhead, pathology, warp
from . import labels as L
from .maps import LabelMap
from .preprocess import normalise

IGNORE = 255
# quarter-voxel tetrahedron: four samples of the 1 mm map average to a 2 mm voxel's partial volume
TETRAHEDRON_MM = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.5


@dataclass
class GeneratorConfig:
    """Shares and ranges of the generator; everything a run may want to change."""
    shape: tuple = (80, 96, 80)
    big_shape: tuple = (80, 96, 80)
    big_every: int = 0  # every so many pairs at `big_shape`: small fields are cheap, large ones show scalp, neck and air
    contrasts: dict = field(default_factory=lambda: {"t1": 0.57, "flair": 0.18, "t2": 0.07, "pd": 0.02, "random": 0.16})
    kinds: dict = field(default_factory=lambda: dict(pathology.KINDS))
    nonhead: float = 0.07
    same_style: float = 0.85
    stripped: float = 0.3
    defaced: float = 0.15
    cropped: float = 0.25
    ghosted: float = 0.12
    centre_sd_mm: tuple = (7.0, 9.0, 12.0)
    clean: bool = False  # a good scan: no thick slices, weak noise and bias (the demo's samples)


@dataclass
class Case:
    """One generated case; image float32 [x,y,z] normalised, labels in classes (IGNORE = not scored)."""
    image: np.ndarray
    classes: np.ndarray  # uint8
    side: np.ndarray  # uint8: 0 left, 1 right, IGNORE where the class has no side
    lesion: np.ndarray  # uint8: 0, 1, or IGNORE
    abnormal: int  # 1, 0, or -1: open
    head: int
    kind: str
    contrast: str
    person: str


@dataclass
class Scene:
    """What a pair shares: person, coordinates, and the plan."""
    person: LabelMap
    flip: bool
    shape: tuple
    healthy: torch.Tensor  # lattice coordinates [3,a,b,c]
    plan: pathology.Plan
    seed: int


class Generator:
    def __init__(self, people, shapes, config: GeneratorConfig, seed: int):
        self.people, self.shapes, self.config, self.seed = people, shapes, config, seed

    def __call__(self, index: int) -> Case:
        pair, member = divmod(index, 2)
        rng = np.random.default_rng([self.seed, pair])
        if rng.random() < self.config.nonhead:
            return self._nonhead(np.random.default_rng([self.seed, pair, member]), self.shape_of(pair))
        scene = self._scene(rng, self.shape_of(pair))
        style_seed = [self.seed, pair, 7 if rng.random() < self.config.same_style else 8 + member]
        return self._render(scene, member == 0, style_seed)

    def paired(self, index: int) -> tuple[Case, Case]:
        """Pathology on and off: same person, deformation, contrast and seeds (never a non-head)."""
        rng = np.random.default_rng([self.seed, index])
        rng.random()
        scene = self._scene(rng, tuple(self.config.shape))
        return tuple(self._render(scene, on, [self.seed, index, 7]) for on in (True, False))

    def shape_of(self, pair: int) -> tuple:
        c = self.config
        return tuple(c.big_shape if c.big_every and pair % c.big_every == 0 else c.shape)

    def nonhead(self, seed) -> Case:
        """A thing that is no head, of its own seed."""
        return self._nonhead(np.random.default_rng(seed), tuple(self.config.shape))

    def _scene(self, rng, shape) -> Scene:
        c = self.config
        person = self.people[int(rng.integers(len(self.people)))]
        flip = bool(rng.random() < 0.5)
        matrix = warp.affine(rng, flip)
        x = warp.lattice(shape, matrix, person.centre + rng.normal(0, c.centre_sd_mm))
        seed = int(rng.integers(2 ** 31))
        gen = torch.Generator().manual_seed(seed)
        x = x + warp.diffeomorphic(gen, rng, x.shape[1:])
        # healthy people differ in the size of their ventricles and their sulci more than in anything else
        share = min(person.ventricle_share * float(np.exp(rng.normal(0.15, 0.4))), max(pathology.VENTRICLE_NORMAL - 0.004, 0.9 * person.ventricle_share))
        x = warp.flow(x, warp.gradient(person.fields[0]), pathology.flow_for_share(person, share), steps=3)
        x = warp.flow(x, warp.gradient(person.fields[1]), rng.normal(-2, 5), steps=1)
        return Scene(person, flip, shape, x, pathology.draw(rng, person, c.kinds), seed)

    def _render(self, scene: Scene, on: bool, style_seed) -> Case:
        rng = np.random.default_rng(style_seed)
        gen = torch.Generator().manual_seed(int(rng.integers(2 ** 31)))
        c, person, plan = self.config, scene.person, scene.plan
        fine = warp.refine(scene.healthy, scene.shape)
        labels = _lookup(person.vox, fine)
        base_share = _ventricle_share(labels & 63)
        layers, changed, sub = [], None, None
        if on:
            moved = pathology.displace(plan, person, scene.healthy)
            if moved is not scene.healthy:
                before, fine = labels, warp.refine(moved, scene.shape)
                labels = _lookup(person.vox, fine)
                labels, changed = _keep_skull(plan, before, labels)
            layers = pathology.paint(plan, person, fine, labels & 63, self.shapes)
        tissue = labels & 63
        share = _ventricle_share(tissue)
        style = appearance.draw(rng, c.contrasts)
        image = self._intensities(person, fine, labels, changed, style, gen)
        # healthy people have a few small white-matter lesions too, seen in both members of a pair
        if rng.random() < 0.3:
            few = pathology.white_lesions(rng, gen, person, fine, tissue, None, rng.uniform(0.02, 0.25), rng.uniform(0, 1))
            image = _mix(image, pathology.soft(few), appearance.lesion_value(rng, style, "fluid"))
        lesion, core = torch.zeros(scene.shape), torch.zeros(scene.shape)
        lesion_rng = np.random.default_rng([plan.seed, *style_seed])
        for layer in layers:
            image = _mix(image, layer.mask, appearance.lesion_value(lesion_rng, style, layer.value), lesion_rng, gen)
            lesion = torch.maximum(lesion, layer.mask)
            if layer.fold == "core":
                core = torch.maximum(core, layer.mask)
        truth = lesion > 0.5  # the soft edge outside a mask stays below
        extent = truth
        if changed is not None and plan.kind in ("collection", "atrophy", "ventricles"):
            extent = truth | changed
            if plan.kind == "collection":
                truth = extent
                image = _mix(image, pathology.soft(changed), appearance.lesion_value(lesion_rng, style, "blood"), lesion_rng, gen)
        image, window = self._acquire(image, tissue, rng, gen)
        return self._case(scene, style, image, labels, truth, extent, core, window, on, share, base_share)

    def _intensities(self, person, fine, labels, changed, style, gen) -> torch.Tensor:
        """Mean and spread of each tissue, averaged over four points of every 2 mm voxel."""
        mean, sd, texture = (torch.from_numpy(a) for a in (style.mean, style.sd, style.texture))
        image = torch.zeros(fine.shape[1:])
        for offset in TETRAHEDRON_MM:
            image += mean[(_lookup(person.vox, fine, offset) & 63).long()]
        image *= 0.25
        tissue = (labels & 63).long()
        if changed is not None:
            image = torch.where(changed, mean[tissue], image)
        image += sd[tissue] * torch.randn(image.shape, generator=gen)
        smooth = warp.noise_field(gen, 1, image.shape, 5)[0]
        return (image * (1 + texture[tissue] * smooth)).clamp(min=0)

    def _acquire(self, image, tissue, rng, gen):
        c = self.config
        draw = rng.random(5)
        if draw[0] < c.stripped:
            image = image * _brain_mask(tissue, rng)
        elif draw[1] < c.defaced / (1 - c.stripped):
            image = image * _deface_mask(tissue, rng)
        blank = draw[0] < c.stripped and rng.random() < 0.8  # stripping usually comes after the scan
        if c.clean:
            noise = 0.012 * torch.randn(image.shape, generator=gen)
            return (image + noise).abs(), [(0, n) for n in image.shape]
        image = acquisition.bias(image, rng, gen)
        image = acquisition.gamma(image, rng)
        keep = image > 0
        if draw[2] < c.ghosted:
            image = acquisition.ghost(image, rng)
        noise = float(rng.uniform(0, 0.06) * image.max() * 0.7) if rng.random() < 0.9 else 0.0
        image = acquisition.scan(image, rng, gen, noise)
        if blank:
            image = image * keep
        window = acquisition.draw_window(rng, image.shape, c.cropped)
        return acquisition.cut(image, window), window

    def _case(self, scene, style, image, labels, truth, extent, core, window, on, share, base_share) -> Case:
        tissue = labels & 63
        classes = torch.where(tissue < L.CLASS_COUNT, tissue, torch.zeros_like(tissue))
        classes = torch.where(tissue == L.COLLECTION, torch.full_like(classes, L.CSF), classes)
        classes[core > 0.5] = IGNORE
        # outside the field of view there is nothing to see, so nothing to label
        seen = acquisition.cut(torch.ones(scene.shape), window) > 0
        classes[~seen] = 0
        # a ventricle or a sulcus is wide only beside others: where, is not asked of the map, only of the study
        mask = torch.where(extent & ~truth, torch.full_like(classes, IGNORE), (truth & seen).to(torch.uint8))
        sided = torch.tensor(L.SIDED)
        side = ((labels & L.SIDE_BIT) > 0) ^ scene.flip
        side = torch.where(sided[classes.clamp(max=L.CLASS_COUNT - 1).long()] & (classes != IGNORE), side.to(torch.uint8),
                           torch.full_like(classes, IGNORE))
        abnormal = self._truth(scene.plan.kind, on, extent & seen, share, base_share)
        return Case(normalise(image.numpy()), classes.numpy(), side.numpy(), mask.numpy(), abnormal, 1,
                    scene.plan.kind if on else "healthy", style.contrast, scene.person.name)

    @staticmethod
    def _truth(kind, on, extent, share, base_share) -> int:
        """1 abnormal, 0 normal, -1 open: what cannot be told from the picture is not scored."""
        if not on:
            return 0 if base_share < pathology.VENTRICLE_NORMAL else -1 if base_share < pathology.VENTRICLE_ABNORMAL else 1
        ml = float(extent.sum()) * 0.008
        if kind == "ventricles":
            return 1 if share > pathology.VENTRICLE_ABNORMAL else -1
        if kind == "atrophy":
            return 1 if ml > 8 else -1
        return 1 if ml > pathology.MIN_LESION_ML else -1

    def _nonhead(self, rng, shape) -> Case:
        gen = torch.Generator().manual_seed(int(rng.integers(2 ** 31)))
        image, kind = nonhead.draw(rng, gen, shape)
        image = acquisition.gamma(acquisition.bias(image, rng, gen), rng)
        image = acquisition.scan(image, rng, gen, float(rng.uniform(0.0, 0.06)))
        image = acquisition.cut(image, acquisition.draw_window(rng, shape, self.config.cropped))
        nothing = np.zeros(shape, np.uint8)
        return Case(normalise(image.numpy()), nothing, np.full_like(nothing, IGNORE), nothing, -1, 0, kind, "none", "none")


def _lookup(vox: torch.Tensor, x: torch.Tensor, offset=(0.0, 0.0, 0.0)) -> torch.Tensor:
    """Nearest bytes of vox [X,Y,Z] at voxel positions x [3,...]; 0 outside."""
    index, inside = None, None
    for a, n in enumerate(vox.shape):
        i = (x[a] + float(offset[a])).round_().to(torch.int32)
        ok = (i >= 0) & (i < n)
        i = i.clamp_(0, n - 1)
        index = i if index is None else index * n + i
        inside = ok if inside is None else inside & ok
    return torch.take(vox, index.long()) * inside


def _ventricle_share(tissue: torch.Tensor) -> float:
    """Lateral and third ventricles over the brain with them; meaningless (0) without a brain in view."""
    n = torch.bincount(tissue.flatten().long(), minlength=64).float()
    brain = n[1:L.CLASS_COUNT].sum() - n[L.CSF]
    return float((n[L.LATERAL] + n[L.THIRD]) / brain) if brain > 5000 else 0.0


def _keep_skull(plan, before: torch.Tensor, after: torch.Tensor):
    """Where a deformation shrank the brain: the skull stays, the room fills with CSF or a collection.

    Returns labels and the voxels that changed to fluid (bool), or None where nothing of the kind happened.
    """
    if plan.kind not in ("collection", "atrophy", "ventricles"):
        return after, None
    b, a = before & 63, after & 63
    brain_b = (b > 0) & (b < L.CLASS_COUNT)
    solid = lambda t: (t > 0) & (t < L.CLASS_COUNT) & (t != L.CSF)
    side = before & L.SIDE_BIT
    fill = L.COLLECTION if plan.kind == "collection" else L.CSF
    fluid = (b == L.CSF) | (b == L.LATERAL) | (b == L.THIRD)
    gone = solid(b) & ~fluid & ~solid(a)
    if plan.kind == "ventricles":
        out = torch.where(brain_b & (a < L.CLASS_COUNT) & (a > 0), after, before)
        t = out & 63
        return out, ((t == L.LATERAL) | (t == L.THIRD))
    out = torch.where(brain_b, torch.where(solid(a), after, torch.where(gone, fill | side, before)), before)
    t = out & 63
    ventricle = (t == L.LATERAL) & (b != L.LATERAL)
    return out, (gone | ventricle) if plan.kind == "atrophy" else gone


def _mix(image, mask, value, rng=None, gen=None):
    if rng is not None and rng.random() < 0.6:  # lesions are seldom of one even intensity
        value = value * (1 + 0.15 * warp.noise_field(gen, 1, image.shape, 4)[0])
    return image * (1 - mask) + mask * value


def _brain_mask(tissue, rng) -> torch.Tensor:
    """Brain with a little or a lot of the CSF and surroundings left, as stripping tools leave it."""
    brain = ((tissue > 0) & (tissue < L.CLASS_COUNT) & (tissue != L.CSF)) | (tissue == L.COLLECTION)
    size = int(rng.choice([3, 5, 7]))
    near = F.avg_pool3d(brain.float()[None, None], size, stride=1, padding=size // 2)[0, 0]
    return (near > rng.uniform(0.05, 0.55)).float()


def _deface_mask(tissue, rng) -> torch.Tensor:
    """Cuts the face away: everything in front of a slanted plane below the frontal lobes."""
    brain = torch.nonzero((tissue > 0) & (tissue < L.CLASS_COUNT) & (tissue != L.CSF))
    if len(brain) < 100:
        return torch.ones(tissue.shape)
    front, low = int(brain[:, 1].max()), int(brain[:, 2].min())
    y = torch.arange(tissue.shape[1]).reshape(1, -1, 1)
    z = torch.arange(tissue.shape[2]).reshape(1, 1, -1)
    line = (y - front + rng.uniform(5, 25)) * rng.uniform(0.4, 1.0) - (z - low - rng.uniform(0, 15))
    return (line < 0).float().expand(tissue.shape)
