"""eval: predictions are what the network says, made once, matched by name and id, and scored through the command."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.errors import ArtefactError, DataError
from fertool.evaluation import metrics
from fertool.models.registry import build_model, model_settings
from fertool.recipe import Recipe
from fertool.stages import evaluate

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Faces with regions and subsets, the last three test faces without a label, without a picture, and kept whole."""
    status = np.ones(72, "u1")
    status[[70, 71]] = 4, 3
    label = np.array(toy.write_faces(tmp_path_factory.mktemp("plain"))["label"])
    label[69] = -1
    made = toy.write_faces(tmp_path_factory.mktemp("space") / "toy", status=status, label=label)
    toy.write_regions(made)
    toy.write_subsets(made, pose30=np.arange(72) % 2 == 0, occlusion=np.arange(72) >= 66)
    return made


@pytest.fixture(scope="module")
def run(faces):
    return toy.train_toy(faces).path.parent


def predict(run, **options):
    settings = Recipe().settings("eval", options.pop("settings", {}))
    path = evaluate.run(run, settings=settings, devices=toy.CPU, **options)
    return artefact.read(path, "predictions")


def by_hand(run, faces, rows: np.ndarray, boxes=toy.BOXES, which: str = "last") -> torch.Tensor:
    """Logits of grey faces, cropped and resized by torch's own resize."""
    trained = artefact.read(run / "run.h5")
    net = build_model(model_settings(trained.params["model"]), 3, regions=len(boxes)).eval()
    net.load_state_dict({k: torch.from_numpy(v) for k, v in toy.weights(trained, which).items()})
    pixels = torch.from_numpy(np.array(faces["images"])[rows]).permute(0, 3, 1, 2).float()
    views = []
    for x0, y0, x1, y1 in (32 * np.asarray(boxes)).astype(int):
        views.append(F.interpolate(pixels[..., y0:y1, x0:x1], 24, mode="bilinear", align_corners=False))
    x = torch.stack(views, 1).expand(-1, -1, 3, -1, -1) / 255
    with torch.inference_mode():
        return net((x - MEAN[:, None, None]) / STD[:, None, None]).logits


# --------------------------------------------------------------------------------------------- predictions


def test_predictions_are_a_forward_pass(run, faces):
    """Whole faces exactly, and the rows, ids, labels and parents that belong to them."""
    p = predict(run)
    rows = np.setdiff1d(np.arange(48, 72), [70])
    assert p["row"].tolist() == rows.tolist()
    assert list(p.ids) == list(faces.ids[rows])
    assert p["label"].tolist() == np.asarray(faces["label"])[rows].tolist()
    assert p["status"].tolist() == np.asarray(faces["status"])[rows].tolist()
    assert p.classes == toy.CLASSES
    trained = artefact.read(run / "run.h5")
    regions = artefact.read(faces.path.with_name("regions.h5"))
    assert [(i.role, i.digest) for i in p.inputs] == [
        ("run", trained.digest),
        ("faces", faces.digest),
        ("regions", regions.digest),
    ]
    assert np.allclose(p["logits"], by_hand(run, faces, rows), atol=2e-3)
    labelled = np.asarray(p["label"]) >= 0
    assert (p["logits"].argmax(1) == p["label"])[labelled].all(), "and they were trained on"


def test_attention_is_kept(run):
    p = predict(run)
    assert p["attention_mu"].shape == p["attention_nu"].shape == p["attention_weight"].shape == (23, 3)
    share = p["attention_mu"] * p["attention_nu"]
    assert np.allclose(p["attention_weight"], share / share.sum(1, keepdims=True), atol=1e-6)


def test_the_size_of_a_batch_changes_nothing(run):
    whole = np.array(predict(run)["logits"])
    for batch in (1, 5):
        parts = predict(run, settings={"batch": batch}, overwrite=True)
        assert np.allclose(parts["logits"], whole, atol=1e-5)


def test_predicting_twice_is_done_once(run):
    first = predict(run, overwrite=True)
    assert predict(run).uid == first.uid
    again = predict(run, overwrite=True)
    assert again.uid != first.uid
    assert again.digest == first.digest


def test_other_splits_weights_and_precisions_lie_beside_one_another(run, faces):
    train_split = predict(run, settings={"split": "train"})
    assert train_split.path.name == "predictions-train.h5"
    assert train_split["row"].tolist() == list(range(48))
    best = predict(run, settings={"weights": "best"})
    assert best.path.name == "predictions-best.h5"
    assert np.allclose(best["logits"], by_hand(run, faces, np.asarray(best["row"]), which="best"), atol=2e-3)
    half = predict(run, settings={"precision": "bf16"})
    assert half.path.name == "predictions-bf16.h5"
    assert half["logits"].dtype == np.float32
    full = predict(run)["logits"]
    assert not np.array_equal(half["logits"], full)
    assert np.allclose(half["logits"], full, atol=0.2)


