import numpy as np
import pytest
from made_faces import FIVE, make_faces

from fertool import artefact
from fertool.errors import ArtefactError
from fertool.faces.status import OK, UNREADABLE
from fertool.labels import PROTOCOLS
from fertool.regions.masks import REGIONS, constant_masks, masks_of, region_boxes
from fertool.regions.points import EIGHT, eight_points, five_points
from fertool.settings import MakeMasks
from fertool.stages import make_masks

CLASSES = PROTOCOLS["rafdb7"]
SIZE = 224


def on_face(fractions) -> np.ndarray:
    """Fractions of the face as landmarks of one face in pixels."""
    return np.asarray(fractions, float)[None] * SIZE - 0.5


def sixty_eight() -> np.ndarray:
    """68 points that differ all over, (1, 68, 2)."""
    return np.random.default_rng(0).uniform(0, SIZE, (1, 68, 2))


def test_eight_points_of_68_are_the_ones_table_2_uses():
    p = sixty_eight()
    np.testing.assert_array_equal(eight_points(p), p[:, [30, 36, 39, 42, 45, 48, 54, 57]])
    assert len(EIGHT) == 8


def test_the_lower_lip_can_be_another_point(tmp_path):
    p = sixty_eight()
    np.testing.assert_array_equal(eight_points(p, 8)[:, 7], p[:, 8])
    marked = make_faces(tmp_path / "68.h5", list("ab"), CLASSES, landmarks=np.repeat(p / 7, 2, axis=0).astype("f4"))
    usual, chin = (
        artefact.read(make_masks.run(marked, settings=MakeMasks(lip_point=k), out=tmp_path / f"{k}.h5"), "masks")
        for k in (57, 8)
    )
    assert not np.array_equal(usual["masks"][:, 2], chin["masks"][:, 2])
    assert np.array_equal(usual["masks"][:, 3:], chin["masks"][:, 3:])
    assert "lip_point" not in usual.params
    assert chin.params["lip_point"] == 8


def test_five_points_of_68_are_eye_centres_nose_and_mouth_corners():
    p = sixty_eight()
    five = five_points(p)
    np.testing.assert_allclose(five[0, 0], p[0, 36:42].mean(axis=0))
    np.testing.assert_allclose(five[0, 1], p[0, 42:48].mean(axis=0))
    np.testing.assert_array_equal(five[0, 2:], p[0, [30, 48, 54]])


def test_eight_points_of_5_keep_the_eye_centres():
    nose, l2, l3, l4, l5, left, right, lip = eight_points(on_face(FIVE))[0]
    left_eye, right_eye = on_face(FIVE)[0, :2]
    np.testing.assert_allclose((l2 + l3) / 2, left_eye)
    np.testing.assert_allclose((l4 + l5) / 2, right_eye)
    np.testing.assert_allclose(l3 - l2, [0.3 * 0.4 * SIZE, 0], atol=1e-9)
    np.testing.assert_allclose([nose, left, right], on_face(FIVE)[0, 2:])
    np.testing.assert_allclose(lip, on_face([[0.5, 0.78 + 0.25 * 0.28]])[0, 0])


def test_eight_points_of_5_turn_with_the_face():
    turn = np.array([[0, 1], [-1, 0]])  # x, y -> -y, x: a quarter to the right
    np.testing.assert_allclose(eight_points(on_face(FIVE) @ turn), eight_points(on_face(FIVE)) @ turn, atol=1e-9)


def test_eight_points_of_37_are_extremes_of_eyes_and_mouth():
    circle = np.stack([np.cos(np.linspace(0, 2 * np.pi, 6, False)), np.sin(np.linspace(0, 2 * np.pi, 6, False))], 1)
    mouth = np.stack([np.cos(np.linspace(0, 2 * np.pi, 12, False)), np.sin(np.linspace(0, 2 * np.pi, 12, False))], 1)
    brows_and_nose = np.zeros((13, 2))
    points = np.concatenate(
        [brows_and_nose, circle * [10, 4] + [60, 80], circle * [10, 4] + [140, 80], mouth * [30, 9] + [100, 180]]
    )[None]
    nose, l2, l3, l4, l5, left, right, lip = eight_points(points)[0]
    np.testing.assert_allclose([l2, l3, l4, l5], [[50, 80], [70, 80], [130, 80], [150, 80]], atol=1e-9)
    np.testing.assert_allclose([left, right, lip], [[70, 180], [130, 180], [100, 189]], atol=1e-9)
    np.testing.assert_allclose(nose, [100, 131])
    np.testing.assert_allclose(five_points(points)[0], [[60, 80], [140, 80], nose, left, right], atol=1e-9)


