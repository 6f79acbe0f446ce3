"""The volumetry box: the head is upright in it however it lay, and labels come back where they were."""

import numpy as np
import pytest

from firstread_training import golden, labels as L, measuring, preprocess, warp


def lying(degrees, shift=(3.0, -20.0, 14.0)):
    """RAS mm to upright mm of a head that lies so."""
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = warp.rotation(degrees), shift
    return m


def brightness(x, y, z):
    return 1000 + 2 * x + 3 * y + 5 * z + 40 * np.sin(x / 9) * np.cos(z / 11)


def head(upright, spacing, shape):
    """Voxels about the middle of a head that lies so, brightness a function of the upright place; and its affine."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.linalg.inv(upright)[:3] @ [0, -5, 5, 1] - np.array(spacing) * (np.array(shape) - 1) / 2
    m = upright @ affine
    index = np.indices(shape).reshape(3, -1)
    return brightness(*(m[:3, :3] @ index + m[:3, 3:])).reshape(shape).astype(np.float32), affine


@pytest.mark.parametrize("degrees,spacing,shape", [((0, 0, 0), (1, 1, 1), (190, 220, 190)), ((-12, 9, 5), (1.2, 0.9, 1.1), (170, 270, 200))])
def test_the_head_is_upright_in_the_box_however_it_lay(degrees, spacing, shape):
    upright = lying(degrees)
    v, affine = head(upright, spacing, shape)
    labels, origin = golden.seen(upright)
    box = measuring.place(v.shape, affine, labels, origin)
    out = measuring.take(v, box)
    m = upright @ box.affine
    index = np.random.default_rng(0).integers(20, np.array(measuring.BOX) - 20, (500, 3))
    place = index @ m[:3, :3].T + m[:3, 3]
    assert np.abs(place - (index + measuring.START_MM)).max() < 0.7
    assert np.abs(out[tuple(index.T)] - brightness(*place.T)).max() < 0.1
    assert box.voxel_mm3 == pytest.approx(1.0)


def test_labels_and_sides_come_back_where_they_were():
    upright = lying((18, -7, 3))
    v, affine = head(upright, (1.0, 0.9, 2.5), (200, 240, 80))
    box = measuring.place(v.shape, affine, *golden.seen(upright))
    m = upright @ box.affine
    grid = np.indices(measuring.BOX).reshape(3, -1)
    octant = lambda p: 1 + 4 * (p[0] > 0) + 2 * (p[1] > 0) + (p[2] > 0)
    back = box.to_input(octant(m[:3, :3] @ grid + m[:3, 3:]).reshape(measuring.BOX).astype(np.uint8))
    m = upright @ affine
    place = m[:3, :3] @ np.indices(v.shape).reshape(3, -1) + m[:3, 3:]
    sure = (np.abs(place) > 0.51).all(0) & (back.ravel() > 0)
    assert sure.sum() > 600_000 and np.array_equal(back.ravel()[sure], octant(place)[sure])
    values = box.to_input(measuring.take(v, box))
    middle = tuple(n // 2 for n in v.shape)
    assert values[middle] == pytest.approx(v[middle], abs=1.0)


def test_no_pose_where_labels_do_not_say_how_the_head_lies():
    upright = lying((10, 0, 0))
    labels, origin = golden.seen(upright)
    turn, shift = measuring.pose(labels, origin)
    assert np.abs(turn - upright[:3, :3]).max() < 0.01 and np.abs(shift - upright[:3, 3]).max() < 0.7
    assert measuring.pose((labels > 0).astype(np.uint8), origin) is None
    other = np.array([L.CODES.index({**L.RIGHT_OF, **{v: k for k, v in L.RIGHT_OF.items()}}.get(c, c)) for c in L.CODES], np.uint8)
    assert measuring.pose(other[labels], origin) is None  # left and right swapped
    v, affine = head(upright, (2, 2, 2), (95, 110, 95))
    box = measuring.place(v.shape, affine, (labels > 0).astype(np.uint8), origin)
    assert np.allclose(box.affine[:3, :3], np.eye(3))


def test_a_brain_that_reaches_higher_moves_the_box_up():
    upright = lying((0, 0, 0), (0, 0, 0))
    labels, origin = golden.seen(upright)
    mm = np.indices(preprocess.GRID) * 2.0 + np.array(origin).reshape(3, 1, 1, 1)
    assert measuring.place((95, 110, 95), np.diag([2.0, 2, 2, 1]), labels, origin).affine[2, 3] == pytest.approx(measuring.START_MM[2], abs=0.7)
    labels[(np.abs(mm[0]) < 50) & (np.abs(mm[1]) < 50) & (mm[2] > -50) & (mm[2] < 91.1) & (labels == 0)] = L.CODES.index(24)
    box = measuring.place((95, 110, 95), np.diag([2.0, 2, 2, 1]), labels, origin)
    assert box.affine[2, 3] == pytest.approx(92 + 2 - 159, abs=0.7)
    with pytest.raises(ValueError, match="no brain"):
        measuring.place((95, 110, 95), np.diag([2.0, 2, 2, 1]), labels * 0, origin)
