"""Detectors, landmarks, alignment and head pose, on rendered faces and in closed form."""

import csv

import cv2
import numpy as np
import pytest

from fertool import detectors, landmarks
from fertool.detectors import base
from fertool.detectors import mtcnn as mtcnn_file
from fertool.errors import OutOfMemoryError, UsageError
from fertool.faces import align, pose
from fertool.faces.images import read_image
from fertool.faces.mean_head import POINTS, rotation
from fertool.regions.points import five_points

RNG = np.random.default_rng(0)


def turned(degrees, scale, shift):
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


# ------------------------------------------------------------------------------------------------------ alignment


def test_a_similarity_is_recovered_and_never_mirrors():
    matrix, points = turned(33, 0.4, (5, -8)), RNG.normal(0, 20, (7, 2))
    assert np.allclose(align.similarity(points, align.apply(matrix, points)), matrix)
    assert np.allclose(align.apply(align.invert(matrix), align.apply(matrix, points)), points)
    mirrored = align.similarity(points, points * (-1, 1))
    assert np.linalg.det(mirrored[:, :2]) > 0
    noisy = align.apply(matrix, points) + RNG.normal(0, 1, points.shape)
    best = ((align.apply(align.similarity(points, noisy), points) - noisy) ** 2).sum()
    for other in (turned(33.5, 0.4, (5, -8)), turned(33, 0.41, (5, -8)), turned(33, 0.4, (5.3, -8))):
        assert best <= ((align.apply(other, points) - noisy) ** 2).sum()


def test_an_affine_transform_is_recovered():
    matrix, points = np.array([[1.2, 0.3, 4], [-0.2, 0.7, 1]]), RNG.normal(0, 20, (3, 2))
    assert np.allclose(align.affine(points, align.apply(matrix, points)), matrix)


@pytest.mark.parametrize("template", align.TEMPLATES)
@pytest.mark.parametrize("kind", ["similarity", "affine"])
def test_landmarks_come_to_the_template(template, kind):
    """A face that has the template's own shape, turned and scaled, must come to lie on it exactly."""
    goal = np.array(align.TEMPLATES[template].points) * 100 - 0.5
    marks = RNG.normal(50, 20, (68, 2))
    if template == "dlib-chip":
        marks[[36, 39, 42, 45, 33]] = goal
    else:
        marks[36:42], marks[42:48] = goal[0], goal[1]
        marks[[48, 54]] = goal[2] + [(-9, 1), (9, -1)] if len(goal) > 2 else (50, 80)
    photo = align.apply(turned(-20, 3.1, (40, 90)), marks)
    if template == "eyes" and kind == "affine":
        with pytest.raises(UsageError, match="do not determine"):
            align.check(template, 68, kind)
        return
    align.check(template, 68, kind)
    there = align.apply(align.align(photo, template, 100, kind), photo)
    assert np.allclose(there, marks)


def test_templates_say_what_they_need():
    with pytest.raises(UsageError, match="needs 68 landmarks, not 5"):
        align.check("dlib-chip", 5, "similarity")
    missing, together = np.full((68, 2), np.nan), np.full((68, 2), 7.0)
    for kind in ("similarity", "affine"):
        assert align.align(missing, "eyes-mouth", 64, kind) is None
        assert align.align(together, "eyes-mouth", 64, kind) is None


def test_the_dlib_template_is_dlibs(rendered_face):
    import dlib

    image, marks, _ = rendered_face
    five = marks[list((45, 42, 36, 39, 33))]  # dlib's five points: the corners of the left eye first
    parts = [dlib.point(*map(round, map(float, p))) for p in five]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, 127, 127), parts)
    chip = dlib.get_face_chip(image, shape, size=96, padding=0.25).astype(float)
    rounded = marks.copy()
    rounded[[45, 42, 36, 39, 33]] = np.round(five)
    ours = align.warp(image, align.align(rounded, "dlib-chip", 96, "similarity"), 96).astype(float)
    inside = (chip.sum(axis=2) > 0) & (np.arange(96) > 8)[:, None]  # dlib paints black beyond the image
    apart = np.abs(chip - ours).mean(axis=2)[inside].mean()
    shifted = np.abs(chip - np.roll(ours, 2, axis=1)).mean(axis=2)[inside].mean()
    assert apart < 4
    assert apart < shifted / 2