def test_eight_points_of_42_take_eye_corners_and_lip_of_the_37_where_there_are_any():
    rng = np.random.default_rng(1)
    five, automatic = np.repeat(on_face(FIVE), 2, axis=0), rng.uniform(0, SIZE, (2, 37, 2))
    automatic[1] = np.nan
    both = np.concatenate([five, automatic], axis=1)
    by_hand, outlined, eight = eight_points(five), eight_points(automatic), eight_points(both)
    np.testing.assert_array_equal(eight[0, [1, 2, 3, 4, 7]], outlined[0, [1, 2, 3, 4, 7]])
    np.testing.assert_array_equal(eight[0, [0, 5, 6]], by_hand[0, [0, 5, 6]])
    np.testing.assert_array_equal(eight[1], by_hand[1])
    np.testing.assert_array_equal(five_points(both), five)


def test_corrected_regions_contain_what_they_are_named_after():
    boxes = region_boxes(on_face(FIVE), (SIZE, SIZE))[0]
    box = dict(zip(REGIONS, boxes, strict=True))

    def inside(name, point):
        return (box[name][:2] < point).all() and (point < box[name][2:]).all()

    np.testing.assert_allclose(box["face"], [0, 0, 1, 1])
    np.testing.assert_allclose(box["eyes"], [0.14, 0.17, 0.86, 0.53])
    np.testing.assert_allclose(box["mouth-nose"][2:] - box["mouth-nose"][:2], [0.54, 0.36])
    assert inside("eyes", FIVE[0])
    assert inside("eyes", FIVE[1])
    assert all(inside("mouth-nose", FIVE[i]) for i in (2, 3, 4))
    for name, point in zip(REGIONS[3:], FIVE, strict=True):
        np.testing.assert_allclose((box[name][:2] + box[name][2:]) / 2, point)
        np.testing.assert_allclose(box[name][2:] - box[name][:2], [0.27, 0.27])


def test_literal_sizes_of_the_paper_cut_both_eyes_off():
    box = region_boxes(on_face(FIVE), (SIZE, SIZE), "paper")[0, 1]
    np.testing.assert_allclose(box, [0.32, -0.01, 0.68, 0.71])
    assert FIVE[0, 0] < box[0] < box[2] < FIVE[1, 0]


def test_masks_are_equation_4_on_a_grid_of_14():
    landmarks = np.random.default_rng(1).uniform(0, SIZE, (3, 68, 2))
    masks = masks_of(region_boxes(landmarks, (SIZE, SIZE)))
    assert masks.shape == (3, 8, 14, 14)
    assert masks.dtype == np.uint8
    assert masks[:, 0].all()
    sizes = [(224, 224), (0.72 * 224, 0.36 * 224), (0.54 * 224, 0.36 * 224), *[(0.27 * 224, 0.27 * 224)] * 5]
    for n, points in enumerate(eight_points(landmarks) + 0.5):
        nose, l2, l3, l4, l5, left, right, lip = points
        centres = [(112, 112), (l2 + l5) / 2, (nose + lip) / 2, (l2 + l3) / 2, (l4 + l5) / 2, nose, left, right]
        for r, ((x, y), (w, h)) in enumerate(zip(centres, sizes, strict=True)):
            for j in range(14):
                for i in range(14):
                    expected = (x - w / 2) / 16 <= i <= (x + w / 2) / 16 and (y - h / 2) / 16 <= j <= (y + h / 2) / 16
                    assert masks[n, r, j, i] == expected


