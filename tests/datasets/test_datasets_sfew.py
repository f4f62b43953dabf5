"""SFEW read from small trees of its releases, whole and broken."""

import shutil
from collections import Counter

import layouts
import numpy as np
import pytest

from fertool import artefact
from fertool.datasets import check, open_dataset, recognise
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import DetectAlign
from fertool.stages import detect_align


@pytest.mark.parametrize(
    ("layout", "images", "shape"),
    [
        ("both", "auto", (64, 64)),
        ("both", "original", (72, 90)),
        ("original", "auto", (72, 90)),
        ("aligned", "auto", (64, 64)),
        ("nested", "aligned", (64, 64)),
    ],
)
def test_splits_and_classes(tmp_path, layout, images, shape):
    dataset = open_dataset(layouts.write_sfew(tmp_path / "SFEW 2.0", layout=layout), images=images)
    samples = list(dataset.samples())
    assert dataset.classes == PROTOCOLS["sfew7_ran"]
    counts = Counter((s.split, s.label) for s in samples)
    assert counts == {
        **{("train", label): 3 for label in dataset.classes},
        **{("val", label): 2 for label in dataset.classes},
        ("test", None): 7,
    }
    assert samples[0].id == "train/anger/AlexEmma_000000000_00000000"
    assert {dataset.read(s).shape[:2] for s in samples} == {shape}
    assert dataset.chosen["images"] == ("original" if shape == (72, 90) else "aligned")
    # those that could be aligned are fewer than the frames, and not the same number in every release
    notes = [str(p) for p in dataset.problems()]
    originals = ["train: 21 samples, the complete dataset has 958", "val: 14 samples, the complete dataset has 436"]
    assert notes == (originals if shape == (72, 90) else [])


def test_aligned_faces_are_not_taken_for_frames(tmp_path):
    layouts.write_sfew(tmp_path, layout="nested")
    with pytest.raises(DataError, match="the folders named by emotion of split train are missing"):
        open_dataset(tmp_path, images="original").samples()


def test_folders_of_archives_in_other_letter_case(tmp_path):
    layouts.write_sfew(tmp_path, layout="aligned")
    (tmp_path / "Val_Aligned_Faces").rename(tmp_path / "val_aligned_faces_NEW")
    train = tmp_path / "Train_Aligned_Faces"
    train.rename(tmp_path / "x")
    train.mkdir()
    (tmp_path / "x").rename(train / "Train_Aligned_Faces")  # archive in a folder of its own name
    for folder in list((train / "Train_Aligned_Faces").glob("[A-Z]*")):  # one archive for every class
        (folder / folder.name).mkdir()
        for path in folder.glob("*.png"):
            path.rename(folder / folder.name / path.name)
    samples = open_dataset(tmp_path).samples()
    assert Counter(s.split for s in samples) == {"train": 21, "val": 14, "test": 7}


def test_missing_splits_are_listed_with_their_paths(tmp_path):
    layouts.write_sfew(tmp_path, layout="original")
    shutil.rmtree(tmp_path / "Val")
    shutil.rmtree(tmp_path / "Test")
    found = check("sfew", tmp_path)
    assert not found["usable"]
    assert [(p["message"], p["fatal"]) for p in found["problems"]] == [
        ("the folders named by emotion of split val are missing", True),
        ("the pictures of split test are missing", False),
    ]
    assert found["problems"][0]["path"] == f"{tmp_path}/Val/Val_Aligned_Faces or {tmp_path}/Val"


def test_other_splits_and_classes_in_folders_are_not_sfew(tmp_path):
    layouts.write_folder(tmp_path, splits=("Train", "Val"), classes=("Angry", "Happy"))
    assert recognise(tmp_path)[0].name == "folder"


def test_no_picture(tmp_path):
    layouts.write_sfew(tmp_path, layout="aligned")
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="there are no pictures"):
        open_dataset(tmp_path).samples()


def test_faces_of_all_splits(tmp_path):
    settings = DetectAlign(detector="none", landmarks="none", align="none", size=32, data={"images": "original"})
    data = open_dataset(layouts.write_sfew(tmp_path / "sfew"), **settings.data)
    faces = artefact.read(detect_align.run(data, settings=settings, out=tmp_path / "faces.h5", workers=1), "faces")
    labels, split = np.asarray(faces["label"]), faces["split"]
    assert faces.params["data"]["images"] == "original"
    assert set(labels[split == "test"]) == {-1}
    assert np.bincount(labels[split == "val"]).tolist() == [2] * 7