def test_the_square_around_a_box():
    matrix = align.crop(np.array([10, 20, 50, 40]), 80, margin=0.25)
    corners = align.apply(align.invert(matrix), np.array([(-0.5, -0.5), (79.5, 79.5)]))
    assert np.allclose(corners, [(0, 0), (60, 60)])  # 40 wide and high about (30, 30), a quarter more on each side


@pytest.mark.parametrize(("size", "height"), [(125, 160), (60, 40)])
def test_the_output_may_be_a_rectangle(size, height):
    goal = np.array(align.TEMPLATES["eyes"].points) * size - 0.5 + (0, (height - size) / 2)
    five = np.concatenate([goal, RNG.normal(60, 20, (3, 2))])
    photo = align.apply(turned(-20, 3.1, (40, 90)), five)
    assert np.allclose(align.apply(align.align(photo, "eyes", size, "similarity", height), photo), five)

    image = RNG.integers(0, 256, (height, size, 3), dtype=np.uint8)
    whole = align.crop(np.array([-0.5, -0.5, size - 0.5, height - 0.5]), size, height=height)
    assert (align.warp(image, whole, size, height) == image).all()
    box = np.array([10, 20, 50, 40])  # lies whole and in the middle of the output
    corners = align.apply(align.crop(box, size, height=height), box.reshape(2, 2).astype(float))
    assert np.allclose(corners.mean(axis=0), ((size - 1) / 2, (height - 1) / 2))
    assert np.allclose(corners[:, 0], (-0.5, size - 0.5))
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[:, None], 90, axis=1)
    small = align.warp(ramp, turned(0, 0.2, (0, 0)), 18, 40)
    assert small.shape == (40, 18)
    assert np.abs(small[2:-2, 9] - 5.0 * np.arange(2, 38)).max() <= 1


def test_warping_keeps_what_need_not_change():
    image = RNG.integers(0, 256, (48, 48), dtype=np.uint8)
    whole = align.crop(np.array([-0.5, -0.5, 47.5, 47.5]), 48)
    assert (align.warp(image, whole, 48) == image).all()


def test_warping_averages_when_it_shrinks_and_repeats_the_edge():
    board = ((np.indices((300, 300)).sum(axis=0) % 2) * 255).astype(np.uint8)
    small = align.warp(board, align.crop(np.array([-0.5, -0.5, 299.5, 299.5]), 43), 43)
    assert np.abs(small.astype(int) - 127).max() < 12
    halves = np.zeros((300, 300), np.uint8)
    halves[:, 150:] = 200
    beyond = align.warp(halves, align.crop(np.array([-150.5, -150.5, 449.5, 449.5]), 60), 60)
    assert (beyond[:, :28] == 0).all()
    assert (beyond[:, 32:] == 200).all()


@pytest.mark.parametrize("scale", [0.13, 0.5, 1, 2.7])
def test_landmarks_go_where_pixels_go(scale):
    """A blob drawn at a point has its centre of mass where the transform takes the point."""
    x, y = np.meshgrid(np.arange(400), np.arange(400))
    wide = 12 / max(1, scale)
    blob = (255 * np.exp(-((x - 210) ** 2 + (y - 180) ** 2) / (2 * wide**2))).astype(np.uint8)
    matrix = turned(25, scale, (0, 0))
    matrix[:, 2] = (60, 70) - matrix[:, :2] @ (213, 176)
    out = align.warp(blob, matrix, 128).astype(float)
    gx, gy = np.meshgrid(np.arange(128), np.arange(128))
    centre = np.array([(out * gx).sum(), (out * gy).sum()]) / out.sum()
    assert np.abs(centre - align.apply(matrix, np.array([210, 180]))).max() < 0.12


