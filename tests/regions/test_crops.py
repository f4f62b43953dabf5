import subprocess
import sys
import time

import numpy as np
import pytest
from made_faces import FIVE, make_faces

from fertool import artefact
from fertool.errors import ArtefactError, DataError, RecipeError
from fertool.faces.status import KEPT, OK, UNREADABLE
from fertool.labels import PROTOCOLS
from fertool.regions.crops import fixed_boxes, landmark_boxes, pixel_boxes, random_boxes
from fertool.settings import CropRegions
from fertool.stages import crop_regions

CLASSES = PROTOCOLS["ferplus8"]
IDS = ["a", "b", "c", "d", "e"]


def test_fixed_crops_are_those_of_the_paper_to_the_pixel():
    expected = [
        (0, 0, 224, 224),
        (0, 0, 168, 168),
        (56, 0, 224, 168),
        (28, 56, 196, 224),
        (11, 11, 213, 213),
        (17, 17, 207, 207),
    ]
    assert pixel_boxes(fixed_boxes(), 224).tolist() == [list(box) for box in expected]
    assert pixel_boxes(fixed_boxes().astype(np.float32), 224).tolist() == [list(box) for box in expected]


@pytest.mark.parametrize("scale", [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 2.0])
def test_scaled_crops_keep_their_anchor_and_never_exceed_the_face(scale):
    boxes = fixed_boxes(scale)
    side = (boxes[1:, 2:] - boxes[1:, :2]).T
    expected = np.minimum(1, np.array([0.75, 0.75, 0.75, 0.90, 0.85]) * scale)
    np.testing.assert_allclose(side, [expected, expected])
    assert boxes[1, :2].tolist() == [0, 0]  # upper left
    assert (boxes[2, 2], boxes[2, 1]) == (1, 0)  # upper right
    assert boxes[3, 3] == 1  # lower edge
    np.testing.assert_allclose(boxes[[3, 4, 5], 0] + boxes[[3, 4, 5], 2], 1)  # in the middle
    assert boxes.min() >= 0
    assert boxes.max() <= 1


def test_the_paper_s_largest_scale_is_capped():
    boxes = fixed_boxes(1.1)
    np.testing.assert_allclose((boxes[:, 2] - boxes[:, 0])[[1, 4, 5]], [0.825, 0.99, 0.935])


def test_random_crops_are_square_inside_and_of_the_asked_size():
    boxes = random_boxes([f"face {i}" for i in range(500)], 5, (0.70, 0.95), seed=0)
    side = boxes[:, 1:, 2:] - boxes[:, 1:, :2]
    assert boxes.shape == (500, 6, 4)
    assert (boxes[:, 0] == [0, 0, 1, 1]).all()
    np.testing.assert_allclose(side[..., 0], side[..., 1])
    assert 0.70 <= side.min() < 0.702
    assert 0.948 < side.max() <= 0.95
    assert abs(side.mean() - 0.825) < 0.005
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    slack = 1 - side[..., 0]
    place = boxes[:, 1:, 0] / slack
    assert abs(place.mean() - 0.5) < 0.03  # anywhere that keeps the crop inside, equally often
    assert abs(place.std() - 12**-0.5) < 0.02


def test_a_face_has_the_same_random_crops_whatever_stands_around_it():
    together = random_boxes(IDS, 3, (0.7, 0.95), seed=7)
    backwards = random_boxes(IDS[::-1], 3, (0.7, 0.95), seed=7)
    np.testing.assert_array_equal(together, backwards[::-1])
    assert not np.array_equal(together[0], together[1])
    assert not np.array_equal(together, random_boxes(IDS, 3, (0.7, 0.95), seed=8))


def test_landmark_crops_are_centred_and_clipped():
    points = np.array([[[49.5, 49.5], [19.5, 9.5]]])  # the centre and the upper left of a 100 x 100 face
    boxes = landmark_boxes(points, 0.4, (100, 100))
    np.testing.assert_allclose(boxes[0], [[0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9], [0, 0, 0.6, 0.5]])


