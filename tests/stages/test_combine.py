"""Faces of several datasets in one file, by the real command."""

import numpy as np
import pytest
import toy
from commands import tell

from fertool import artefact


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("combine")
    people = {"subject": np.array([f"p{i % 5}" for i in range(72)])}
    toy.write_faces(folder / "one", seed=1, **people)
    toy.write_faces(folder / "two", seed=2, classes=("fear", "neutral", "anger"), **people)
    return folder


@pytest.fixture(scope="module")
def both(space):
    tell("combine", "one", "two:train,test", space=space)
    return artefact.read(space / "one-two/faces.h5", "faces")


def test_labels_are_joined_by_name(space, both):
    assert both.classes == toy.CLASSES
    other = artefact.read(space / "two/faces.h5")
    names = [other.classes[k] for k in other["label"]]
    assert [both.classes[k] for k in both["label"][72:]] == names
    assert np.array_equal(both["images"][72:], other["images"])
    assert np.array_equal(both["status"], np.ones(144))


def test_splits_named_are_all_for_training_and_others_stay(space, both):
    first = artefact.read(space / "one/faces.h5")
    assert both["split"][:72].tolist() == first["split"].tolist()
    assert set(both["split"][72:].tolist()) == {"train"}


def test_people_of_two_data_sets_are_different_people(both):
    assert set(both["subject"][:72]) == {f"one/p{i}" for i in range(5)}
    assert not set(both["subject"][:72]) & set(both["subject"][72:])
    assert len(set(both.ids.tolist())) == 144


def test_only_the_named_splits_go_in(space):
    facts = tell("combine", "one", "two:test", "--name", "less", space=space)
    assert facts["from"] == {"one": {"test": 24, "train": 48}, "two": {"test": 0, "train": 24}}
    assert sum(facts["labels"].values()) == facts["faces"] == 96


def test_what_only_some_have_is_left_out_and_new_classes_come_last(space, tmp_path):
    spread = np.eye(3, dtype="f4")[np.arange(72) % 3]
    classes = ("neutral", "anger", "contempt")
    emotion = np.arange(72) % 3
    toy.write_faces(tmp_path / "a", label_distribution=spread, vote=np.arange(72))
    toy.write_faces(tmp_path / "b", classes=toy.CLASSES, label_distribution=spread)
    file = tmp_path / "b/faces.h5"
    old = artefact.read(file)
    arrays = {k: np.asarray(old[k]) for k in old.columns} | {"label": emotion.astype("i2")}
    artefact.save(file, "faces", arrays, params=old.params, classes=classes)
    tell("combine", "a", "b", space=tmp_path)
    made = artefact.read(tmp_path / "a-b/faces.h5")
    assert made.classes == ("neutral", "anger", "fear", "contempt")
    assert "vote" not in made
    assert made["label"][72:].tolist() == [(0, 1, 3)[e] for e in emotion]
    assert np.array_equal(made["label_distribution"][72:].argmax(1), made["label"][72:])


def test_what_is_trained_on_both_is_tested_on_the_first(space, both):
    sets = ["train.model.backbone=tiny", "train.model.size=24"]
    tell("crop-regions", "--data", "one-two", space=space)
    words = [w for s in sets for w in ("--set", s)]
    trained = tell("train", "ran", "--data", "one-two", "--gpus", 0, "--epochs", 1, "--batch", 16, *words, space=space)
    scored = tell("eval", "--run", trained["run"], space=space)["runs"]["ran-1"]["subsets"]["all"]
    assert scored["n_total"] == 24


def test_a_run_on_both_is_scored_on_a_third(space):
    tell("combine", "one:train", "two:train", "--name", "web", space=space)
    for name in ("web", "third"):
        if name == "third":
            toy.write_faces(space / "third", seed=9)
        tell("crop-regions", "--data", name, space=space)
    sets = [w for s in ("train.model.backbone=tiny", "train.model.size=24") for w in ("--set", s)]
    words = ("train", "ran", "--data", "web", "--recipe", "ran-rafdb", "--gpus", 0, "--epochs", 1, "--batch", 16)
    run = tell(*words, *sets, space=space)["run"]
    scored = tell("eval", "--run", run, "--data", "third", space=space)["runs"]
    assert [r["subsets"]["all"]["n_total"] for r in scored.values()] == [24]


def test_faces_named_by_their_files_are_counted(space, tmp_path):
    words = ("combine", space / "one/faces.h5", f"{space}/two/faces.h5:train", "--out", tmp_path / "both.h5")
    facts = tell(*words, space=space)
    assert {name: sum(n.values()) for name, n in facts["from"].items()} == {"one": 72, "two": 48}


def test_again_it_is_up_to_date_and_other_parts_are_refused(space, both):
    tell("combine", "one", "two:train,test", space=space)
    assert artefact.read(space / "one-two/faces.h5").uid == both.uid
    told = tell("combine", "one", "two:train", "--name", "one-two", space=space, ok=False)
    assert told["code"] == 3
    assert "combined" in told["error"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["one"], 2, "two datasets"),
        (["one", "one:train"], 2, "named twice"),
        (["one", "three"], 3, "three"),
        (["one", "two:tset"], 3, "tset"),
        (["one", "big"], 3, "different sizes"),
    ],
)
def test_what_cannot_be_combined_is_said(space, words, code, said):
    if not (space / "big").exists():
        toy.write_faces(space / "big", images=np.zeros((72, 40, 40, 1), "u1"))
    told = tell("combine", *words, "--name", "never", space=space, ok=False)
    assert told["code"] == code
    assert said in told["error"]
    assert not (space / "never/faces.h5").exists()