def test_constant_masks():
    rng = np.random.default_rng(3)
    masks = np.zeros((40, 3, 6, 6), np.uint8)
    for n in range(40):
        y, x = rng.integers(0, 3, 2)
        masks[n, 0] = 1
        masks[n, 1, y : y + 3, x : x + 3] = 1
    masks[0, 2, 0, 0] = 1  # empty on all other faces
    constant = constant_masks(masks)
    assert constant[0].all()
    assert not constant[2].any()

    def overlap(mask):
        true = masks[:, 1] > 0
        return ((true & mask).sum((1, 2)) / (true | mask).sum((1, 2))).mean()

    others = [masks[:, 1].mean(0) >= t for t in np.linspace(0.05, 0.95, 19)] + list(masks[:, 1] > 0)
    assert overlap(constant[1]) > max(map(overlap, others)) - 0.01


def test_masks_follow_the_shape_of_the_face():
    fractions = np.random.default_rng(2).uniform(0, 1, (4, 68, 2))
    tall = region_boxes(fractions * (100, 200) - 0.5, (200, 100))
    np.testing.assert_allclose(tall, region_boxes(fractions * 50 - 0.5, (50, 50)))


@pytest.fixture
def faces(tmp_path):
    landmarks = np.tile((FIVE * 32 - 0.5).astype("f4"), (4, 1, 1))
    landmarks[1] = np.nan
    landmarks[2, 2, 0] = np.nan
    landmarks[3] += 100
    return make_faces(tmp_path / "faces.h5", list("abcd"), CLASSES, landmarks=landmarks)


def test_stage_marks_faces_without_landmarks_and_counts_empty_regions(faces, tmp_path, capsys):
    out = make_masks.run(faces, settings=MakeMasks(), out=tmp_path / "masks.h5")
    made = artefact.read(out, "masks")
    assert made.ids.tolist() == list("abcd")
    assert made["valid"].tolist() == [True, False, False, True]
    assert not made["masks"][[1, 2]].any()
    facts = make_masks.summary(out)
    assert facts["valid"] == 2
    assert [r["empty"] for r in facts["regions"]] == [0] + [1] * 7
    make_masks.report(facts)
    assert "masks for 2 of 4 faces" in capsys.readouterr().err


def test_rows_without_a_picture_have_no_masks(tmp_path):
    status = np.array([OK, UNREADABLE], "u1")
    faces = make_faces(tmp_path / "faces.h5", list("ab"), CLASSES, status=status)
    made = artefact.read(make_masks.run(faces, settings=MakeMasks(), out=tmp_path / "masks.h5"))
    assert made["valid"].tolist() == [True, False]
    assert not made["masks"][1].any()


def test_masks_belong_to_their_faces_only(faces, tmp_path, capsys):
    out = make_masks.run(faces, settings=MakeMasks(grid=7), out=tmp_path / "masks.h5")
    masks = artefact.read(out, "masks")
    assert masks["masks"].shape == (4, 8, 7, 7)
    masks.require_parent(artefact.read(faces))
    other = make_faces(tmp_path / "others.h5", list("abcd"), CLASSES)
    with pytest.raises(ArtefactError, match="made from another faces file"):
        masks.require_parent(artefact.read(other))
    with pytest.raises(ArtefactError, match="another faces"):
        make_masks.run(other, settings=MakeMasks(grid=7), out=out)
    make_masks.run(faces, settings=MakeMasks(grid=7), out=out)
    assert "up to date" in capsys.readouterr().err


def test_faces_without_any_landmarks_are_refused_with_the_way_out(tmp_path):
    faces = make_faces(tmp_path / "faces.h5", list("ab"), CLASSES, landmarks=None)
    with pytest.raises(ArtefactError, match="masks need landmarks") as e:
        make_masks.run(faces, settings=MakeMasks(), out=tmp_path / "masks.h5")
    assert "detect-align" in e.value.hint


def test_preview_is_a_picture(faces, tmp_path):
    import cv2

    make_masks.run(faces, settings=MakeMasks(), out=tmp_path / "masks.h5", preview=tmp_path / "masks.png")
    picture = cv2.imread(str(tmp_path / "masks.png"))
    assert picture.shape[1] > 1000
    assert picture.std() > 30