# ------------------------------------------------------------------------------------------------------ head pose


def seen(pitch, yaw, roll, distance=16.0):
    points = POINTS @ rotation(pitch, yaw, roll).T
    return 90 * (distance / (distance + points[:, 2]))[:, None] * points[:, :2] + (300, 200)


@pytest.mark.parametrize("angles", [(0, 0, 0), (15, 30, -20), (-30, 60, 15), (40, -75, 0), (5, -5, 120)])
def test_the_pose_of_the_mean_head_is_exact(angles):
    found, error = pose.estimate(seen(*angles))
    assert np.allclose(found, angles, atol=0.01)
    assert error < 1e-4


def test_pose_signs_and_error():
    yaw_right = pose.estimate(seen(0, 25, 0))[0]
    assert seen(0, 25, 0)[30, 0] > seen(0, 25, 0)[[36, 45], 0].mean()  # the nose is to the picture's right
    assert yaw_right[1] > 20
    looks_up = seen(25, 0, 0)
    assert looks_up[30, 1] < seen(0, 0, 0)[30, 1]
    assert pose.estimate(looks_up)[0][0] > 20
    clockwise = seen(0, 0, 30)
    assert clockwise[45, 1] > clockwise[36, 1]  # the eye on the right is lower
    assert pose.estimate(clockwise)[0][2] == pytest.approx(30, abs=0.1)

    shaken = seen(10, 20, 5) + RNG.normal(0, 0.05 * 90, (68, 2))
    found, error = pose.estimate(shaken)
    assert np.abs(np.subtract(found, (10, 20, 5))).max() < 6
    assert 0.04 < error < 0.12  # 0.05 in x and in y
    wild = seen(10, 20, 5)
    wild[[20, 50, 60]] += (200, -90)
    assert np.abs(np.subtract(pose.estimate(wild)[0], (10, 20, 5))).max() < 3
    assert np.allclose(pose.estimate(seen(10, 20, 5, distance=60.0))[0], (10, 20, 5), atol=3)  # another camera


def test_no_pose_without_landmarks():
    for marks in (np.full((68, 2), np.nan), np.zeros((68, 2)), np.stack([np.arange(68.0), np.zeros(68)], axis=1)):
        angles, error = pose.estimate(marks)
        assert np.isnan([*angles, error]).all()


# ------------------------------------------------------------------------------------------------------ detection


@pytest.fixture(scope="module")
def truth(rendered):
    """Rendered faces without anything before them, near the camera: image, landmarks, pose."""
    marks = np.load(rendered / "landmarks.npy")
    with open(rendered / "rendered.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    plain = [
        (read_image(rendered / row["path"]), marks[i].astype(float), [float(row[a]) for a in ("pitch", "yaw", "roll")])
        for i, row in enumerate(rows)
        if not row["occlusion"] and abs(float(row["yaw"])) < 20 and abs(float(row["pitch"])) < 15
    ]
    assert len(plain) >= 20
    return plain[:20]


@pytest.fixture(scope="module")
def rendered_face(truth):
    return truth[0]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in a worker; several are slower on small networks, and very slow on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def mtcnn():
    return detectors.make("mtcnn")


@pytest.mark.parametrize(("name", "share"), [("mtcnn", 0.9), ("dlib-hog", 0.8)])
def test_detectors_find_faces_large_and_tiny(truth, name, share):
    detector = detectors.make(name)
    for side in (128, 48):
        right = 0
        for image, marks, _ in truth:
            small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            (faces,) = detector.detect([small])
            if len(faces):
                x0, y0, x1, y1 = faces.boxes[faces.largest()] * (128 / side)
                centre, width = marks[17:].mean(axis=0), np.ptp(marks[17:], axis=0).max()
                off = np.abs(np.array([(x0 + x1) / 2, (y0 + y1) / 2]) - centre).max()
                right += off < 0.3 * width and 0.8 * width < x1 - x0 < 2.2 * width
        assert right >= share * len(truth), f"{right} of {len(truth)} at {side} pixels"


