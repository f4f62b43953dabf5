"""FED-RO and HAPPEI, which are recognised by the names of their folders."""

import shutil
from collections import Counter

import layouts
import pytest

from fertool import artefact
from fertool.datasets import check, open_dataset, recognise
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import DetectAlign
from fertool.stages import detect_align

WHOLE = DetectAlign(detector="none", landmarks="none", align="none", size=32)


@pytest.mark.parametrize("layout", ["folders", "table"])
def test_all_of_fedro_is_for_testing(tmp_path, layout):
    root = layouts.write_fedro(tmp_path, layout)
    dataset = open_dataset(root / "FED-RO")
    assert Counter((s.split, s.label) for s in dataset.samples()) == {("test", c): 2 for c in PROTOCOLS["fedro7"]}
    assert [str(p) for p in dataset.problems()] == ["test: 14 samples, the complete dataset has 400"]
    faces = artefact.read(detect_align.run(dataset, settings=WHOLE, out=tmp_path / "faces.h5", workers=1), "faces")
    assert tuple(faces.classes) == PROTOCOLS["fedro7"]
    assert set(faces["split"]) == {"test"}
    names = {c: n for n, c in enumerate(faces.classes)}
    wanted = [names[s.label] for s in dataset.samples()]
    assert faces["label"][:].tolist() == wanted


def test_fedro_under_other_names_has_to_be_named(tmp_path):
    root = layouts.write_fedro(tmp_path)
    (root / "FED-RO").rename(tmp_path / "pictures")
    assert recognise(tmp_path)[0].name == "folder"
    assert {s.split for s in open_dataset(tmp_path / "pictures", "fedro").samples()} == {"test"}


def test_fedro_that_does_not_fit(tmp_path):
    root = layouts.write_fedro(tmp_path)
    (root / "FED-RO" / "Sad").rename(root / "FED-RO" / "contempt")
    with pytest.raises(DataError, match="emotions that FED-RO does not have: contempt"):
        open_dataset(root).samples()
    (root / "FED-RO" / "contempt").rename(root / "FED-RO" / "boredom")
    with pytest.raises(DataError, match="named by no emotion: boredom"):
        open_dataset(root).samples()
    shutil.rmtree(root / "FED-RO")
    layouts.write_folder(root / "FED-RO", splits=("",), classes=("",))
    with pytest.raises(DataError, match="no labels"):
        open_dataset(root).samples()


def test_happei_has_pictures_and_no_labels(tmp_path):
    root = layouts.write_happei(tmp_path / "data")
    for place in (root, root / "HAPPEI"):
        dataset = open_dataset(place)
        assert dataset.name == "happei"
        assert [(s.id, s.label, s.split) for s in dataset.samples()] == [
            (f"images/group {i}.jpg", None, "") for i in range(3)
        ]
    path = detect_align.run(dataset, settings=WHOLE, out=tmp_path / "faces.h5", workers=1)
    assert artefact.read(path, "faces")["label"][:].tolist() == [-1] * 3
    detect_align.report(detect_align.summary(path))
    found = check("happei", root)
    assert found["usable"]
    assert found["classes"] == []
    assert found["splits"] == {"": {"samples": 3, "labelled": 0, "classes": {}}}
    shutil.rmtree(root / "HAPPEI" / "images")
    with pytest.raises(DataError, match="there are no pictures"):
        open_dataset(root).samples()
