"""MMI read from small videos and pictures with their XML, whole and broken."""

from collections import Counter

import cv2
import layouts
import numpy as np
import pytest

from fertool import artefact
from fertool.datasets import open_dataset, recognise
from fertool.errors import DataError
from fertool.faces.images import UnreadableImage
from fertool.labels import PROTOCOLS
from fertool.settings import DetectAlign
from fertool.stages import detect_align
from fertool.videos import count_frames, read_frame

HEADER = "sequence,subject,label,first_frame,peak_frame\n"


def notes(dataset) -> str:
    return "\n".join(map(str, dataset.problems()))


@pytest.mark.parametrize("layout", ["videos", "pictures"])
def test_first_frame_and_peak_of_every_frontal_recording(tmp_path, layout):
    dataset = open_dataset(layouts.write_mmi(tmp_path, layout=layout))
    samples = list(dataset.samples())
    assert dataset.classes == PROTOCOLS["mmi7n"]
    assert Counter(s.label for s in samples) == dict.fromkeys(dataset.classes, 2) | {"neutral": 12}
    assert [(s.id, s.frame, s.label) for s in samples[:4]] == [
        ("S001-001_0001", 1, "neutral"),
        ("S001-001_0005", 5, "anger"),  # nothing annotated: the middle
        ("S001-002_0001", 1, "neutral"),
        ("S001-002_0007", 7, "disgust"),  # the apex is from 6 to 7
    ]
    assert {(s.subject, s.sequence[:4]) for s in samples} == {("S001", "S001"), ("S002", "S002")}
    assert {s.extra["view"] for s in samples} == {"frontal"}
    for sample in samples[1:12:4]:
        drawn = layouts.draw_face(sample.label, 10 * int(sample.sequence[-1]) + sample.frame, 96)
        assert np.abs(dataset.read(sample).reshape(96, 96, -1)[..., 0].astype(int) - drawn).mean() < 4
    assert notes(dataset) == ""


def test_frames_of_a_film_are_counted_from_one(tmp_path):
    film = next(layouts.write_mmi(tmp_path).glob("Sessions/1/*.avi"))
    assert count_frames(film) == 9
    for number in (1, 9):
        drawn = layouts.draw_face("neutral", 10 + number, 96)
        assert np.abs(read_frame(film, number)[..., 0].astype(int) - drawn).mean() < 4
    with pytest.raises(UnreadableImage, match="there is no frame 10"):
        read_frame(film, 10)
    (tmp_path / "x.avi").write_bytes(b"no film")
    assert count_frames(tmp_path / "x.avi") == 0
    with pytest.raises(UnreadableImage, match="there is no frame 1"):
        read_frame(tmp_path / "x.avi", 1)


def test_colours_come_as_rgb_and_lying_films_are_turned(tmp_path):
    layouts.write_mmi(tmp_path, subjects=1)
    film = cv2.VideoWriter(str(tmp_path / "Sessions/1/S001-001.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (720, 576))
    for _ in range(4):
        picture = np.zeros((576, 720, 3), np.uint8)
        picture[:, :360] = (255, 0, 0)  # blue, in OpenCV's order
        film.write(picture)
    film.release()
    dataset = open_dataset(tmp_path)
    turned = dataset.read(dataset.samples()[0])
    assert turned.shape == (720, 576, 3)  # what was on the left is on top
    assert turned[:300].mean(axis=(0, 1)) == pytest.approx((0, 0, 255), abs=8)
    assert turned[-300:].mean() < 8
    (tmp_path / "Sessions/1/session.xml").write_text('<session><track view="2"/></session>')
    dual = open_dataset(tmp_path)
    assert dual.samples()[0].extra["view"] == "dual"
    assert dual.read(dual.samples()[0]).shape == (576, 720, 3)


def test_the_manifest_says_which_recordings_and_frames(tmp_path):
    layouts.write_mmi(tmp_path)
    lines = ["S001-001,anna,happy,2,6", "S002-002.avi,ben,Disgust,,", "S001-007,anna,anger,1,4", "S009-001,x,fear,,"]
    (tmp_path / "manifest.csv").write_text(HEADER + "\r\n".join(lines))
    dataset = open_dataset(tmp_path)
    assert [(s.id, s.label, s.subject) for s in dataset.samples()] == [
        ("S001-001_0002", "neutral", "anna"),
        ("S001-001_0006", "happiness", "anna"),
        ("S002-002_0001", "neutral", "ben"),
        ("S002-002_0007", "disgust", "ben"),
        ("S001-007_0001", "neutral", "anna"),  # of the profile, but asked for
        ("S001-007_0004", "anger", "anna"),
    ]
    assert "1 recordings are missing or have fewer frames than listed: S009-001" in notes(dataset)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER.replace("label", "emotion"), "lacks the columns label"),
        (HEADER + "S001-001,a,bored,,\n", r"lines without one of the emotions.*: line 2 \('S001-001,a,bored"),
        (HEADER + "S001-001,a,contempt,,\n", "line 2"),
        (HEADER + "S001-001,a,happy,first,\n", "line 2"),
        (HEADER + "S001-001,a,happy,1,10\n", "fewer frames than listed: S001-001"),
        (HEADER, "no frontal recording with an emotion has frames"),
    ],
)
def test_manifests_that_do_not_fit(tmp_path, text, said):
    layouts.write_mmi(tmp_path, subjects=1)
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path).samples()


def test_damaged_recordings_cost_only_themselves(tmp_path):
    layouts.write_mmi(tmp_path)
    (tmp_path / "Sessions/1/S001-001.avi").write_bytes(b"")
    (tmp_path / "Sessions/2/S001-002.xml").write_text("<doc><Metatag")
    (tmp_path / "Sessions/4/S001-004-oao_aucs.xml").write_text('<x><ActionUnit><Marker Frame="x"/></ActionUnit></x>')
    (tmp_path / "Sessions/3/session.xml").unlink()
    (tmp_path / "Sessions/99").mkdir()
    dataset = open_dataset(tmp_path)
    samples = dataset.samples()
    assert [s.sequence for s in samples[:4:2]] == ["S001-003", "S001-004"]
    assert [(s.frame, s.extra["view"]) for s in samples[:4]] == [(1, ""), (5, ""), (1, "frontal"), (5, "frontal")]
    assert "1 recordings have no frames that can be read: S001-001" in notes(dataset)
    assert f"the XML cannot be read: unclosed token: line 1, column 5 ({tmp_path}/Sessions/2/S001-002.xml)" in notes(
        dataset
    )


def test_other_sessions_are_not_mmi(tmp_path):
    layouts.write_folder(tmp_path / "Sessions")
    assert recognise(tmp_path)[0].name == "folder"
    with pytest.raises(DataError, match="no frontal recording with an emotion has frames"):
        open_dataset(tmp_path, "mmi").samples()
    with pytest.raises(DataError, match="the folder of recordings is missing"):
        open_dataset(tmp_path / "Sessions", "mmi").samples()


def test_faces_of_films(tmp_path):
    settings = DetectAlign(detector="none", landmarks="none", align="none", size=32, grey=True)
    data = open_dataset(layouts.write_mmi(tmp_path / "mmi", subjects=1))
    faces = artefact.read(detect_align.run(data, settings=settings, out=tmp_path / "faces.h5", workers=2), "faces")
    assert faces.rows == 12
    assert np.asarray(faces["status"]).tolist() == [1] * 12
    assert np.asarray(faces["frame"])[:4].tolist() == [1, 5, 1, 7]
    assert [faces.classes[i] for i in np.asarray(faces["label"])[:4]] == ["neutral", "anger", "neutral", "disgust"]
