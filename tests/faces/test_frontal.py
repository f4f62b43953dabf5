"""Turned heads seen from the front."""

import numpy as np
import pytest

from fertool import artefact
from fertool.datasets import open_dataset
from fertool.errors import UsageError
from fertool.faces import align, frontal
from fertool.faces.mean_head import POINTS, rotation
from fertool.faces.status import KEPT, OK
from fertool.regions.points import five_points
from fertool.rendering.render import FaceSpec, render_face
from fertool.settings import DetectAlign
from fertool.stages import detect_align

SIZE = 96
EYES_MOUTH = np.array([(0.30, 0.35), (0.70, 0.35), (0.50, 0.78)]) * SIZE - 0.5


def drawn(pitch, yaw, roll, scale=60.0):
    """The mean head's landmarks in an image."""
    return scale * (POINTS @ rotation(pitch, yaw, roll).T)[:, :2] + (170, 120)


def eyes_mouth(landmarks):
    five = five_points(landmarks[None])[0]
    return np.stack([five[0], five[1], five[3:].mean(axis=0)])


def alike(a, b):
    return np.corrcoef(a[16:88, 12:84].ravel(), b[16:88, 12:84].ravel())[0, 1]


@pytest.fixture(scope="module")
def person():
    """One person looking ahead, and turned by 25°."""
    spec = {"subject": 31, "expression": "happiness", "intensity": 0.7, "seed": 6, "size": 200}
    return render_face(FaceSpec(**spec)), render_face(FaceSpec(yaw=25.0, **spec))


@pytest.mark.parametrize("turn", [(0, 0, 0), (4, 25, -10), (-8, -35, 15)])
def test_the_mean_head_comes_out_as_it_looks_from_the_front(turn):
    ahead = frontal.see(drawn(0, 0, 0), "eyes-mouth", SIZE).landmarks
    view = frontal.see(drawn(*turn), "eyes-mouth", SIZE)
    assert np.abs(view.landmarks - ahead).max() < 0.06 * SIZE
    assert np.abs(eyes_mouth(view.landmarks) - EYES_MOUTH).max() < 0.02 * SIZE


def test_the_matrix_is_that_of_eyes_and_mouth():
    marks = drawn(4, 25, -10)
    view = frontal.see(marks, "eyes-mouth", SIZE)
    carried = align.apply(view.matrix, marks)
    assert np.abs(eyes_mouth(carried) - eyes_mouth(view.landmarks)).max() < 0.05 * SIZE
    assert np.linalg.norm(carried[30] - view.landmarks[30]) > 0.05 * SIZE  # the nose lies before that plane


def test_a_turned_face_resembles_the_same_face_looking_ahead(person):
    ahead, turned = person
    marks = turned.landmarks.astype(np.float64)
    flat_matrix = align.align(marks, "eyes-mouth", SIZE, "similarity")
    aim_matrix = align.align(ahead.landmarks.astype(np.float64), "eyes-mouth", SIZE, "similarity")
    aim, aim_marks = align.warp(ahead.pixels, aim_matrix, SIZE), align.apply(aim_matrix, ahead.landmarks)
    flat, flat_marks = align.warp(turned.pixels, flat_matrix, SIZE), align.apply(flat_matrix, marks)
    view = frontal.see(marks, "eyes-mouth", SIZE)
    face = view.draw(turned.pixels)
    assert face.shape == (SIZE, SIZE, 3)
    assert np.abs(eyes_mouth(view.landmarks) - EYES_MOUTH).max() < 0.03 * SIZE

    def apart(points):
        return np.linalg.norm(points - aim_marks, axis=1)[17:].mean()

    assert apart(view.landmarks) < 0.6 * apart(flat_marks)
    assert alike(face, aim) > alike(flat, aim) + 0.1
    assert alike(face, face[:, ::-1]) > alike(flat, flat[:, ::-1]) + 0.2


def test_what_the_photograph_hides_is_taken_from_the_other_half(person):
    """Half an image is painted over: on the far side of a turned head the near cheek shows in its place."""
    _, turned = person
    view = frontal.see(turned.landmarks.astype(np.float64), "eyes-mouth", SIZE)
    near = turned.pixels.copy()
    near[:, : int(turned.landmarks[27, 0])] = (255, 0, 0)  # the head looks to the right: left is the near cheek
    face = view.draw(near)
    red = (face[..., 0] > 150) & (face[..., 1] < 90)
    cheek = slice(int(0.5 * SIZE), int(0.75 * SIZE))
    assert red[cheek, : SIZE // 8].all()
    assert red[cheek, -SIZE // 6 : -SIZE // 12].mean() > 0.8
    assert not red[int(0.32 * SIZE) : int(0.38 * SIZE), int(0.64 * SIZE) : int(0.72 * SIZE)].any()  # far eye


def test_grey_pictures_and_outputs_that_are_no_squares(person):
    _, turned = person
    view = frontal.see(turned.landmarks.astype(np.float64), "eyes-mouth", 50, 64)
    grey = view.draw(np.ascontiguousarray(turned.pixels[..., 1]))
    assert grey.shape == (64, 50)
    expected = np.array([(0.30, 0.35), (0.70, 0.35), (0.50, 0.78)]) * 50 - 0.5 + (0, 7)
    assert np.abs(eyes_mouth(view.landmarks) - expected).max() < 2


@pytest.mark.parametrize("marks", [np.full((68, 2), np.nan), np.ones((68, 2)), drawn(0, 70, 0)])
def test_heads_that_show_too_little_of_their_front(marks):
    assert frontal.see(marks, "eyes-mouth", SIZE) is None


def test_detect_align_turns_faces_to_the_front(rendered, tmp_path):
    how = {"detector": "none", "landmarks": "dataset", "size": 64, "align": "frontal", "pose": "landmarks"}
    out = detect_align.run(
        open_dataset(rendered), settings=DetectAlign(**how), out=tmp_path / "faces.h5", limit=24, workers=1
    )
    faces = artefact.read(out, "faces")
    status, marks = np.asarray(faces["status"]), np.asarray(faces["landmarks"])
    assert set(status) <= {OK, KEPT}
    assert (status == OK).sum() >= 20
    for row in np.flatnonzero(status == OK):
        assert np.abs(eyes_mouth(marks[row]) - (EYES_MOUTH + 0.5) * 64 / SIZE).max() < 4
    assert np.isfinite(faces["transform"]).all()
    settings = DetectAlign(**how | {"landmarks": "mtcnn5"})
    with pytest.raises(UsageError, match="drawn by 68 landmarks, not 5"):
        detect_align.run(open_dataset(rendered), settings=settings, out=tmp_path / "five.h5")
