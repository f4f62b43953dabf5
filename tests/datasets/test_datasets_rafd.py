"""RaFD read from a few people's images, whole and broken."""

from collections import Counter

import layouts
import numpy as np
import pytest

from fertool import artefact
from fertool.datasets import open_dataset
from fertool.datasets.rafd import BOX, SUBJECTS
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import DetectAlign
from fertool.stages import detect_align


def test_sixty_seven_people():
    assert len(SUBJECTS) == 67
    assert SUBJECTS[0] == "01"
    assert SUBJECTS[-1] == "73"


@pytest.mark.parametrize(("views", "angles"), [("front", (90,)), ("pose", (0, 45, 90, 135, 180))])
@pytest.mark.parametrize("layout", ["", "sorted"])
def test_photographs_by_their_names(tmp_path, layout, views, angles):
    dataset = open_dataset(layouts.write_rafd(tmp_path, layout=layout), views=views)
    samples = list(dataset.samples())
    assert dataset.classes == PROTOCOLS["rafd7"]
    assert Counter(s.label for s in samples) == dict.fromkeys(dataset.classes, 3 * 3 * len(angles))
    assert Counter(s.subject for s in samples) == dict.fromkeys(("01", "02", "73"), 7 * 3 * len(angles))
    assert {s.extra["angle"] for s in samples} == set(angles)
    assert {s.box for s in samples} == {BOX}
    one = next(s for s in samples if s.id == "Rafd090_02_Moroccan_male_happy_left")
    assert (one.label, one.subject, one.split) == ("happiness", "02", "")
    assert one.extra == {"angle": 90, "gaze": "left", "gender": "male"}
    whole = 67 * 7 * 3 * len(angles)
    assert dataset.expect == {"": whole}
    (note,) = dataset.problems()
    assert not note.fatal
    assert f"{whole - len(samples):,} of {whole:,} images are missing: Rafd{angles[0]:03d}_03_…_" in note.message


def test_all_people_are_complete(tmp_path):
    for path in layouts.write_rafd(tmp_path / "few", subjects=(1,)).glob("Rafd090*"):
        for subject in SUBJECTS:
            name = path.name.replace("_01_", f"_{subject}_")
            (tmp_path / "all" / name.replace(".jpg", ".JPG")).parent.mkdir(exist_ok=True)
            (tmp_path / "all" / name.replace(".jpg", ".JPG")).touch()
    dataset = open_dataset(tmp_path / "all")
    assert dataset.problems() == []
    assert len(dataset.samples()) == 1_407


def test_strange_and_double_pictures_are_left_out(tmp_path):
    layouts.write_rafd(tmp_path, subjects=(1,))
    picture = (tmp_path / "Rafd090_01_Caucasian_female_sad_left.jpg").read_bytes()
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "Rafd090_01_Caucasian_female_sad_left.jpg").write_bytes(picture)
    (tmp_path / "Rafd090_01_Caucasian_female_bored_left.jpg").write_bytes(picture)
    (tmp_path / "overview.jpg").write_bytes(picture)
    dataset = open_dataset(tmp_path)
    notes = "\n".join(map(str, dataset.problems()))
    assert len(dataset.samples()) == 21
    assert {s.path.parent for s in dataset.samples()} == {tmp_path}
    assert "2 pictures are not named as those of RaFD and are left out: Rafd090_01_Caucasian_female_bored" in notes
    assert "1 pictures are there twice" in notes


def test_no_frontal_photograph(tmp_path):
    layouts.write_rafd(tmp_path, subjects=(1,))
    for path in tmp_path.glob("Rafd090*"):
        path.unlink()
    with pytest.raises(DataError, match="1,407 of 1,407 images are missing"):
        open_dataset(tmp_path).samples()
    assert len(open_dataset(tmp_path, views="pose").samples()) == 84


def test_faces_carry_camera_gaze_and_gender(tmp_path):
    settings = DetectAlign(
        detector="dataset", landmarks="none", align="none", margin=0, size=32, data={"views": "pose"}
    )
    data = open_dataset(layouts.write_rafd(tmp_path / "rafd", subjects=(1,)), **settings.data)
    faces = artefact.read(detect_align.run(data, settings=settings, out=tmp_path / "faces.h5", workers=1), "faces")
    assert np.bincount(np.asarray(faces["angle"])).nonzero()[0].tolist() == [0, 45, 90, 135, 180]
    assert set(faces["gaze"]) == {"frontal", "left", "right"}
    assert set(faces["gender"]) == {"female"}
    assert np.asarray(faces["bbox"])[0].tolist() == list(BOX)
    assert faces.rows == 105
