"""CelebA read from small trees of its layouts, whole and broken, and a large one."""

import json
import os
import subprocess
import sys
from collections import Counter

import layouts
import numpy as np
import pytest

from fertool import artefact
from fertool.datasets import check, open_dataset, recognise
from fertool.errors import DataError
from fertool.labels import ATTRIBUTES
from fertool.settings import DetectAlign
from fertool.stages import detect_align


def notes(dataset) -> str:
    return "\n".join(map(str, dataset.problems()))


@pytest.mark.parametrize("layout", ["folders", "flat", "csv"])
def test_layouts_tell_the_same(tmp_path, layout):
    layouts.write_celeba(tmp_path / "on top" / "CelebA", layout=layout)
    assert recognise(tmp_path / "on top")[0].name == "celeba"
    dataset = open_dataset(tmp_path / "on top")
    samples = list(dataset.samples())
    assert [s.id for s in samples] == [f"{i:06d}" for i in range(1, 13)]
    assert Counter(s.split for s in samples) == {"train": 8, "val": 2, "test": 2}
    assert dataset.classes == ()
    assert {s.label for s in samples} == {None}
    for i, sample in enumerate(samples):
        assert list(sample.extra) == [name for group in ATTRIBUTES.values() for name in group]
        for j, name in enumerate(layouts.CELEBA_ATTRIBUTES):
            if f"attr_{name.lower()}" in sample.extra:
                assert sample.extra[f"attr_{name.lower()}"] == (1 if (i + j) % 7 == 0 else -1)
    assert samples[3].landmarks.tolist() == [[63, 109], [106, 113], [77, 142], [73, 152], [108, 154]]
    assert dataset.read(samples[3]).shape == (218, 178, 3)
    assert "train: 8 samples, the complete dataset has 162,770" in notes(dataset)
    assert "missing" not in notes(dataset)


def test_png_pictures_and_windows_line_ends(tmp_path):
    layouts.write_celeba(tmp_path)
    pictures = tmp_path / "Img" / "img_align_celeba"
    pictures.rename(pictures.with_name("img_align_celeba_png"))
    for path in (tmp_path / "Img" / "img_align_celeba_png").glob("0*.jpg"):
        path.rename(path.with_suffix(".png"))
    for path in tmp_path.glob("*/*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (tmp_path / "Anno").rename(tmp_path / "anno")
    samples = open_dataset(tmp_path).samples()
    assert len(samples) == 12
    assert all(s.path.is_file() for s in samples)
    assert samples[11].extra["attr_big_lips"] == -1  # picture 11, attribute 6


def test_without_attributes_it_is_no_data_set(tmp_path):
    layouts.write_celeba(tmp_path)
    (tmp_path / "Anno" / "list_attr_celeba.txt").unlink()
    found = check(None, tmp_path)
    assert (found["dataset"], found["usable"], found["samples"]) == ("celeba", False, 0)
    fatal = [p for p in found["problems"] if p["fatal"]]
    assert [p["message"] for p in fatal] == ["the list of attributes is missing"]
    assert fatal[0]["path"].startswith(str(tmp_path / "Anno" / "list_attr_celeba.txt"))


def test_everything_missing_is_listed_once(tmp_path):
    (tmp_path / "celeba" / "Img" / "img_align_celeba").mkdir(parents=True)
    with pytest.raises(DataError) as e:
        open_dataset(tmp_path).samples()
    for what in ("list of attributes", "list of splits", "images"):
        assert e.value.message.count(f"the {what}") == 1
    assert f"{tmp_path}/celeba/Img/img_align_celeba" in e.value.message


def test_what_some_pictures_lack_costs_only_them(tmp_path):
    layouts.write_celeba(tmp_path)
    (tmp_path / "Img/img_align_celeba/000002.jpg").unlink()
    for name, picture in (("Eval/list_eval_partition", "000003"), ("Anno/list_landmarks_align_celeba", "000004")):
        path = tmp_path / f"{name}.txt"
        path.write_text("".join(x for x in path.read_text().splitlines(True) if not x.startswith(picture)))
    dataset = open_dataset(tmp_path)
    samples = dataset.samples()
    assert [s.split for s in samples[:5]] == ["train", "train", "", "train", "val"]
    assert [s.landmarks is None for s in samples[:5]] == [False, False, False, True, False]
    assert samples[4].landmarks[0].tolist() == [64, 109]
    for what, name in (("images", "000002"), ("splits", "000003"), ("landmarks", "000004")):
        assert f"{what} of 1 of 12 are missing: {name}" in notes(dataset)
    (tmp_path / "Anno/list_landmarks_align_celeba.txt").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.samples()[0].landmarks is None
    assert "the list of landmarks is missing" in notes(dataset)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("Anno/list_attr_celeba.txt", "Smiling", "Grinning", "lacks the columns smiling"),
        ("Anno/list_attr_celeba.txt", "000002.jpg  -1  -1", "000002.jpg  -1  0", "lines that do not fit: line 4"),
        ("Eval/list_eval_partition.txt", "000002.jpg 0", "000002.jpg 3", "lines that do not fit: line 2"),
        ("Eval/list_eval_partition.txt", "000002.jpg 0", "000002.jpg", "lines that do not fit: line 2"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, name, old, new, said):
    layouts.write_celeba(tmp_path)
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path).samples()


def test_an_attribute_list_needs_its_names(tmp_path):
    layouts.write_celeba(tmp_path)
    path = tmp_path / "Anno" / "list_attr_celeba.txt"
    path.write_text("".join(path.read_text().splitlines(True)[2:]))
    with pytest.raises(DataError, match="lacks the columns bushy_eyebrows"):
        open_dataset(tmp_path).samples()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is measured as Linux tells it")
def test_a_quarter_of_the_full_size_is_listed_in_little_memory(tmp_path):
    layouts.write_celeba(tmp_path, n=50_000, pictures=False)
    (tmp_path / "Img/img_align_celeba").mkdir(parents=True)
    (tmp_path / "Img/img_align_celeba/000001.jpg").touch()
    code = (
        "import sys, json; from fertool.datasets import open_dataset\n"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        "samples = open_dataset(sys.argv[1]).samples()\n"
        "print(json.dumps([len(samples), samples[49_999].id, samples[49_999].split, peak() - before]))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    count, last, split, kilobytes = json.loads(done.stdout)
    assert (count, last, split) == (50_000, "050000", "train")
    assert kilobytes < 40_000  # a list of all samples takes as much again


@pytest.mark.parametrize("aligned", [False, True])
def test_faces_carry_the_attributes(tmp_path, aligned):
    root = layouts.write_celeba(tmp_path / "celeba")
    how = {"landmarks": "dataset", "template": "eyes-mouth"} if aligned else {"landmarks": "none", "align": "none"}
    settings = DetectAlign(detector="none", size=48, grey=True, **how)
    path = detect_align.run(open_dataset(root), settings=settings, out=tmp_path / "faces.h5", workers=1)
    faces = artefact.read(path, "faces")
    assert faces["images"].shape == (12, 48, 48, 1)
    assert (np.asarray(faces["label"]) == -1).all()
    assert np.asarray(faces["attr_smiling"]).tolist() == [1 if (i + 31) % 7 == 0 else -1 for i in range(12)]
    facts = detect_align.summary(path)
    assert (facts["classes"], facts["unlabelled"]) == ({}, 12)
    detect_align.report(facts)
