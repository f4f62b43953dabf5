"""CK+ read from small trees of its layouts, whole and broken."""

import shutil
from collections import Counter

import layouts
import numpy as np
import pytest

from fertool import artefact
from fertool.datasets import check, open_dataset
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import DetectAlign
from fertool.stages import detect_align

#: what the numbers in the files of emotions mean
CODES = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")


def notes(dataset) -> str:
    return "\n".join(map(str, dataset.problems()))


@pytest.mark.parametrize("layout", ["", "archives"])
def test_the_last_three_frames_of_every_labelled_recording(tmp_path, layout):
    dataset = open_dataset(layouts.write_ckplus(tmp_path / "CK+ data", layout=layout))
    samples = list(dataset.samples())
    assert dataset.classes == PROTOCOLS["ckplus7c"]
    assert Counter(s.label for s in samples) == dict.fromkeys(dataset.classes, 4 * 3)
    assert [(s.id, s.frame) for s in samples[:3]] == [(f"S005_002_{n:08d}", n) for n in (3, 4, 5)]
    for s in samples:
        assert (s.split, s.subject, s.sequence) == ("", s.id[:4], s.id[:8])
        assert s.label == CODES[int(s.sequence[-3:]) - 1]
        assert s.landmarks.tolist() == [[k + s.frame, 2 * k] for k in range(68)]
        assert s.path.is_file()
    assert len({s.subject for s in samples}) == 4
    assert notes(dataset) == "all: 84 samples, the complete dataset has 981"


def test_first_and_last_frame(tmp_path):
    dataset = open_dataset(layouts.write_ckplus(tmp_path), frames="first-last")
    samples = list(dataset.samples())
    assert dataset.classes == PROTOCOLS["ckplus7n"]
    assert Counter(s.label for s in samples) == dict.fromkeys(dataset.classes, 4) | {"neutral": 4 * 6}
    assert [(s.id, s.label) for s in samples[:2]] == [("S005_002_00000001", "neutral"), ("S005_002_00000005", "anger")]
    assert not any(s.sequence.endswith("_003") for s in samples)  # contempt
    assert notes(dataset) == "all: 48 samples, the complete dataset has 618"


def test_frames_are_sorted_by_number_not_name(tmp_path):
    layouts.write_ckplus(tmp_path, subjects=1)
    folder = tmp_path / "cohn-kanade-images" / "S005" / "006"
    for number in (8, 9):
        (folder / f"S005_006_{number:08d}.png").rename(folder / f"S005_006_{number}.PNG")
    (folder / "S005_006_00000007.png").rename(folder / "S005_006_00000010.png")
    found = [s for s in open_dataset(tmp_path).samples() if s.sequence == "S005_006"]
    assert [s.frame for s in found] == [8, 9, 10]


def test_other_letter_case_and_windows_line_ends(tmp_path):
    layouts.write_ckplus(tmp_path)
    (tmp_path / "Emotion").rename(tmp_path / "emotion")
    (tmp_path / "cohn-kanade-images").rename(tmp_path / "Cohn-Kanade-Images")
    for path in tmp_path.rglob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(open_dataset(tmp_path).samples()) == 84


def test_what_is_missing_is_listed_once(tmp_path):
    layouts.write_ckplus(tmp_path)
    shutil.rmtree(tmp_path / "Emotion")
    found = check(None, tmp_path)
    assert [(p["message"], p["path"]) for p in found["problems"] if p["fatal"]] == [
        ("the folder of emotions is missing", str(tmp_path / "Emotion"))
    ]
    shutil.rmtree(tmp_path / "cohn-kanade-images")
    with pytest.raises(DataError, match="the folder of pictures is missing .*; the folder of emotions is missing"):
        open_dataset(tmp_path, "ckplus").samples()


def test_what_recordings_lack_costs_only_them(tmp_path):
    layouts.write_ckplus(tmp_path)
    images, marks = tmp_path / "cohn-kanade-images", tmp_path / "Landmarks"
    shutil.rmtree(images / "S010" / "002")
    for n in (1, 2, 3):
        (images / "S015" / "002" / f"S015_002_{n:08d}.png").unlink()
    (marks / "S005/002/S005_002_00000003_landmarks.txt").unlink()
    (marks / "S005/002/S005_002_00000004_landmarks.txt").write_text("1 2\n3")
    dataset = open_dataset(tmp_path)
    assert [s.landmarks is None for s in dataset.samples()[:4]] == [True, True, False, False]
    assert len(dataset.samples()) == 78
    assert "1 recordings have no pictures and are left out: S010_002" in notes(dataset)
    assert "1 recordings have too few pictures and are left out: S015_002" in notes(dataset)
    assert "landmarks of 2 of 78 pictures are missing or incomplete: S005_002_00000003, S005" in notes(dataset)
    shutil.rmtree(marks)
    assert {s.landmarks is None for s in open_dataset(tmp_path).samples()} == {True}
    assert "the folder of landmarks is missing" in notes(open_dataset(tmp_path))


@pytest.mark.parametrize("content", ["9.0\n", "happy\n", ""])
def test_emotions_that_are_none(tmp_path, content):
    layouts.write_ckplus(tmp_path)
    (tmp_path / "Emotion/S005/002/S005_002_00000005_emotion.txt").write_text(content)
    with pytest.raises(DataError, match="no number from 1 to 7: S005_002_00000005_emotion.txt"):
        open_dataset(tmp_path).samples()


def test_no_recording_with_an_emotion(tmp_path):
    layouts.write_ckplus(tmp_path)
    for path in (tmp_path / "Emotion").rglob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match="no recording has an emotion and pictures"):
        open_dataset(tmp_path).samples()


def test_faces_of_first_and_last_frames(tmp_path):
    settings = DetectAlign(
        detector="none", landmarks="dataset", template="eyes-mouth", size=32, grey=True, data={"frames": "first-last"}
    )
    data = open_dataset(layouts.write_ckplus(tmp_path / "ck", subjects=2), **settings.data)
    faces = artefact.read(detect_align.run(data, settings=settings, out=tmp_path / "faces.h5", workers=1), "faces")
    assert faces.params["data"]["frames"] == "first-last"
    assert tuple(faces.classes) == PROTOCOLS["ckplus7n"]
    labels = [faces.classes[i] for i in np.asarray(faces["label"])]
    assert labels[::2] == ["neutral"] * 12
    assert labels[1::2][:2] == ["anger", "disgust"]
    assert set(faces["subject"]) == {"S005", "S010"}
    assert np.asarray(faces["frame"])[:2].tolist() == [1, 5]
    assert faces["landmarks"].shape == (24, 68, 2)