def test_a_run_that_was_trained_on_is_predicted_anew(faces, tmp_path, capsys):
    folder = faces.path.parent / "runs" / tmp_path.name
    toy.train_toy(faces, out=folder, epochs=1)
    before = np.array(predict(folder)["logits"])
    toy.train_toy(faces, out=folder, epochs=2, options={"resume": True})
    after = predict(folder)
    assert f"{folder.name} has been trained on since predictions.h5 was made" in capsys.readouterr().err
    assert not np.array_equal(before, after["logits"])
    assert after.parent("run").digest == artefact.read(folder / "run.h5").digest


def test_the_selected_weights_are_those_of_select_on(faces, tmp_path):
    folder = faces.path.parent / "runs" / tmp_path.name
    # one good epoch, then nonsense
    toy.train_toy(faces, out=folder, select_on="test", epochs=3, lr_milestones=[2], lr_gamma=1e4)
    selected, best, last = (predict(folder, settings={"weights": w})["logits"] for w in ("selected", "best", "last"))
    assert np.array_equal(selected, best)
    assert not np.array_equal(selected, last)


# ------------------------------------------------------------------------------------------- other faces, other regions


def test_other_faces_are_matched_by_the_names_of_their_classes(run, tmp_path):
    """The same emotions in another order, one that the run does not know, and classes it has never seen a face of."""
    order = ("fear", "contempt", "neutral", "anger")
    other = toy.write_faces(tmp_path / "other", seed=5, classes=order)
    label = np.array(other["label"])
    label[50] = 1
    other = toy.write_faces(tmp_path / "other", seed=5, classes=order, label=label)
    toy.write_regions(other)
    p = predict(run, faces=other.path)
    assert p.path == run / "predictions-other.h5"
    assert p.classes == toy.CLASSES
    names = [order[i] for i in label[48:]]
    assert [toy.CLASSES[i] if i >= 0 else "contempt" for i in p["label"]] == names
    known = np.asarray(p["label"]) >= 0
    assert known.sum() == 23
    assert (p["logits"].argmax(1) == p["label"])[known].all()


def test_other_regions(run, faces, tmp_path):
    """More crops than in training, as in the paper's rows with random crops."""
    boxes = np.concatenate([toy.BOXES, toy.BOXES[1:], [[0.125, 0.25, 0.875, 1]]]).astype("f4")
    path = tmp_path / "many.h5"
    columns = {"id": faces.ids, "boxes": np.repeat(boxes[None], faces.rows, axis=0)}
    artefact.save(path, "regions", columns, params={"many": True}, inputs=[faces.as_parent()])
    p = predict(run, regions=path)
    assert p.path.name == "predictions-many.h5"
    assert p["attention_weight"].shape == (23, 6)
    assert np.allclose(p["logits"], by_hand(run, faces, np.asarray(p["row"]), boxes), atol=2e-3)


def refused(kind, says: str, hint: str, call) -> None:
    with pytest.raises(kind, match=says) as e:
        call()
    assert hint in (e.value.hint or "")


def test_what_cannot_be_predicted(run, faces, tmp_path):
    other = toy.write_faces(tmp_path / "other", seed=5)
    refused(ArtefactError, "no regions", "fertool crop-regions --data", lambda: predict(run, faces=other.path))
    strange = toy.write_regions(other)
    refused(ArtefactError, "another faces file", "", lambda: predict(run, regions=strange.path))
    refused(
        DataError, "no faces with a picture in split 'val'", "test, train",
        lambda: predict(run, settings={"split": "val"}),
    )  # fmt: skip


def test_faces_that_were_made_anew_are_refused(tmp_path):
    faces = toy.write_all(tmp_path / "toy")
    folder = toy.train_toy(faces, epochs=0.4).path.parent
    toy.write_regions(toy.write_faces(tmp_path / "toy", seed=3))
    refused(ArtefactError, "run.h5 was made from another faces file", "make it again", lambda: predict(folder))


def test_a_run_far_from_its_faces_needs_them_named(faces, tmp_path):
    folder = toy.train_toy(faces, out=tmp_path / "far/away/run", epochs=0.4).path.parent
    refused(ArtefactError, "no faces beside the run", "--data", lambda: predict(folder))
    assert predict(folder, faces=faces.path)["row"][0] == 48
    facts = evaluate.latency(folder, settings=Recipe().settings("eval"), devices=toy.CPU, faces=faces.path, measured=2)
    assert facts["faces"] == 2


