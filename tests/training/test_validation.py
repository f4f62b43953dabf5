"""The loss on the validation faces."""

import numpy as np
import pytest
import torch
import toy

from fertool import artefact
from fertool.evaluation.summary import metric_of
from fertool.models.base import Targets, classification_loss
from fertool.models.registry import build_model, model_settings
from fertool.settings import Evaluate
from fertool.stages import evaluate
from fertool.training.sampling import balanced_weights


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return toy.write_all(tmp_path_factory.mktemp("space") / "toy", test=23)


def test_validation_loss_is_the_training_loss_of_the_validation_faces(faces):
    """Recomputed from the predictions of eval, with smoothed labels and the training faces' class weights."""
    run = toy.train_toy(faces, epochs=1, lr=0.1, label_smoothing=0.2, class_weights="balanced")
    made = artefact.read(evaluate.run(run.path.parent, settings=Evaluate(), devices=toy.CPU))
    label, logits = torch.from_numpy(made["label"].astype("i8")), torch.tensor(np.array(made["logits"]))
    weights = balanced_weights(torch.from_numpy(faces["label"][:48].astype("i8")))[label]
    spread = 0.8 * torch.nn.functional.one_hot(label, 3) + 0.2 / 3
    ce = classification_loss(logits, Targets(label, spread, weights=weights)).item()
    assert run["history/val_loss_ce"][0] == pytest.approx(ce, rel=1e-5)
    assert run["history/val_loss"][0] == pytest.approx(ce + run["history/val_loss_rank"][0], rel=1e-5)


def test_a_run_of_before_goes_on_without_the_loss_of_its_first_epochs(faces, tmp_path):
    old = toy.train_toy(faces, epochs=1, out=tmp_path / "run")
    kept = {name: np.array(old[name]) for name in old.stored if "val_loss" not in name}
    about = {"params": old.params, "inputs": old.inputs, "classes": old.classes, "info": old.info}
    artefact.save(old.path, "run", kept | {"state/finished": np.array(False)}, **about)
    run = toy.train_toy(faces, epochs=2, out=tmp_path / "run", options={"resume": True})
    assert np.isnan(run["history/val_loss"]).tolist() == [True, False]


def test_pairs_are_compared_outside_training_too():
    """WS-LGRN's contrastive losses, which need the features of faces 2i and 2i + 1."""
    settings = model_settings({"name": "ws-lgrn", "growth": 4, "stem": 8, "blocks": [1, 1, 1], "use_local": False})
    net = build_model(settings, 3).eval()
    output = net(torch.rand(4, 1, 1, *net.input.size, generator=torch.Generator().manual_seed(0)))
    assert net.losses(output, Targets(torch.tensor([0, 0, 1, 2]))).keys() == {"ce", "face"}


def test_the_metric_is_no_loss():
    assert metric_of(["lr", "val_loss", "val_loss_ce", "val_precision"]) == "precision"
