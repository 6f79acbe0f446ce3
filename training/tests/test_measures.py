"""Preprocessing, metrics and files."""

import numpy as np
import pytest

from firstread_training import metrics, nifti, preprocess, scans, warp


def head(centre=(10.0, -5.0, 30.0), n=110, mm=2.0):
    """A bright ellipsoid of a head with a neck below, RAS voxels; volume and affine."""
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = np.array(centre) - mm * (n - 1) / 2
    x, y, z = np.meshgrid(*[mm * (np.arange(n) - (n - 1) / 2)] * 3, indexing="ij")
    v = np.where((x / 75) ** 2 + (y / 95) ** 2 + (z / 85) ** 2 < 1, 100.0, 0.0)
    v[(np.abs(x) < 45) & (np.abs(y + 10) < 45) & (z < 0)] = 80.0
    return v.astype(np.float32), affine


def test_the_box_hangs_from_the_top_of_the_head():
    v, affine = head()
    origin = preprocess.locate(v, affine)
    top = origin[2] + preprocess.SPACING_MM * (preprocess.GRID[2] - 1)
    assert top == pytest.approx(30 + 85 + preprocess.TOP_MARGIN_MM, abs=8)
    middle = origin + preprocess.SPACING_MM * (np.array(preprocess.GRID) - 1) / 2
    assert middle[0] == pytest.approx(10, abs=4) and middle[1] == pytest.approx(-5, abs=6)


@pytest.mark.parametrize("order,flips", [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1)), ((1, 2, 0), (-1, -1, 1))])
def test_orientation_of_the_file_does_not_matter(order, flips):
    v, affine = head()
    grid, origin = preprocess.prepare(v, affine)
    matrix = affine.copy()
    w = v
    for axis, f in enumerate(flips):
        if f < 0:
            w = np.flip(w, axis)
            matrix[:3, 3] += matrix[:3, axis] * (v.shape[axis] - 1)
            matrix[:3, axis] *= -1
    w, matrix = np.transpose(w, order), matrix[:, list(order) + [3]]
    again, origin2 = preprocess.prepare(w, matrix)
    assert np.allclose(origin, origin2, atol=1e-4) and np.abs(grid - again).max() < 1e-4


def test_a_known_point_lands_where_it_should():
    v, affine = head()
    v[70, 40, 60] = 1000.0
    out = preprocess.resample(v, affine, affine[:3, 3], 2.0, v.shape)
    assert np.unravel_index(out.argmax(), out.shape) == (70, 40, 60)


def test_outside_is_zero_and_nothing_explodes():
    out, _ = preprocess.prepare(np.zeros((30, 30, 30)), np.eye(4))
    assert not out.any()
    out, _ = preprocess.prepare(np.full((30, 30, 30), np.nan), np.eye(4))
    assert not out.any()
    v = np.random.default_rng(0).normal(0, 1, (20, 20, 1)).astype(np.float32)
    out, _ = preprocess.prepare(v, np.eye(4))
    assert np.isfinite(out).all()


def test_normalise_ignores_scale():
    v = np.random.default_rng(0).random((30, 30, 30)) ** 2
    assert np.allclose(preprocess.normalise(v), preprocess.normalise(v * 1234.5), atol=1e-5)
    assert preprocess.normalise(v).max() <= preprocess.NORM_CLIP


def test_nifti_round_trip(tmp_path):
    a = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    m = np.eye(4)
    m[:3, :3] = warp.rotation((10, 20, 30)) * [1, 2, 3]
    m[:3, 3] = 4, 5, 6
    nifti.write(tmp_path / "a.nii.gz", a, m)
    b, k = nifti.read(tmp_path / "a.nii.gz")
    assert (a == b).all() and np.allclose(m, k, atol=1e-5)


def test_dice_pools_white_matter_and_averages_sides():
    ref = np.array([2, 41, 10, 49, 49, 14])
    pred = np.array([41, 2, 10, 49, 10, 14])
    d = metrics.dice_16(pred, ref)
    assert d["cerebral_wm"] == 1.0 and d["third_ventricle"] == 1.0
    assert d["thalamus"] == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_reference_codes_fold():
    assert metrics.aseg_codes(np.array([77, 5, 44, 24, 62, 63, 255, 85])).tolist() == [2, 4, 43, 0, 41, 43, 2, 0]
    assert metrics.neuromorphometrics_codes(np.array([100, 101, 47, 48, 35, 71])).tolist() == [42, 3, 53, 17, 16, 8]


def test_ranking_and_calibration():
    assert metrics.pairs_ranked([2, 3], [0, 1]) == (1.0, 4, 1.0)
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, 4000)
    y = rng.random(4000) < metrics.sigmoid(2 * x - 1)
    scale, offset = metrics.fit_calibration(x, y)
    assert scale == pytest.approx(2, abs=0.2) and offset == pytest.approx(-1, abs=0.2)
    assert metrics.ece(metrics.sigmoid(scale * x + offset), y) < 0.02
    assert metrics.ece(np.full(1000, 0.9), np.zeros(1000)) == pytest.approx(0.9)


def test_sample_series_read_back(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from firstread_training import samples
    study = samples.Study("t", "healthy", "", 1, "SAMPLE^T", "F", 30, "STAT", syntax="RLELossless")
    samples_backup, samples.STUDIES = samples.STUDIES, (study,)
    try:
        stored = np.random.default_rng(0).integers(0, 4095, (12, 14, 6)).astype(np.int16)
        samples.write_series(tmp_path, study, stored, "t1", 2, 1)
    finally:
        samples.STUDIES = samples_backup
    files = next(iter(scans.series_folders(tmp_path).values()))
    v, affine = scans.series_volume(files)
    assert v.shape == (12, 14, 6)
    # array index (x, y, z) is at RAS origin + 2 mm * index: the file stores x and y reversed
    at = np.linalg.inv(affine) @ np.array([-11 + 2 * 3, -13 + 2 * 5, -5 + 2 * 2, 1.0])
    i, j, k = np.rint(at[:3]).astype(int)
    assert v[i, j, k] == stored[3, 5, 2]
    assert pydicom.dcmread(files[0]).RequestedProcedurePriority == "STAT"