def test_dlibs_cnn_finds_a_face(rendered_face):
    image, marks, _ = rendered_face
    (faces,) = detectors.make("dlib-cnn", detectors.Options(upsample=0)).detect([image])
    x0, y0, x1, y1 = faces.boxes[faces.largest()]
    assert (marks[30] > (x0, y0)).all()
    assert (marks[30] < (x1, y1)).all()
    assert faces.scores[0] > 0.5


def test_mtcnn_gives_the_same_in_a_batch_as_alone(truth, mtcnn):
    small = [cv2.resize(image, (60, 60), interpolation=cv2.INTER_AREA) for image, _, _ in truth]
    together = list(mtcnn.detect(small))
    assert sum(len(faces) for faces in together) > 10
    for image, faces in zip(small, together, strict=True):
        (alone,) = mtcnn.detect([image])
        assert len(alone) == len(faces)
        assert np.abs(alone.boxes - faces.boxes).max(initial=0) < 0.05
        assert np.abs(alone.points - faces.points).max(initial=0) < 0.05


def test_mtcnns_networks_see_few_sizes_of_batches_and_say_the_same(truth, mtcnn):
    from facenet_pytorch import MTCNN

    sizes, images = [], [image for image, _, _ in truth[:6]]
    nets = (mtcnn._net.rnet, mtcnn._net.onet)
    hooks = [net.conv1.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0]))) for net in nets]
    found = [faces for image in images for faces in mtcnn.detect([image])]
    for hook in hooks:
        hook.remove()
    assert len(sizes) == 12
    assert not any(size % 16 for size in sizes)
    plain = MTCNN(keep_all=True)
    for image, faces in zip(images, found, strict=True):
        boxes, scores, points = plain.detect(image, landmarks=True)
        order = np.argsort(-faces.scores)
        assert np.abs(faces.boxes[order] - boxes[np.argsort(-scores)]).max() < 0.05
        assert np.abs(faces.points[order] - points[np.argsort(-scores)]).max() < 0.05


def test_no_memory_is_not_taken_for_no_face(truth, mtcnn):
    def fail(*_):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1234 bytes")

    hook = mtcnn._net.pnet.register_forward_pre_hook(fail)
    try:
        with pytest.raises(OutOfMemoryError, match="not enough memory"):
            list(mtcnn.detect([truth[0][0]]))
    finally:
        hook.remove()


def test_of_equal_scores_the_last_box_stays_whatever_is_beside_it():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]] * 20, dtype=float)
    scores = np.array([0.9, 0.9, 0.5] * 20)
    assert mtcnn_file._suppress(boxes, scores, 0.7, "Min").tolist() == [58, 59]