def test_concatenation_keeps_its_number_of_regions(faces, tmp_path):
    folder = faces.path.parent / "runs" / tmp_path.name
    toy.train_toy(faces, out=folder, epochs=0.4, options={"variant": "concat"})
    assert predict(folder)["logits"].shape == (23, 3)
    path = tmp_path / "two.h5"
    columns = {"id": faces.ids, "boxes": np.repeat(toy.BOXES[None, :2], faces.rows, axis=0)}
    artefact.save(path, "regions", columns, params={}, inputs=[faces.as_parent()])
    refused(ArtefactError, "another number of regions than 2", "trained on", lambda: predict(folder, regions=path))


def test_latency(run):
    facts = evaluate.latency(run, settings=Recipe().settings("eval"), devices=toy.CPU, measured=5, warm_up=1)
    assert facts.keys() == {"median_ms", "p90_ms", "faces", "device", "paper"}
    assert facts["paper"] == "the paper: 25 ms on a GTX 1080 Ti"
    assert 0 < facts["median_ms"] <= facts["p90_ms"]
    assert facts["faces"] == 5
    assert facts["device"].startswith("CPU")


# ---------------------------------------------------------------------------------------------- the command


def fertool(*arguments) -> tuple[int, dict, str]:
    result = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout), result.stderr


def test_scores_through_the_command(run, faces, tmp_path):
    space = faces.path.parent.parent
    code, facts, _ = fertool(
        "eval", "--workspace", space, "--run", run, "--subset", "all", "--csv", tmp_path / "s.csv", "--gpus", 0
    )
    assert code == 0
    assert facts["ok"] is True
    result = facts["runs"][run.name]
    p = predict(run)
    labels, rows = np.asarray(p["label"]), np.asarray(p["row"])
    right = p["logits"].argmax(1) == labels
    members = {"all": labels >= 0, "pose30": (rows % 2 == 0) & (labels >= 0), "occlusion": (rows >= 66) & (labels >= 0)}
    assert result["subsets"].keys() == members.keys()
    for name, member in members.items():
        scored = result["subsets"][name]
        assert scored["n_total"] == member.sum()
        assert scored["n_correct"] == right[member].sum()
        assert scored["accuracy"] == pytest.approx(right[member].mean())
        low, high = metrics.wilson(int(right[member].sum()), int(member.sum()))
        assert (scored["low"], scored["high"]) == pytest.approx((low, high))
    assert result["subsets"]["all"]["n_unlabelled"] == 1
    assert result["subsets"]["all"]["n_missed"] == 1
    assert result["select_on"] == "last"
    assert (tmp_path / "s.csv").read_text().startswith("run,")


def test_an_unknown_subset(run, faces):
    code, facts, said = fertool("eval", "--workspace", faces.path.parent.parent, "--run", run, "--subset", "pose3")
    assert code == 2
    assert facts["ok"] is False
    assert "pose3" in facts["error"]
    assert "pose30" in facts["hint"]
    assert said.splitlines() == [f"error: {facts['error']}", f"hint: {facts['hint']}"]


def test_several_runs_and_latency_through_the_command(run, faces):
    other = toy.train_toy(faces, epochs=0.4, options={"variant": "baseline"}).path.parent
    code, facts, _ = fertool(
        "eval", "--workspace", faces.path.parent.parent, "--run", run, "--run", other.name, "--fuse", "--latency",
        "--gpus", 0,
    )  # fmt: skip
    assert code == 0
    assert facts["runs"].keys() == {run.name, other.name}
    assert facts["latency"].keys() == facts["runs"].keys()
    assert facts["fused"]["fused"] == 2
    assert math.isfinite(facts["latency"][other.name]["median_ms"])
    mean = metrics.softmax(predict(run)["logits"]) + metrics.softmax(predict(other)["logits"])
    labels = np.asarray(predict(run)["label"])
    assert facts["fused"]["subsets"]["all"]["n_correct"] == (mean.argmax(1) == labels)[labels >= 0].sum()


def test_the_real_command(run, faces):
    """As a user types it: tables for people on stderr, nothing on stdout."""
    environment = {**os.environ, "FERTOOL_WORKSPACE": str(faces.path.parent.parent)}
    command = [sys.executable, "-m", "fertool", "eval", "--run", run.name, "--gpus", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for word in ("100.00", "neutral", "anger", "fear"):
        assert word in done.stderr
