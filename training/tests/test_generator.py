"""Invariants of generated cases."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from firstread_training import acquisition, bright, generator, labels as L, maps, pathology, scattered, warp

SHAPE = (48, 48, 48)


def make(person, shapes, seed=1, **changes):
    return generator.Generator([person], shapes, dataclasses.replace(generator.GeneratorConfig(), **{"shape": SHAPE, "centre_sd_mm": (0, 0, 0), **changes}), seed)


def test_a_case_is_a_function_of_its_index(person, shapes):
    a, b = make(person, shapes)(4), make(person, shapes)(4)
    assert (a.image == b.image).all() and (a.classes == b.classes).all() and a.kind == b.kind
    assert (make(person, shapes)(6).image != a.image).any()


def test_a_case_is_well_formed(person, shapes):
    g = make(person, shapes)
    for i in range(16):
        c = g(i)
        assert c.image.shape == SHAPE and c.image.dtype == np.float32
        assert np.isfinite(c.image).all() and 0 <= c.image.min() and c.image.max() <= 1.5
        assert set(np.unique(c.classes)) <= set(range(L.CLASS_COUNT)) | {generator.IGNORE}
        assert set(np.unique(c.side)) <= {0, 1, generator.IGNORE}
        assert set(np.unique(c.lesion)) <= {0, 1, generator.IGNORE}
        assert c.abnormal in (-1, 0, 1) and c.head in (0, 1)
        if c.head == 0:
            assert not c.classes.any() and not c.lesion.any() and c.abnormal == -1


def test_sides_follow_a_flip(person, shapes):
    """Whatever the flip and the deformation: right structures have the higher x in the picture (axes are RAS)."""
    g = make(person, shapes, nonhead=0.0)
    flips = set()
    for i in range(0, 24, 2):
        rng = np.random.default_rng([1, i // 2])
        rng.random()
        flips.add(g._scene(rng, SHAPE).flip)
        c = g(i)
        right, left = np.argwhere(c.side == 1), np.argwhere(c.side == 0)
        assert right[:, 0].mean() > left[:, 0].mean() + 3
    assert flips == {True, False}


@pytest.mark.parametrize("kind", ["wm_lesions", "stroke", "tumour", "haemorrhage", "metastases"])
def test_painted_pathology_shows(person, shapes, kind):
    g = make(person, shapes, kinds={kind: 1.0}, stripped=0, cropped=0, clean=True)
    seen = 0
    for i in range(4):
        on, off = g.paired(i)
        assert off.abnormal in (0, -1, 1) and not off.lesion.any() and on.kind == kind
        if (on.lesion == 1).sum() > 50:
            seen += 1
            mask = on.lesion == 1
            assert np.abs(on.image - off.image)[mask].mean() > np.abs(on.image - off.image)[~mask].mean()
    assert seen >= 2


def test_ventricles_grow_and_truth_follows(person, shapes):
    g = make(person, shapes, kinds={"ventricles": 1.0}, cropped=0, stripped=0)
    for i in range(3):
        on, off = g.paired(i)
        assert (on.classes == L.LATERAL).sum() > (off.classes == L.LATERAL).sum()
        assert off.abnormal != 1 or off.classes.any()


def test_atrophy_and_collections_leave_the_skull_alone(person, shapes):
    for kind in ("atrophy", "collection"):
        g = make(person, shapes, kinds={kind: 1.0}, cropped=0, stripped=0)
        on, off = g.paired(2)
        brain = lambda c: ((c.classes > 0) & (c.classes < 200) & (c.classes != L.CSF)).sum()
        assert brain(on) <= brain(off)
        assert ((on.classes > 0) == (off.classes > 0)).mean() > 0.999


def test_slices_keep_a_constant_image_constant():
    down, up = acquisition.slice_matrices(40, 5.0, 4.0, 0.4)
    v = acquisition.along(acquisition.along(torch.ones(40, 3, 3), down, 0), up, 0)
    assert torch.allclose(v, torch.ones_like(v), atol=1e-5)


def test_the_midplane_of_a_tilted_head_is_found(person):
    vox = (person.vox & 63).numpy()
    a, b, c = maps.midplane(vox)
    assert abs(a + b * 50 + c * 50 - 49.5) < 1.5


def test_folds_and_sides_of_source_codes():
    table = maps.labels.tissue_table()
    assert table[25] == table[57] == table[2] == table[41] == L.WM
    assert table[136] == table[163] == table[5] == table[31] == L.LATERAL
    assert table[24] == L.CSF and table[85] == L.CHIASM and table[0] == 0
    assert len(L.CODES) == 31 and len(set(L.CODES)) == 31 and len(L.CODE_NAMES) == 31


def test_deformations_do_not_fold(person):
    gen, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    x = warp.lattice(SHAPE, np.eye(3), person.centre)
    x = x + warp.diffeomorphic(gen, rng, x.shape[1:])
    dx = x[0, 1:] - x[0, :-1]
    assert (dx > 0).float().mean() > 0.999


def test_plans_of_every_kind_can_be_drawn(person):
    rng = np.random.default_rng(3)
    kinds = {pathology.draw(rng, person).kind for _ in range(200)}
    assert kinds == set(pathology.KINDS)


def test_scattered_lesions_are_few_soft_and_in_the_white_matter(person):
    tissue = person.vox & 63
    rng, gen = np.random.default_rng(5), warp.generator(5)
    inside, paint = scattered.lesions(rng, gen, tissue, 3.0)
    count = ndimage.label(inside.numpy(), np.ones((3, 3, 3)))[1]
    assert 1 <= count <= scattered.MANY[1], "spots, not crumbs"
    assert 1000 < int(inside.sum()) < 4000, "about 3 ml, less what fell outside"
    assert not inside[(tissue == L.LATERAL) | (tissue == L.CSF) | (tissue == 0)].any()
    assert float(paint.max()) <= 1.0 and 0.2 < float(paint[inside].mean()) < 1.0
    edge = torch.from_numpy(ndimage.binary_dilation(inside.numpy())) & ~inside & (tissue == L.WM)
    assert 0.02 < float(paint[edge].mean()) < float(paint[inside].mean()), "a soft edge"
    nothing, _ = scattered.lesions(rng, gen, torch.zeros_like(tissue), 3.0)
    assert not nothing.any()


def test_scattered_lesions_are_the_truth_of_their_case(person, shapes):
    g = make(person, shapes, kinds={"wm_lesions": 1.0}, contrasts={"flair": 1.0}, stripped=0, cropped=0, nonhead=0.0, clean=True, scattered=1.0, voxel_mm=1.0, shape=(96, 96, 96))
    on, off = g.paired(0)
    found = on.lesion == 1
    assert found.sum() > 30 and not (off.lesion == 1).any()
    assert (on.image - off.image)[found].mean() > 0.02, "brighter where the truth says so"


def test_caps_are_brighter_beside_the_ventricles_only(person):
    tissue = person.vox & 63
    style = generator.appearance.draw(np.random.default_rng(2), {"flair": 1.0})
    image = torch.from_numpy(style.mean)[tissue.long()]
    brighter = bright.caps(image, tissue, style, np.random.default_rng(2), 1.0) - image
    near = ndimage.distance_transform_edt((tissue != L.LATERAL).numpy())
    assert 0.03 < float(brighter.max()) < 0.4 and float(brighter[tissue != L.WM].abs().max()) == 0
    assert float(brighter[torch.from_numpy(near > 30)].max()) < 0.01


def two_ventricles(seed):
    """White matter with two lateral ventricles in it, and a FLAIR of it."""
    tissue = torch.full((64, 64, 64), L.WM, dtype=torch.uint8)
    tissue[20:28, 16:48, 14:50] = tissue[36:44, 16:48, 14:50] = L.LATERAL
    style = generator.appearance.draw(np.random.default_rng(seed), {"flair": 1.0})
    return tissue, style, torch.from_numpy(style.mean)[tissue.long()]


def test_bands_are_brighter_along_the_ventricles_only():
    tissue, style, image = two_ventricles(4)
    brighter = bright.bands(image, tissue, style, np.random.default_rng(4), warp.generator(4), 1.0) - image
    near = ndimage.distance_transform_edt((tissue != L.LATERAL).numpy())
    assert 0.03 < float(brighter.max()) < 0.8 and float(brighter[tissue != L.WM].abs().max()) == 0
    assert float(brighter[torch.from_numpy(near > 12)].max()) < 0.01


def test_choroid_plexus_fills_the_low_part_of_the_ventricles():
    heights = []
    for seed in range(6):
        tissue, style, image = two_ventricles(seed)
        painted = bright.plexus(image, tissue, style, np.random.default_rng(seed), warp.generator(seed), 1.0)
        changed, ventricle = (painted - image).abs() > 0.05, tissue == L.LATERAL
        near = torch.from_numpy(ndimage.distance_transform_edt((~ventricle).numpy()) <= 5)
        assert int((changed & ventricle).sum()) > 50 and not (changed & ~near).any(), "in the ventricle and at its wall"
        heights.append(float(torch.nonzero(changed & ventricle)[:, 2].float().mean()))
    assert np.mean(heights) < 31.5 - 3, "low: the ventricles' middle is at 31.5"
    nothing = torch.zeros_like(tissue)
    assert torch.equal(bright.plexus(image, nothing, style, np.random.default_rng(6), warp.generator(6), 1.0), image)
