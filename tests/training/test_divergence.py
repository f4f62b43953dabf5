"""Trainings and files with NaN or infinite values: stopped or refused at the first of them, and nothing is saved."""

import json
import math
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
import toy

from fertool import artefact
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, FertoolError, NotFiniteError
from fertool.pretrained.files import read_tensors
from fertool.settings import Evaluate, Report
from fertool.stages import evaluate, report
from fertool.training.run_file import NotFinite, Progress

SETTINGS = ("--set", "train.model.backbone=tiny", "--set", "train.model.size=24", "--batch", 16, "--gpus", 0)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Artefact:
    return toy.write_all(tmp_path_factory.mktemp("space") / "toy")


@pytest.fixture(scope="module")
def trained(faces) -> Artefact:
    return toy.train_toy(faces, epochs=1)


def spoilt(run: Artefact, folder: Path, **arrays: np.ndarray) -> Artefact:
    """A copy of a run with other arrays, as an earlier fertool might have left it."""
    kept = {name: np.array(run[name]) for name in run.stored} | {k.replace("__", "/"): v for k, v in arrays.items()}
    return artefact.save(
        folder / "run.h5", "run", kept, params=run.params, inputs=run.inputs, classes=run.classes, info=run.info
    )


@pytest.fixture(scope="module")
def bad(trained) -> Artefact:
    """A run whose weights are NaN."""
    name = "weights/last/classifier.weight"
    weight = np.full_like(np.array(trained[name]), np.nan)
    return spoilt(trained, trained.path.parent.with_name("ran-bad"), **{name.replace("/", "__"): weight})


# ------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("processes", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, processes):
    toy.write_all(tmp_path / "toy", train=96)
    words = ("train", "ran", *SETTINGS, "--lr", 1e30, "--epochs", 3, "--cpu-processes", processes)
    result = commands.call(*words, space=tmp_path)
    facts = json.loads(result.stdout)
    assert result.exit_code == facts["code"] == 5
    assert "is nan at step 2 (epoch 1, learning rate 1e+30): the training has diverged" in facts["error"]
    assert "the loss ce" in facts["error"]
    assert facts["hint"] == "the learning rate is likely too high: train again with --lr 1e+29"
    assert not list((tmp_path / "toy" / "runs").iterdir()), "nothing of it is kept"


def test_what_was_saved_before_stays(faces, tmp_path):
    """The rate is raised at the second epoch; the first one is kept, and can be used."""
    with pytest.raises(
        NotFiniteError, match=r"at step 5 \(epoch 2, learning rate 1e\+30\).* the last sound state"
    ) as e:
        toy.train_toy(faces, out=tmp_path / "run", lr_milestones=[1], lr_gamma=2e31)
    assert "--lr 0.005" in e.value.hint
    run = artefact.read(tmp_path / "run" / "run.h5", "run")
    assert run["state/iteration"] == 3
    assert all(np.isfinite(values).all() for values in toy.weights(run).values())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_that_overflow_in_the_very_last_step_are_not_saved(faces, tmp_path, optimizer):
    """The loss of the only step is finite: it is the weights after it that are not."""
    options = {"optimizer": optimizer, "lr": 1e30, "weight_decay": 1e30, "iterations": 1}
    with pytest.raises(NotFiniteError, match="weights are NaN or infinite after step 1 "):
        toy.train_toy(faces, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_outputs_that_are_not_finite_in_validation_alone(faces, tmp_path):
    """Batch statistics do not overflow where running ones do: the weights are finite, what they predict is not."""
    with pytest.raises(NotFiniteError, match=r"(its loss there, is|weights are) NaN or infinite"):
        toy.train_toy(faces, out=tmp_path / "run", lr=1e19, iterations=1)


def test_the_step_is_exact_although_losses_are_read_later():
    """As on a GPU, where the losses of many steps are read together."""
    losses = [1.0, 2.0, math.inf, 3.0, math.nan]
    progress = Progress(iteration=40 + len(losses), sums={"ce": 5.0})
    progress.unread = [(("ce", "seen"), torch.tensor([value, 8.0])) for value in losses]
    with pytest.raises(NotFinite) as e:
        progress.read()
    assert (e.value.step, e.value.values) == (43, {"ce": math.inf})


def test_a_precision_with_a_smaller_range_is_named(faces, tmp_path):
    with pytest.raises(NotFiniteError) as e:
        toy.train_toy(faces, out=tmp_path / "run", lr=1e30, precision="bf16")
    assert "--precision 32" in e.value.hint


# --------------------------------------------------------------------------------------- files that are refused


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "--run", "ran-bad"),
        ("export", "--run", "ran-bad"),
        ("predict", __file__, "--run", "ran-bad"),
        ("train", "ran", *SETTINGS, "--init", "{run}"),
    ],
)
def test_weights_that_are_not_finite_are_refused(faces, bad, words):
    space = faces.path.parent.parent
    result = commands.call(*(str(w).format(run=bad.path) for w in words), space=space)
    facts = json.loads(result.stdout)
    assert result.exit_code == 5, facts
    assert "are NaN or infinite: classifier.weight" in facts["error"]
    assert "--lr" in facts["hint"]


