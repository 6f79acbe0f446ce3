"""The volumetry box: nothing shifts, nothing turns, and labels come back where they were."""

import numpy as np
import pytest

from firstread_training import measuring, preprocess


def head(spacing, n=(200, 220, 190)):
    """A ball of 60 mm in a volume, and a screening of it; everything in RAS."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-90.0, -110.0, -80.0)
    at = np.stack(np.meshgrid(*[np.arange(k) for k in n], indexing="ij"), -1) * spacing + affine[:3, 3]
    v = np.where(((at - (3.0, -5.0, 10.0)) ** 2).sum(-1) < 60.0 ** 2, 100.0, 0.0).astype(np.float32)
    origin = np.array([-95.0, -115.0, -90.0])
    grid = np.stack(np.meshgrid(*[np.arange(k) for k in preprocess.GRID], indexing="ij"), -1) * 2.0 + origin
    return v, affine, (((grid - (3.0, -5.0, 10.0)) ** 2).sum(-1) < 60.0 ** 2).astype(np.uint8), origin


def test_voxels_of_about_1_mm_are_kept_as_they_are():
    v, affine, labels, origin = head((1.0, 1.0, 1.0))
    v += np.random.default_rng(0).random(v.shape, dtype=np.float32)
    _, m, order, flips = measuring.reorient(v, affine)
    box = measuring.place(v.shape, m, order, flips, labels, origin)
    out = measuring.take(v, box)
    x, y, z = (int(s) for s in box.start)
    low = [max(0, -s) for s in (x, y, z)]
    assert np.array_equal(out[low[0]:, low[1]:, low[2]:][:50, :50, :50], v[x + low[0]:, y + low[1]:, z + low[2]:][:50, :50, :50])


def test_the_top_has_6_mm_of_air_and_the_middle_is_the_middle():
    v, affine, labels, origin = head((1.0, 1.0, 1.0))
    image, _ = measuring.prepare(v, affine, labels, origin)
    inside = np.argwhere(image > 0.5)
    assert abs(measuring.BOX[2] - 1 - inside[:, 2].max() - measuring.TOP_MM) <= 5  # thin top planes do not count
    for axis in (0, 1):
        assert abs((inside[:, axis].min() + inside[:, axis].max()) / 2 - (measuring.BOX[axis] - 1) / 2) <= 1.5


@pytest.mark.parametrize("order,flips", [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1)), ((1, 2, 0), (-1, -1, 1))])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.6, 0.9, 3.0)])
def test_labels_come_back_where_they_were(order, flips, spacing):
    v, affine, labels, origin = head(spacing, tuple(int(180 / s) for s in spacing))
    m, w = affine.copy(), v
    for axis, f in enumerate(flips):
        if f < 0:
            w = np.flip(w, axis)
            m[:3, 3] += m[:3, axis] * (v.shape[axis] - 1)
            m[:3, axis] *= -1
    w, m = np.transpose(w, order), m[:, list(order) + [3]]
    image, box = measuring.prepare(w, m, labels, origin)
    back = box.to_input((image > 0.5).astype(np.uint8))
    assert back.shape == w.shape
    assert 2 * (back & (w > 50)).sum() / (back.sum() + (w > 50).sum()) > (0.999 if spacing[2] == 1.0 else 0.97)
    assert box.voxel_mm3 == pytest.approx(1.0 if spacing[2] == 1.0 else 0.9)


def test_an_oblique_scan_is_not_turned():
    from firstread_training import warp
    m = np.eye(4)
    m[:3, :3] = warp.rotation((12, -8, 5))
    assert measuring.nearest_axes(m) == ((0, 1, 2), (1, 1, 1))
    assert measuring.nearest_axes(m[:, [2, 0, 1, 3]] * np.array([-1, 1, 1, 1])) == ((1, 2, 0), (1, 1, -1))
