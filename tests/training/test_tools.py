"""Optimisers, schedules, losses and clipping beyond the papers'."""

import commands
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy

from fertool import artefact
from fertool.models.base import Targets, classification_loss
from fertool.training.devices import Devices
from fertool.training.sampling import balanced_weights
from fertool.training.schedule import learning_rate

TOOLS = {
    "optimizer": "adamw",
    "lr": 0.01,
    "lr_schedule": "cosine",
    "lr_warmup": 1,
    "clip_norm": 0.5,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "mixup": 0.4,
    "cutmix": 1.0,
    "erase": 0.3,
    "jitter": 0.2,
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return toy.write_all(tmp_path_factory.mktemp("space") / "toy")


def test_cosine_after_a_linear_warm_up():
    s = toy.settings(lr=1.0, lr_schedule="cosine", lr_warmup=4, lr_unit="iteration")
    rates = [learning_rate(s, step, 10, 12) for step in range(12)]
    cosine = [(1 + np.cos(np.pi * k / 8)) / 2 for k in range(8)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, *cosine][:4] + cosine)


def test_label_smoothing_has_the_gradient_of_torch(faces):
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 1, 2, 1, 0])
    spread = 0.9 * F.one_hot(labels, 3) + 0.1 / 3
    (ours,) = torch.autograd.grad(classification_loss(logits, Targets(labels, spread)), logits)
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits, labels, label_smoothing=0.1), logits)
    torch.testing.assert_close(ours, theirs)


def test_balanced_weights_are_1_on_average_and_weigh_the_loss():
    labels = torch.tensor([0, 0, 0, 2])
    weights = balanced_weights(labels)[labels]
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0]))
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    each = F.cross_entropy(logits, labels, reduction="none")
    for spread in (None, F.one_hot(labels, 3).float()):
        torch.testing.assert_close(
            classification_loss(logits, Targets(labels, spread, weights=weights)), (weights * each).mean()
        )


def test_clipping_bounds_the_step(faces, tmp_path):
    """Of SGD without momentum and decay, the step is lr times the gradient."""
    plain = {"optimizer": "sgd", "momentum": 0, "weight_decay": 0, "lr": 1.0, "iterations": 1}
    still = toy.weights(toy.train_toy(faces, out=tmp_path / "still", **plain | {"lr": 1e-30}))
    moved = toy.weights(toy.train_toy(faces, out=tmp_path / "moved", **plain, clip_norm=1e-3))
    change = [moved[k] - still[k] for k in still if "running" not in k and "num_batches" not in k]
    assert np.sqrt(sum((c.astype("f8") ** 2).sum() for c in change)) == pytest.approx(1e-3, rel=0.02)


def test_resume_is_exact_with_all_tools(faces, tmp_path, monkeypatch):
    from fertool.errors import Stopped
    from fertool.training import loop

    whole = toy.train_toy(faces, out=tmp_path / "whole", **TOOLS)
    answers = iter([False, False, False, False, True])
    with monkeypatch.context() as m:
        m.setattr(loop, "on_any", lambda fabric, asked: next(answers, False))
        with pytest.raises(Stopped):
            toy.train_toy(faces, out=tmp_path / "parts", **TOOLS)
    assert artefact.read(tmp_path / "parts" / "run.h5", "run")["state/step"] > 0
    parts = toy.train_toy(faces, out=tmp_path / "parts", **TOOLS, options={"resume": True})
    assert set(whole.stored) == set(parts.stored)
    for name in whole.stored:
        np.testing.assert_array_equal(np.array(whole[name]), np.array(parts[name]), err_msg=name)


@pytest.mark.slow
def test_two_processes_train_like_one(faces, tmp_path):
    tools = {**TOOLS, "lr": 1e-4}  # Adam makes full steps of what is rounding on some processors: small ones
    one = toy.train_toy(faces, out=tmp_path / "one", **tools)
    two = toy.train_toy(faces, out=tmp_path / "two", devices=Devices("cpu", 2), **tools)
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(one[f"history/{column}"], two[f"history/{column}"], rtol=1e-3)


@pytest.mark.parametrize("key", ["label_smoothing=0.1", "class_weights=balanced"])
def test_targets_that_are_no_expressions_are_refused(faces, key):
    result = commands.call("train", "identity", "--set", f"train.{key}", space=faces.path.parent.parent)
    assert result.exit_code != 0
    assert f"{key.split('=')[0]} is for classes of expressions" in result.stdout
