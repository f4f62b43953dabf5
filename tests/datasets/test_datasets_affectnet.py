"""AffectNet read from small trees of its two releases, whole and broken."""

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

LISTS = "Manually_Annotated_file_lists"


def notes(dataset) -> str:
    return "\n".join(map(str, dataset.problems()))


@pytest.mark.parametrize(("contempt", "classes"), [("keep", "affectnet8"), ("drop", "affectnet7")])
@pytest.mark.parametrize("layout", ["lists", "npy"])
def test_releases_tell_the_same(tmp_path, layout, contempt, classes):
    root = layouts.write_affectnet(tmp_path / "top" / "AffectNet", layout=layout)
    dataset = open_dataset(root.parent, contempt=contempt)
    samples = list(dataset.samples())
    assert dataset.classes == PROTOCOLS[classes]
    counts = Counter((s.split, s.label) for s in samples)
    assert counts == {(split, c): n for split, n in (("train", 2), ("val", 1)) for c in dataset.classes}
    for number, sample in ((5, samples[5]), (3, next(s for s in samples if (s.split, s.label) == ("val", "surprise")))):
        assert sample.landmarks.tolist() == [[k + number, 2 * k] for k in range(68)]
        assert sample.extra == {"valence": number / 100, "arousal": -number / 100}
        assert sample.box == ((2, 3, 60, 61) if layout == "lists" else None)
        assert dataset.read(sample).shape[:2] == (64, 64)
    assert samples[5].id == ("2/20005abc" if layout == "lists" else "train_set/5")
    whole = {"keep": "287,651", "drop": "283,901"}[contempt]
    assert f"train: {2 * len(dataset.classes)} samples, the complete dataset has {whole}" in notes(dataset)
    assert "missing" not in notes(dataset)


def test_pictures_beside_their_archive_and_lists_at_the_top(tmp_path):
    layouts.write_affectnet(tmp_path)
    (tmp_path / "Manually_Annotated").mkdir()
    (tmp_path / "Manually_Annotated_Images").rename(tmp_path / "Manually_Annotated" / "Manually_Annotated_Images")
    for path in (tmp_path / LISTS).iterdir():
        path.rename(tmp_path / path.name.upper())
    (tmp_path / LISTS).rmdir()
    dataset = open_dataset(tmp_path)
    assert dataset.name == "affectnet"
    assert len(dataset.samples()) == 24


def test_numbers_sort_as_numbers(tmp_path):
    layouts.write_affectnet(tmp_path, layout="npy")
    assert [s.id for s in open_dataset(tmp_path).samples()[:11]] == [f"train_set/{i}" for i in range(11)]


@pytest.mark.parametrize("layout", ["lists", "npy"])
def test_what_is_missing_is_listed_once(tmp_path, layout):
    layouts.write_affectnet(tmp_path, layout=layout)
    if layout == "lists":
        shutil.rmtree(tmp_path / "Manually_Annotated_Images")
        (tmp_path / LISTS / "validation.csv").unlink()
        wanted = [str(tmp_path / "Manually_Annotated_Images"), str(tmp_path / LISTS / "validation.csv")]
    else:
        shutil.rmtree(tmp_path / "val_set")
        wanted = [str(tmp_path / "val_set" / kind) for kind in ("images", "annotations")]
    found = check(None, tmp_path)
    assert (found["dataset"], found["usable"]) == ("affectnet", False)
    assert [p["path"] for p in found["problems"]] == wanted


def test_what_photographs_lack_costs_only_them(tmp_path):
    layouts.write_affectnet(tmp_path / "a")
    (tmp_path / "a/Manually_Annotated_Images/2/20005abc.jpg").unlink()
    path = tmp_path / "a" / LISTS / "training.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace("2,3,58,58,1.00;", "NULL,3,58,58,;"), *lines[3:]]))
    lists = open_dataset(tmp_path / "a")
    assert "1 of 24 images are missing: 2/20005abc.jpg" in notes(lists)
    assert len(lists.samples()) == 24
    assert [s.box is None for s in lists.samples()[:3]] == [False, True, False]
    assert [s.landmarks is None for s in lists.samples()[:3]] == [False, True, False]

    files = tmp_path / "b/train_set/annotations"
    layouts.write_affectnet(tmp_path / "b", layout="npy")
    (files / "0_exp.npy").unlink()
    (files / "1_exp.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00")
    np.save(files / "2_exp.npy", np.array(11))
    np.save(files / "3_exp.npy", np.array([{}], dtype=object))
    (files / "4_lnd.npy").unlink()
    np.save(files / "4_val.npy", np.array("high"))
    small = open_dataset(tmp_path / "b")
    first = small.samples()[0]
    assert (first.id, first.landmarks, first.extra["arousal"]) == ("train_set/4", None, -0.04)
    assert np.isnan(first.extra["valence"])
    assert "expressions of 4 images are missing or not from 0 to 10: 0_exp.npy, 1_exp.npy" in notes(small)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("expression", "label", "lacks the columns expression"),
        (",0,0.01,", ",x,0.01,", r"lines that are no row of .*: line 3"),
        (",0,0.01,", ",11,0.01,", "line 3"),
        (",0,0.01,-0.01", "", "line 3"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, old, new, said):
    layouts.write_affectnet(tmp_path)
    path = tmp_path / LISTS / "training.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path).samples()


@pytest.mark.parametrize("layout", ["lists", "npy"])
def test_faces_carry_valence_and_arousal(tmp_path, layout):
    how = {"detector": "dataset"} if layout == "lists" else {"detector": "none"}
    settings = DetectAlign(landmarks="dataset", align="none", margin=0, size=32, data={"contempt": "drop"}, **how)
    data = open_dataset(layouts.write_affectnet(tmp_path / "a", layout=layout), **settings.data)
    faces = artefact.read(detect_align.run(data, settings=settings, out=tmp_path / "faces.h5", workers=1), "faces")
    assert tuple(faces.classes) == PROTOCOLS["affectnet7"]
    assert faces["landmarks"].shape == (21, 68, 2)
    assert np.asarray(faces["valence"])[5] == pytest.approx(0.05)
    assert [faces.classes[i] for i in np.asarray(faces["label"])[:3]] == ["neutral", "neutral", "happiness"]
