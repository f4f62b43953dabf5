"""Tracks by boxes and descriptors alone, and the descriptors beside dlib's own."""

import numpy as np
from PIL import Image

from fertool.faces.descriptor import Descriptor
from fertool.faces.tracking import CERTAIN, Tracker
from fertool.pretrained.dlib_dat import model_file


def person(seed):
    """Descriptors of a person: unit vectors, about 1.4 from those of others, 0.2 from one another."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=128)
    middle /= np.linalg.norm(middle)
    while True:
        yield middle + rng.normal(0, 0.2 / np.sqrt(256), 128)


def walk(*frames, step=0.1):
    """Numbers of faces in frames of [(person, x)]; boxes are 100 pixels wide, None has no descriptor."""
    people, tracker, numbers = {name: person(i + 1) for i, name in enumerate("ABCD")}, Tracker(), []
    for i, faces in enumerate(frames):
        boxes = np.array([(x, 50, x + 100, 150) for _, x in faces], float).reshape(-1, 4)
        described = [np.full(128, np.nan) if name is None else next(people[name]) for name, _ in faces]
        numbers.append(tracker(i * step, boxes, np.array(described).reshape(-1, 128)))
    return numbers


def test_people_who_cross_keep_their_numbers():
    frames = [[("A", 20 * i), ("B", 400 - 20 * i)] for i in range(21)]
    hidden = [frame[1:] if 8 <= i <= 12 else frame for i, frame in enumerate(frames)]
    assert walk(*frames) == [[1, 2]] * 21
    assert walk(*hidden) == [[2] if len(frame) == 1 else [1, 2] for frame in hidden]


def test_boxes_alone_suffice_where_nobody_has_a_descriptor():
    frames = [[(None, 20 * i), (None, 300 + 10 * i)] for i in range(10)]
    assert walk(*frames) == [[1, 2]] * 10
    assert walk([(None, 0)], [(None, 300)]) == [[1], [2]]


def test_somebody_who_comes_back_is_known_again():
    away = [[("B", 300)]] * 40
    assert walk([("A", 0), ("B", 300)], *away, [("A", 500), ("B", 300)], [("C", 500), ("B", 300)])[-2:] == [
        [1, 2],
        [3, 2],
    ]


def test_another_person_in_the_same_place_is_another_track():
    """As after a cut."""
    assert walk(*[[("A", 100)]] * 5, *[[("B", 105)]] * 5, *[[("A", 100)]] * 2) == [[1]] * 5 + [[2]] * 5 + [[1]] * 2


def test_frames_far_apart_and_empty_ones():
    assert walk([("A", 0)], [], [(None, 10)], step=10) == [[1], [], [2]]
    assert walk([(None, 0)], [(None, 10)], step=10) == [[1], [1]]


def test_descriptors_are_those_of_dlib(rendered):
    import dlib

    image = np.asarray(Image.open(next((rendered / "images").rglob("*.png"))).convert("RGB"))
    box = next(iter(dlib.get_frontal_face_detector()(image, 1)))
    shape = dlib.shape_predictor(str(model_file("shape_predictor_68_face_landmarks.dat")))(image, box)
    marks = np.array([(p.x, p.y) for p in shape.parts()], float)
    net = dlib.face_recognition_model_v1(str(model_file("dlib_face_recognition_resnet_model_v1.dat")))
    mine = Descriptor()(image, [marks, np.zeros((68, 2))])
    # dlib cuts the face out by more of its points
    assert np.linalg.norm(mine[0] - np.array(net.compute_face_descriptor(image, shape))) < CERTAIN / 2
    assert np.isnan(mine[1]).all()