def test_a_run_with_bad_weights_does_not_go_on(trained, tmp_path):
    weights = {name: np.full_like(np.array(trained[name]), np.inf) for name in trained.stored if "classifier" in name}
    spoilt(
        trained,
        tmp_path / "run",
        state__finished=np.array(False),
        **{k.replace("/", "__"): v for k, v in weights.items()},
    )
    with pytest.raises(NotFiniteError, match="classifier"):
        toy.train_toy(
            artefact.read(trained.path.parent.parent.parent / "faces.h5"),
            out=tmp_path / "run", epochs=2, options={"resume": True},
        )  # fmt: skip


@pytest.mark.parametrize(("precision", "hint"), [("32", "--lr"), ("bf16", "--precision 32")])
def test_logits_that_are_not_finite_are_refused(trained, tmp_path, precision, hint):
    """The weights are finite; their products are not."""
    name = "weights/last/classifier.weight"
    folder = trained.path.parent.with_name(f"ran-large-{precision}")
    spoilt(trained, folder, **{name.replace("/", "__"): np.full_like(np.array(trained[name]), 3e38)})
    with pytest.raises(NotFiniteError, match=r"logits of \d+ of 24 faces are NaN or infinite, first of face") as e:
        evaluate.run(folder, settings=Evaluate(precision=precision), devices=toy.CPU)
    assert hint in e.value.hint
    assert not (folder / "predictions.h5").exists()


def test_predictions_and_histories_that_are_not_finite_are_refused(trained):
    folder = trained.path.parent
    made = artefact.read(evaluate.run(folder, settings=Evaluate(), devices=toy.CPU))
    report.run([folder], settings=Report(), out=None)
    columns = {name: np.array(made[name]) for name in made.columns}
    columns["logits"][3, 1] = np.nan
    artefact.save(
        made.path, "predictions", columns, params=made.params, inputs=made.inputs, classes=made.classes, info=made.info
    )
    with pytest.raises(ArtefactError, match=r"logits holds values that are not finite"):
        report.run([folder], settings=Report(), out=None)
    made.path.unlink()

    history = spoilt(trained, folder.with_name("ran-nan"), **{"history__loss": np.array([np.nan])})
    with pytest.raises(ArtefactError, match=r"history/loss holds values that are not finite"):
        report.run([history.path.parent], settings=Report(), out=None)


def test_regions_that_are_not_finite_are_refused(tmp_path):
    faces = toy.write_all(tmp_path / "toy")
    toy.write_regions(faces, np.where(toy.BOXES > 0.7, np.nan, toy.BOXES))
    with pytest.raises(ArtefactError, match="boxes holds values that are not finite"):
        toy.train_toy(faces)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_foreign_file_with_a_bad_value(tmp_path, value):
    torch.save({"a": torch.ones(3), "b": torch.tensor([[1.0, value]])}, tmp_path / "w.pth")
    with pytest.raises(FertoolError, match="NaN or infinite: b$") as e:
        read_tensors(tmp_path / "w.pth")
    assert e.value.exit_code == 5
