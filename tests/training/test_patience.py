"""Trainings that end when the validation measure no longer improves."""

import commands
import numpy as np
import pytest
import toy

from fertool.errors import DataError, RecipeError, Stopped
from fertool.training import loop

#: learns nothing, so that nothing improves after the first epoch
STILL = {"lr": 1e-30, "epochs": 9, "patience": 2, "select_on": "test"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return toy.write_all(tmp_path_factory.mktemp("space") / "toy")


def test_patience_ends_the_training_and_is_up_to_date(faces, capsys):
    run = toy.train_toy(faces, **STILL)
    assert len(run["history/loss"]) == run["state/epoch"] == 3
    assert run["state/finished"]
    assert "the score on test has not improved for 2 epochs: the training ends" in capsys.readouterr().err
    assert toy.train_toy(faces, **STILL).uid == run.uid


def test_patience_resumes_exactly_and_watches_the_loss(faces, tmp_path, monkeypatch):
    """At this rate the loss of the validation faces rises now and then."""
    rough = {"lr": 0.1, "epochs": 8, "patience": 1, "patience_on": "loss", "select_on": "test"}
    whole = toy.train_toy(faces, out=tmp_path / "whole", **rough)
    loss = np.array(whole["history/val_loss"])
    rises = np.flatnonzero(np.diff(loss) >= 0)
    assert rises.tolist() == ([len(loss) - 2] if len(loss) < 8 else rises[-1:].tolist())
    answers = iter([False, False, True])
    with monkeypatch.context() as m:
        m.setattr(loop, "on_any", lambda fabric, asked: next(answers, False))
        with pytest.raises(Stopped):
            toy.train_toy(faces, out=tmp_path / "parts", **rough)
    parts = toy.train_toy(faces, out=tmp_path / "parts", **rough, options={"resume": True})
    assert parts.digest == whole.digest


def test_runs_without_patience_are_named_as_before(faces):
    run = toy.train_toy(faces, epochs=1)
    assert not {"patience", "patience_on"} & run.params["train"].keys()


def test_patience_on_the_test_split_has_to_be_spelled_out(faces):
    words = ("train", "ran", "--patience", "3", "--set", "train.model.backbone=tiny")
    result = commands.call(*words, space=faces.path.parent.parent)
    assert result.exit_code == RecipeError.exit_code
    assert "choose the length of the training on the test split" in result.stdout
    with pytest.raises(DataError, match="patience: 3 needs labelled faces in split val"):
        toy.train_toy(faces, patience=3, val_split="val")
