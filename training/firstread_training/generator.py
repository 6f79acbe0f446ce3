"""Cases from label maps: one call, one image with its labels, lesion mask and truth; on a CPU or a GPU.

Case `index` is a pure function of (config, seed, index).  Cases come in pairs: 2n has the pathology,
2n + 1 is the same person and deformation without it; with `same_style` they share contrast and artefacts too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from . import acquisition, appearance, bright, nonhead, pathology, scattered, warp
from . import labels as L
from .maps import LabelMap
from .preprocess import normalise, normalise_tensor

IGNORE = 255
# quarter-voxel tetrahedron: four samples of the map average to a voxel's partial volume; times voxel_mm
TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.25


@dataclass
class GeneratorConfig:
    """Shares and ranges of the generator; everything a run may want to change."""
    voxel_mm: float = 2.0  # 2 (screening) or 1 (volumetry)
    shape: tuple = (80, 96, 80)
    big_shape: tuple = (80, 96, 80)
    big_every: int = 0  # every so many groups at `big_shape`: small fields are cheap, large ones show scalp, neck and air
    group: int = 2  # neighbouring cases of one shape: a batch
    pairs: bool = True  # False: every case is another head, two in three with pathology
    contrasts: dict = field(default_factory=lambda: {"t1": 0.57, "flair": 0.18, "t2": 0.07, "pd": 0.02, "random": 0.16})
    kinds: dict = field(default_factory=lambda: dict(pathology.KINDS))
    nonhead: float = 0.07
    same_style: float = 0.85
    stripped: float = 0.3
    defaced: float = 0.15
    cropped: float = 0.25
    ghosted: float = 0.12
    centre_sd_mm: tuple = (7.0, 9.0, 12.0)
    distractors: float = 0.0  # share of images with what looks like a lesion and is none (bright.py)
    rims: float = 0.5  # share of those whose ventricles have a bright rim that is no lesion
    uneven: float = 0.0  # share of images whose cortex and white matter are brighter in some places (uneven)
    caps: float = 0.0  # share of images whose white matter is brighter beside the ventricles' horns (caps)
    bands: float = 0.0  # share of images whose white matter is brighter along the ventricles (bands)
    plexus: float = 0.0  # share of images whose choroid plexus fills much of the ventricles behind and below (plexus)
    faint: float = 1.0  # lesions of the white matter keep at least this share of their difference from it (1: all)
    scattered: float = 0.0  # share of heads with white-matter lesions whose lesions are separate spots (scattered.py)
    slices: dict = field(default_factory=dict)  # share of thick slices by contrast, where it differs from acquisition's
    few_are_lesions: bool = False  # healthy people's few small lesions are in the mask (never in the study's truth)
    clean: bool = False  # a good scan: no thick slices, weak noise and bias (the demo's samples)


@dataclass
class Case:
    """One generated case; image float32 [x,y,z] normalised, labels in classes (IGNORE = not scored)."""
    image: np.ndarray
    classes: np.ndarray  # uint8
    side: np.ndarray  # uint8: 0 left, 1 right, IGNORE where the class has no side
    horn: np.ndarray  # bool: inferior horns among the lateral ventricles
    lesion: np.ndarray  # uint8: 0, 1, or IGNORE
    abnormal: int  # 1, 0, or -1: open
    head: int
    kind: str
    contrast: str
    person: str

    def numpy(self) -> "Case":
        return dataclasses.replace(self, **{k: getattr(self, k).cpu().numpy() for k in ("image", "classes", "side", "horn", "lesion")})


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
        return self.tensors(index).numpy()

    def tensors(self, index: int) -> Case:
        """The case with its arrays still tensors where they were made."""
        pair, member = divmod(index, 2) if self.config.pairs else (index, int(index % 3 == 2))
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
        return tuple(self._render(scene, on, [self.seed, index, 7]).numpy() for on in (True, False))

    def shape_of(self, pair: int) -> tuple:
        c = self.config
        return tuple(c.big_shape if c.big_every and (2 * pair // c.group) % c.big_every == 0 else c.shape)

    def nonhead(self, seed) -> Case:
        """A thing that is no head, of its own seed."""
        return self._nonhead(np.random.default_rng(seed), tuple(self.config.shape)).numpy()

    def _scene(self, rng, shape) -> Scene:
        c = self.config
        person = self.people[int(rng.integers(len(self.people)))]
        flip = bool(rng.random() < 0.5)
        matrix = warp.affine(rng, flip)
        x = warp.lattice(shape, matrix, person.centre + rng.normal(0, c.centre_sd_mm), c.voxel_mm)
        seed = int(rng.integers(2 ** 31))
        gen = warp.generator(seed)
        x = x + warp.diffeomorphic(gen, rng, x.shape[1:])
        # healthy people differ in the size of their ventricles and their sulci more than in anything else
        share = min(person.ventricle_share * float(np.exp(rng.normal(0.15, 0.4))), max(pathology.VENTRICLE_NORMAL - 0.004, 0.9 * person.ventricle_share))
        x = warp.flow(x, warp.gradient(person.fields[0]), pathology.flow_for_share(person, share), steps=3)
        x = warp.flow(x, warp.gradient(person.fields[1]), rng.normal(-2, 5), steps=1)
        return Scene(person, flip, shape, x, pathology.draw(rng, person, c.kinds), seed)

    def _render(self, scene: Scene, on: bool, style_seed) -> Case:
        rng = np.random.default_rng(style_seed)
        gen = warp.generator(int(rng.integers(2 ** 31)))
        c, person, plan = self.config, scene.person, scene.plan
        fine = warp.refine(scene.healthy, scene.shape, c.voxel_mm)
        labels = _lookup(person.vox, fine)
        base_share = _ventricle_share(labels & 63)
        layers, changed, sub = [], None, None
        if on:
            moved = pathology.displace(plan, person, scene.healthy)
            if moved is not scene.healthy:
                before, fine = labels, warp.refine(moved, scene.shape, c.voxel_mm)
                labels = _lookup(person.vox, fine)
                labels, changed = _keep_skull(plan, before, labels)
            layers = pathology.paint(plan, person, fine, labels & 63, self.shapes, c.voxel_mm, c.scattered)
        tissue = labels & 63
        share = _ventricle_share(tissue)
        style = appearance.draw(rng, c.contrasts)
        image = self._intensities(person, fine, labels, changed, style, gen)
        if c.distractors and rng.random() < c.distractors:
            image = bright.distract(image, tissue, style, rng, gen, c.voxel_mm, c.rims)
        if c.uneven and rng.random() < c.uneven:
            image = bright.uneven(image, tissue, rng, gen, c.voxel_mm)
        if c.caps and rng.random() < c.caps:
            image = bright.caps(image, tissue, style, rng, c.voxel_mm)
        if c.bands and rng.random() < c.bands:
            image = bright.bands(image, tissue, style, rng, gen, c.voxel_mm)
        if c.plexus and rng.random() < c.plexus:
            image = bright.plexus(image, tissue, style, rng, gen, c.voxel_mm)
        # healthy people have a few small white-matter lesions too, seen in both members of a pair
        if rng.random() < 0.3:
            few, soft = self._few(rng, gen, person, fine, tissue)
            image = bright.mix(image, soft, appearance.lesion_value(rng, style, "fluid"))
        else:
            few = None
        lesion, core = torch.zeros(scene.shape), torch.zeros(scene.shape)
        lesion_rng = np.random.default_rng([plan.seed, *style_seed])
        for layer in layers:
            value = appearance.lesion_value(lesion_rng, style, layer.value)
            if c.faint < 1 and plan.kind == "wm_lesions":
                wm = float(style.mean[L.WM])
                value = wm + (value - wm) * float(np.exp(lesion_rng.uniform(np.log(c.faint), 0)))
            image = bright.mix(image, layer.mask, value, lesion_rng, gen)
            lesion = torch.maximum(lesion, layer.mask if layer.inside is None else layer.inside.float())
            if layer.fold == "core":
                core = torch.maximum(core, layer.mask)
        truth = lesion > 0.5  # the soft edge outside a mask stays below
        extent = truth
        if changed is not None and plan.kind in ("collection", "atrophy", "ventricles"):
            extent = truth | changed
            if plan.kind == "collection":
                truth = extent
                image = bright.mix(image, pathology.soft(changed), appearance.lesion_value(lesion_rng, style, "blood"), lesion_rng, gen)
        if few is not None and c.few_are_lesions:
            truth = truth | few
        image, window = self._acquire(image, tissue, style, rng, gen)
        return self._case(scene, style, image, labels, truth, extent, core, window, on, share, base_share)

    def _few(self, rng, gen, person, fine, tissue):
        """Some small lesions of a healthy person: what is lesion, and what to paint."""
        if self.config.scattered > 0:
            return scattered.lesions(rng, gen, tissue, rng.uniform(0.02, 0.25), self.config.voxel_mm, many=(1, 8))
        few = pathology.white_lesions(rng, gen, person, fine, tissue, None, rng.uniform(0.02, 0.25), rng.uniform(0, 1), self.config.voxel_mm)
        return few, pathology.soft(few)

    def _intensities(self, person, fine, labels, changed, style, gen) -> torch.Tensor:
        """Mean and spread of each tissue, averaged over four points of every 2 mm voxel."""
        mean, sd, texture = (warp.tensor(a) for a in (style.mean, style.sd, style.texture))
        image = torch.zeros(fine.shape[1:])
        for offset in TETRAHEDRON * self.config.voxel_mm:
            image += mean[(_lookup(person.vox, fine, offset) & 63).long()]
        image *= 0.25
        tissue = (labels & 63).long()
        if changed is not None:
            image = torch.where(changed, mean[tissue], image)
        image += sd[tissue] * torch.randn(image.shape, generator=gen)
        smooth = warp.noise_field(gen, 1, image.shape, int(10 / self.config.voxel_mm))[0]
        return (image * (1 + texture[tissue] * smooth)).clamp(min=0)

    def _acquire(self, image, tissue, style, rng, gen):
        c = self.config
        draw = rng.random(5)
        if draw[0] < c.stripped:
            image = image * _brain_mask(tissue, rng, c.voxel_mm)
        elif draw[1] < c.defaced / (1 - c.stripped):
            image = image * _deface_mask(tissue, rng, c.voxel_mm)
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
        image = acquisition.scan(image, rng, gen, noise, c.voxel_mm, self._resolutions(style.contrast))
        if blank:
            image = image * keep
        window = acquisition.draw_window(rng, image.shape, c.cropped)
        return acquisition.cut(image, window), window

    def _resolutions(self, contrast: str) -> tuple:
        """Shares of fine, soft, sliced and coarse scans of a contrast."""
        fine, soft, slices, coarse = acquisition.RESOLUTIONS
        if contrast not in self.config.slices:
            return acquisition.RESOLUTIONS
        wanted = self.config.slices[contrast]
        rest = (1 - wanted) / (1 - slices)
        return (fine * rest, soft * rest, wanted, coarse * rest)

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
        abnormal = self._truth(scene.plan.kind, on, float((extent & seen).sum()) * 0.001 * self.config.voxel_mm ** 3, share, base_share)
        horn = (labels & L.HORN_BIT) > 0
        return Case(_normalised(image), classes, side, horn & (classes == L.LATERAL), mask, abnormal, 1,
                    scene.plan.kind if on else "healthy", style.contrast, scene.person.name)

    @staticmethod
    def _truth(kind, on, ml, share, base_share) -> int:
        """1 abnormal, 0 normal, -1 open: what cannot be told from the picture is not scored."""
        if not on:
            return 0 if base_share < pathology.VENTRICLE_NORMAL else -1 if base_share < pathology.VENTRICLE_ABNORMAL else 1
        if kind == "ventricles":
            return 1 if share > pathology.VENTRICLE_ABNORMAL else -1
        if kind == "atrophy":
            return 1 if ml > 8 else -1
        return 1 if ml > pathology.MIN_LESION_ML else -1

    def _nonhead(self, rng, shape) -> Case:
        gen = warp.generator(int(rng.integers(2 ** 31)))
        image, kind = nonhead.draw(rng, gen, shape)
        image = acquisition.gamma(acquisition.bias(image, rng, gen), rng)
        image = acquisition.scan(image, rng, gen, float(rng.uniform(0.0, 0.06)))
        image = acquisition.cut(image, acquisition.draw_window(rng, shape, self.config.cropped))
        nothing = torch.zeros(shape, dtype=torch.uint8)
        return Case(_normalised(image), nothing, torch.full_like(nothing, IGNORE), nothing > 0, nothing, -1, 0, kind, "none", "none")


def _normalised(image: torch.Tensor) -> torch.Tensor:
    """As the server does it; on a GPU without the way through numpy."""
    return torch.from_numpy(normalise(image.numpy())) if image.device.type == "cpu" else normalise_tensor(image)


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


def _brain_mask(tissue, rng, voxel_mm: float = 2.0) -> torch.Tensor:
    """Brain with a little or a lot of the CSF and surroundings left, as stripping tools leave it."""
    brain = ((tissue > 0) & (tissue < L.CLASS_COUNT) & (tissue != L.CSF)) | (tissue == L.COLLECTION)
    size = int(rng.choice([3, 5, 7]) * 2 / voxel_mm) | 1
    near = F.avg_pool3d(brain.float()[None, None], size, stride=1, padding=size // 2)[0, 0]
    return (near > rng.uniform(0.05, 0.55)).float()


def _deface_mask(tissue, rng, voxel_mm: float = 2.0) -> torch.Tensor:
    """Cuts the face away: everything in front of a slanted plane below the frontal lobes."""
    brain = torch.nonzero((tissue > 0) & (tissue < L.CLASS_COUNT) & (tissue != L.CSF))
    if len(brain) < 100:
        return torch.ones(tissue.shape)
    front, low = int(brain[:, 1].max()), int(brain[:, 2].min())
    y = torch.arange(tissue.shape[1]).reshape(1, -1, 1)
    z = torch.arange(tissue.shape[2]).reshape(1, 1, -1)
    line = (y - front + rng.uniform(5, 25) * 2 / voxel_mm) * rng.uniform(0.4, 1.0) - (z - low - rng.uniform(0, 15) * 2 / voxel_mm)
    return (line < 0).float().expand(tissue.shape)