def test_a_candidate_outside_of_the_photograph_is_no_face(rendered_face):
    import torch

    class Outside(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            shift, score = self.net(x)
            return torch.full_like(shift, 50.0), torch.ones_like(score)

    broken = detectors.make("mtcnn")
    broken._net.pnet = Outside(broken._net.pnet)
    assert [len(faces) for faces in broken.detect([rendered_face[0]] * 2)] == [0, 0]


@pytest.mark.parametrize("shape", [(1, 1), (3, 90), (500, 5), (2000, 30)])
@pytest.mark.parametrize("name", ["mtcnn", "dlib-hog", "dlib-cnn"])
def test_odd_pictures_have_no_face(name, shape):
    (faces,) = detectors.make(name).detect([np.full((*shape, 3), 99, np.uint8)])
    assert len(faces) == 0
    assert faces.boxes.shape == (0, 4)


def test_a_view_leads_back_to_the_photograph():
    for height, width in ((48, 48), (30, 70), (300, 400), (2000, 3000)):
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        shown = base.view(np.dstack([x, y]).astype(np.float32), 96)
        assert max(shown.pixels.shape) <= base.LARGEST
        assert min(shown.pixels.shape[:2]) >= 96
        assert shown.enlarged == (height < 96)
        row, column = np.array(shown.pixels.shape[:2]) // 3
        assert np.allclose(shown.back(np.array([column, row])), shown.pixels[row, column], atol=1.0)


# ------------------------------------------------------------------------------------------------------ landmarks


def apart(found, marks):
    """Mean distance without the jaw, relative to that of the outer eye corners."""
    return np.linalg.norm(found - marks, axis=1)[17:].mean() / np.linalg.norm(marks[36] - marks[45])


def test_68_landmarks_whoever_draws_the_box(truth, mtcnn):
    ert = landmarks.make("ert68")
    by_points, by_box, by_whole, upside = [], [], [], []
    for image, marks, _ in truth:
        (faces,) = mtcnn.detect([image])
        if not len(faces):
            continue
        box, five = faces.boxes[faces.largest()], faces.points[faces.largest()]
        by_points.append(apart(ert.place(image, box, five, "mtcnn"), marks))
        by_box.append(apart(ert.place(image, box, None, "mtcnn"), marks))
        tight = align.crop(np.array([*(marks.min(axis=0) - 6), *(marks.max(axis=0) + 6)]), 90)
        cut = align.warp(image, tight, 90)
        whole = np.array([-0.5, -0.5, 89.5, 89.5])
        by_whole.append(apart(ert.place(cut, whole, None, "none"), align.apply(tight, marks)))
        spin = turned(50, 1, (0, 0))
        spin[:, 2] = 63.5 - spin[:, :2] @ (63.5, 63.5)
        spun = align.warp(image, spin, 128)
        upside.append(apart(ert.place(spun, box, align.apply(spin, five), "mtcnn"), align.apply(spin, marks)))
    for errors in (by_points, by_box, by_whole, upside):
        assert len(errors) >= 15
        assert np.median(errors) < 0.08, np.median(errors)


def test_landmarks_are_placed_again_where_the_first_square_was_wrong(truth):
    ert, placed = landmarks.make("ert68"), []
    predict = ert._predict
    ert._predict = lambda *given: placed.append(1) or predict(*given)

    def placements(points, shift):
        placed.clear()
        for image, marks, _ in truth[:10]:
            low, high = marks.min(axis=0), marks.max(axis=0)
            ert.place(image, np.array([*low, *high]), points and five_points(marks[None])[0] + shift, "mtcnn")
        return len(placed)

    assert 10 <= placements(True, 0) < 15
    assert placements(True, 20) > 18  # of 128 pixels
    assert placements(None, 0) == 20  # a box alone says too little


def test_five_landmarks_for_any_box(truth, mtcnn):
    onet = landmarks.make("mtcnn5")
    errors = []
    for image, marks, _ in truth:
        (faces,) = mtcnn.detect([image])
        if len(faces):
            box, five = faces.boxes[faces.largest()], faces.points[faces.largest()]
            assert (onet.place(image, box, five, "mtcnn") == five).all()
            goal = five_points(marks[None])[0]
            found = onet.place(image, box, None, "dlib-hog")
            errors.append(np.linalg.norm(found - goal, axis=1).mean() / np.linalg.norm(goal[0] - goal[1]))
    assert np.median(errors) < 0.12


def test_pose_of_found_landmarks(truth, mtcnn):
    ert = landmarks.make("ert68")
    off = []
    for image, _, angles in truth:
        (faces,) = mtcnn.detect([image])
        if len(faces):
            marks = ert.place(image, faces.boxes[0], faces.points[0], "mtcnn")
            off.append(np.abs(np.subtract(pose.estimate(marks)[0], angles)))
    assert (np.median(off, axis=0) < (10, 6, 3)).all(), np.median(off, axis=0)
