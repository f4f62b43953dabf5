"""Landmarks and boxes that describe no face: nothing is divided by zero, and no NaN reaches an image or an artefact.

Which division meets an exact zero depends on how a processor rounds: `np.errstate` turns every one of them into an
error, and the sets below hit exact zeros on any machine.
"""

import numpy as np
import pytest

from fertool.faces import align, frontal, pose, pose_net
from fertool.faces.mean_head import POINTS
from fertool.occlusion.draw import cover
from fertool.occlusion.geometry import face_of
from fertool.regions import crops, masks
from fertool.regions.points import eight_points, five_points, usable
from fertool.regions.soft_boxes import soft_boxes
from fertool.subsets import OCCLUSIONS

SIDE = 32
SHAPE = (SIDE, SIDE)
IMAGE = np.full((*SHAPE, 1), 140, np.uint8)
HEAD = (POINTS - POINTS.mean(axis=0))[:, :2] * 0.27 * SIDE + [0.5 * SIDE, 0.56 * SIDE]

#: whether each set can place anything, and the set
LANDMARKS = {
    "all in the corner": (False, np.zeros((68, 2))),
    "all in one place": (False, np.full((68, 2), 30.1)),
    "almost in one place": (False, HEAD * 1e-9 + 30.1),
    "on a vertical line": (True, HEAD * [0, 1] + [30.1, 0]),
    "on a horizontal line": (True, HEAD * [1, 0] + [0, 30.1]),
    "on a diagonal": (True, HEAD[:, :1].repeat(2, axis=1)),
    "in two places": (True, np.repeat([[3.0, 3.0], [29.0, 29.0]], 34, axis=0)),
    "mirrored": (True, HEAD * [-1, 1] + [SIDE, 0]),
    "beyond the image": (True, HEAD + 500),
    "far beyond the image": (False, HEAD + 1e9),
    "too large for float32": (False, HEAD * 1e300),
    "infinite": (False, np.full((68, 2), np.inf)),
    "missing": (False, np.full((68, 2), np.nan)),
}


@pytest.fixture(autouse=True)
def strict():
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


def subset(marks: np.ndarray, count: int) -> np.ndarray:
    """A set of 68, 37 or 5 landmarks that is degenerate in the same way."""
    if count == 5:
        return marks[[36, 45, 30, 48, 54]]
    return marks if count == 68 else np.concatenate([marks[17:30], marks[36:60]])


@pytest.mark.parametrize("count", [68, 37, 5])
@pytest.mark.parametrize("name", LANDMARKS)
def test_degenerate_landmarks_place_nothing_or_something_finite(name, count):
    good, marks = LANDMARKS[name]
    marks = subset(marks, count)
    assert usable(marks) == good
    for points in (five_points(marks[None]), eight_points(marks[None])):
        assert (np.isnan(points) | (np.abs(points) < 1e7)).all()
    assert np.isfinite(crops.landmark_boxes(five_points(marks[None]), 0.4, SHAPE)).all()
    assert masks.masks_of(masks.region_boxes(marks[None], SHAPE)).max() <= 1
    for template in align.TEMPLATES:
        if align.TEMPLATES[template].of and count != 68:
            continue
        matrix = align.align(marks, template, SIDE, "similarity")
        assert matrix is None or (good and np.isfinite(matrix).all())
        if matrix is not None:
            assert align.warp(IMAGE[..., 0], matrix, SIDE).shape == SHAPE
    if count == 68:
        angles, error = pose.estimate(marks)
        assert np.isfinite([*angles, error]).all() or np.isnan([*angles, error]).all()
        for turn in ((0.0, 0.0, 0.0), (10.0, 40.0, -5.0)):
            view = frontal.see(marks, "eyes-mouth", SIDE, angles=turn)
            assert view is None or (good and view.draw(IMAGE[..., 0]).shape == SHAPE)


@pytest.mark.parametrize("count", [68, 5])
@pytest.mark.parametrize("name", [name for name, (_, marks) in LANDMARKS.items() if np.isfinite(marks).all()])
def test_degenerate_landmarks_draw_no_nan(name, count):
    marks = subset(LANDMARKS[name][1], count)
    face = face_of(marks, SHAPE)
    assert np.linalg.norm(face.down) == pytest.approx(1)
    assert all(np.isfinite(axis).all() for axis in face.axes)
    for kind in OCCLUSIONS:
        for severity in (0.05, 0.3, 0.5):
            covered = next(cover(IMAGE, marks, kind, [severity], key="a"))
            assert covered.image.shape == IMAGE.shape
            assert 0 <= covered.covered <= 1


def test_landmarks_in_one_place_count_as_an_upright_face():
    assert face_of(np.zeros((68, 2)), SHAPE).down.tolist() == [0, 1]
    on_a_line = face_of(HEAD * [1, 0], SHAPE)
    assert on_a_line.down == pytest.approx([0, 1])


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (5, 5, 9, 5), (9, 9, 5, 5), (1e30, 0, 1e31, 9), (np.nan,) * 4])
def test_a_box_without_an_area(box):
    box = np.array(box, dtype=float)
    if np.isfinite(box).all():
        assert np.isfinite(align.crop(box, SIDE, 0.1)).all()
    if np.abs(box).max() < 1e6:
        weights = soft_boxes(box[None], *SHAPE)
        assert np.isfinite(weights).all()
    angles, errors = pose_net.estimate([IMAGE[..., 0]], [box], "mtcnn")
    assert np.isnan([*angles[0], *errors]).all()