def test_landmarks_outside_the_face_still_give_a_region_and_missing_ones_the_whole_face():
    points = np.array([[[-300.0, 50], [500, 50]], [[50, 50], [np.nan, np.nan]]])
    boxes = landmark_boxes(points, 0.4, (100, 100))
    assert ((boxes[0, :, 2:] - boxes[0, :, :2]) > 0.39).all()
    assert (boxes[1] == [0, 0, 1, 1]).all()


def test_pixel_boxes_hold_at_least_one_pixel():
    thin = pixel_boxes(np.array([[0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1]]), 10, 20)
    assert thin.tolist() == [[5, 10, 6, 11], [9, 19, 10, 20]]


@pytest.fixture
def faces(tmp_path):
    landmarks = np.tile((FIVE * 32 - 0.5).astype("f4"), (5, 1, 1))
    landmarks[1] = landmarks[4] = np.nan
    status = np.array([OK, KEPT, OK, OK, UNREADABLE], "u1")
    return make_faces(tmp_path / "faces.h5", IDS, CLASSES, landmarks=landmarks, status=status, channels=3)


def test_stage_writes_a_row_per_face_and_is_up_to_date_afterwards(faces, tmp_path, capsys):
    out = tmp_path / "regions.h5"
    made = artefact.read(crop_regions.run(faces, settings=CropRegions(), out=out), "regions")
    assert made.ids.tolist() == IDS
    assert made["boxes"].shape == (5, 6, 4)
    assert made["boxes"].dtype == np.float32
    assert made.params["regions"][0] == "face"
    made.require_parent(artefact.read(faces))
    crop_regions.run(faces, settings=CropRegions(), out=out)
    assert artefact.read(out).uid == made.uid
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(ArtefactError, match="ratio_scale 1.0 → 0.8"):
        crop_regions.run(faces, settings=CropRegions(ratio_scale=0.8), out=out)


def test_faces_without_landmarks_see_themselves_whole_and_are_counted(faces, tmp_path, capsys):
    out = crop_regions.run(faces, settings=CropRegions(mode="landmark"), out=tmp_path / "regions.h5")
    boxes = artefact.read(out)["boxes"]
    assert (boxes[[1, 4]] == [0, 0, 1, 1]).all()
    np.testing.assert_allclose(boxes[0, 3], [0.1, 0.17, 0.9, 0.97], atol=1e-6)  # around the nose
    facts = crop_regions.summary(out)
    assert facts["without_landmarks"] == 1  # the unreadable one is no face
    assert [r["name"] for r in facts["regions"]][3] == "nose"
    crop_regions.report(facts)
    assert "1 of 4 faces have no landmarks" in capsys.readouterr().err


@pytest.mark.parametrize("landmarks", [None, np.full((5, 5, 2), np.nan, "f4")])
def test_landmark_crops_of_faces_without_any_are_refused(tmp_path, landmarks):
    faces = make_faces(tmp_path / "faces.h5", IDS, CLASSES, landmarks=landmarks)
    with pytest.raises(ArtefactError, match="no face in .* has any") as e:
        crop_regions.run(faces, settings=CropRegions(mode="landmark"), out=tmp_path / "regions.h5")
    assert "--landmarks ert68" in e.value.hint
    assert not (tmp_path / "regions.h5").exists()


def test_unknown_landmark_sets_are_refused(tmp_path):
    faces = make_faces(tmp_path / "faces.h5", IDS, CLASSES, landmarks=np.zeros((5, 21, 2), "f4"))
    with pytest.raises(ArtefactError, match="21 landmarks"):
        crop_regions.run(faces, settings=CropRegions(mode="landmark"), out=tmp_path / "regions.h5")


@pytest.mark.parametrize("ratio", [(0.9, 0.7), (0.0, 0.5), (0.5, 1.2)])
def test_impossible_random_ratios_are_refused(faces, tmp_path, ratio):
    with pytest.raises(RecipeError, match="random_ratio"):
        crop_regions.run(faces, settings=CropRegions(mode="random", random_ratio=ratio), out=tmp_path / "regions.h5")


