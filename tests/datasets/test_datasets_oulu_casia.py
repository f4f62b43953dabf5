"""Oulu-CASIA read from small trees of its layouts, whole and broken."""

import shutil
from collections import Counter

import layouts
import pytest

from fertool import artefact
from fertool.datasets import open_dataset
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import DetectAlign
from fertool.stages import detect_align


@pytest.mark.parametrize("layout", ["top", "OriginalImg", "B_OriginalImg", "B_OriginalImg/OriginalImg"])
def test_last_three_frames_in_visible_light(tmp_path, layout):
    dataset = open_dataset(layouts.write_oulu_casia(tmp_path / "Oulu", layout=layout))
    samples = list(dataset.samples())
    assert dataset.classes == PROTOCOLS["oulucasia6"]
    assert Counter(s.label for s in samples) == dict.fromkeys(dataset.classes, 2 * 3)
    assert [(s.id, s.subject, s.sequence, s.frame) for s in samples[2:4]] == [
        ("P001_anger_004", "P001", "P001_anger", 4),
        ("P001_disgust_002", "P001", "P001_disgust", 2),
    ]
    assert all("/VL/Strong/" in str(s.path) and s.path.is_file() for s in samples)
    assert [str(p) for p in dataset.problems()] == ["all: 36 samples, the complete dataset has 1,440"]


def test_what_is_missing(tmp_path):
    root = layouts.write_oulu_casia(tmp_path, layout="top")
    shutil.rmtree(root / "VL/Strong/P001/Fear")
    for n in (1, 2, 3):
        (root / f"VL/Strong/P002/Anger/{n:03d}.jpeg").unlink()
    dataset = open_dataset(root)
    assert len(dataset.samples()) == 30
    said = "2 recordings are missing or too short: P001/fear, P002/anger"
    assert said in "\n".join(map(str, dataset.problems()))
    assert len(open_dataset(root, frames="first-last").samples()) == 22
    for folder in (root / "VL/Strong").iterdir():
        shutil.rmtree(folder)
    with pytest.raises(DataError, match="no recordings"):
        open_dataset(root).samples()
    shutil.rmtree(root / "VL")
    with pytest.raises(DataError, match="the recordings are missing .*OriginalImg/VL/Strong"):
        open_dataset(root, "oulu-casia").samples()


def test_faces_of_first_and_last_frames(tmp_path):
    settings = DetectAlign(detector="none", landmarks="none", align="none", size=32, data={"frames": "first-last"})
    data = open_dataset(layouts.write_oulu_casia(tmp_path / "oulu"), **settings.data)
    faces = artefact.read(detect_align.run(data, settings=settings, out=tmp_path / "faces.h5", workers=1), "faces")
    assert tuple(faces.classes) == PROTOCOLS["oulucasia7n"]
    assert [faces.classes[i] for i in faces["label"][:4]] == ["neutral", "anger", "neutral", "disgust"]
    assert faces["frame"][:4].tolist() == [0, 4, 0, 4]