@pytest.mark.parametrize("channels", [1, 3])
def test_materialized_crops_are_the_boxes_enlarged_to_the_face(tmp_path, channels):
    faces = make_faces(tmp_path / "faces.h5", IDS, CLASSES, size=40, channels=channels)
    out = crop_regions.run(faces, settings=CropRegions(materialize=True), out=tmp_path / "regions.h5")
    made, images = artefact.read(out, "regions"), artefact.read(faces)["images"]
    assert made["pixels"].shape == (5, 6, 40, 40, channels)
    np.testing.assert_array_equal(made["pixels"][:, 0], images)
    crop = np.asarray(made["pixels"][2, 1], float)  # top-left: 30 pixels on 40
    assert abs(crop.mean() - images[2, :30, :30].mean()) < 4
    np.testing.assert_array_equal(made["pixels"][2, 1, 0, 0], images[2, 0, 0])
    assert crop_regions.summary(out)["pixels"]


def test_killed_materializing_goes_on(tmp_path):
    faces = make_faces(tmp_path / "faces.h5", [f"face {i}" for i in range(300)], CLASSES, size=96)
    settings, out = CropRegions(materialize=True), tmp_path / "regions.h5"
    command = (
        "from pathlib import Path; from fertool.settings import CropRegions; from fertool.stages import crop_regions;"
        f"crop_regions.run(Path({str(faces)!r}), settings=CropRegions(materialize=True), out=Path({str(out)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", command])
    partial = artefact.partial_path(out)
    while process.poll() is None and not (partial.exists() and artefact.read(partial, partial=True)["status"].any()):
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not out.exists()
    done = np.flatnonzero(artefact.read(partial, partial=True)["status"])
    assert 0 < len(done) < 300
    crop_regions.run(faces, settings=settings, out=out)
    assert not partial.exists()
    whole = crop_regions.run(faces, settings=settings, out=tmp_path / "at-once.h5")
    assert artefact.read(out).digest == artefact.read(whole).digest


@pytest.mark.parametrize("mode", ["fixed", "random", "landmark", "patches"])
def test_preview_is_a_picture_also_of_an_old_file(faces, tmp_path, mode):
    import cv2

    settings, out = CropRegions(mode=mode), tmp_path / "regions.h5"
    crop_regions.run(faces, settings=settings, out=out)
    crop_regions.run(faces, settings=settings, out=out, preview=tmp_path / "new" / "crops.png")
    picture = cv2.imread(str(tmp_path / "new" / "crops.png"))
    assert picture.shape[0] > 400
    assert picture.shape[1] > 600
    assert picture.std() > 30


def test_preview_that_cannot_be_written_is_an_error_in_one_line(faces, tmp_path):
    with pytest.raises(DataError, match="cannot write the picture"):
        crop_regions.run(faces, settings=CropRegions(), out=tmp_path / "r.h5", preview=tmp_path / "crops.xyz")


def test_patches_lie_as_lnlattennet_cuts_them(faces, tmp_path):
    out = tmp_path / "regions.h5"
    crop_regions.run(faces, settings=CropRegions(mode="patches"), out=out)
    made = artefact.read(out, "regions")
    boxes = np.asarray(made["boxes"])[0]
    assert made.params["regions"][:3] == ["face", "patch-1", "patch-2"]
    assert boxes.shape == (17, 4)
    assert np.allclose(144 * boxes[1], (0, 0, 48, 48))
    assert np.allclose(144 * boxes[2], (32, 0, 80, 48)), "a third of 48 is shared"
    assert np.allclose(144 * boxes[5], (0, 32, 48, 80)), "row by row"
    assert np.allclose(144 * boxes[16], (96, 96, 144, 144))
    crop_regions.run(faces, settings=CropRegions(mode="patches", patches=9, patch_overlap=24), out=tmp_path / "9.h5")
    nine = np.asarray(artefact.read(tmp_path / "9.h5")["boxes"])[0]
    assert len(nine) == 10
    assert np.allclose(144 * (nine[1, 2] - nine[2, 0]), 24)
