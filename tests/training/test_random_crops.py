"""RAN's random crops: drawn anew in every training iteration, and several times for the test; by the real commands."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from commands import call, tell

from fertool import artefact
from fertool.settings import CropRegions
from fertool.stages import crop_regions
from fertool.training.devices import Devices
from fertool.training.transforms import RandomCrops

SMALL = [w for e in ("model.backbone=tiny", "model.size=24", "global_batch=16") for w in ("--set", f"train.{e}")]


def test_crops_are_square_inside_and_of_the_papers_sizes():
    boxes = RandomCrops(3, (0.70, 0.95)).draw(4000, seed=5)
    side = boxes[:, 1:, 2:] - boxes[:, 1:, :2]
    assert boxes.shape == (4000, 4, 4)
    assert (boxes[:, 0] == torch.tensor([0.0, 0, 1, 1])).all()
    assert torch.allclose(side[..., 0], side[..., 1], atol=1e-6)
    assert 0.70 <= side.min() < 0.701
    assert 0.949 < side.max() <= 0.9501
    assert boxes.min() >= 0
    assert boxes.max() <= 1 + 1e-6
    place = boxes[:, 1:, :2] / (1 - side)
    assert abs(place.mean() - 0.5) < 0.01
    assert abs(place.std() - 12**-0.5) < 0.01


def test_a_draw_depends_on_the_seed_and_the_place_only():
    crops = RandomCrops(3, (0.7, 0.95))
    assert torch.equal(crops.draw(10, seed=1), crops.draw(99, seed=1)[:10])
    assert not torch.equal(crops.draw(10, seed=1), crops.draw(10, seed=2))


def random_regions(faces: artefact.Artefact, seed: int = 0, n: int = 2) -> Path:
    settings = CropRegions(mode="random", random_n=n, seed=seed)
    return crop_regions.run(faces.path, settings=settings, out=faces.path.with_name(f"random-{seed}.h5"))


def test_training_does_not_learn_from_the_crops_that_are_stored(tmp_path):
    """They are for the test: training draws its own, so another file drawn in the same way gives the same weights."""
    faces = toy.write_faces(tmp_path / "toy", train=32, test=8)
    made = {}
    for seed in (0, 1):
        regions = random_regions(faces, seed)
        made[seed] = toy.train_toy(faces, out=tmp_path / f"run-{seed}", options={"regions": regions})
    stored = [np.asarray(artefact.read(tmp_path / "toy" / f"random-{seed}.h5")["boxes"]) for seed in (0, 1)]
    assert not np.array_equal(*stored)
    a, b = toy.weights(made[0]), toy.weights(made[1])
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert made[0].group("history")["loss"].tolist() == made[1].group("history")["loss"].tolist()
    other = toy.train_toy(faces, out=tmp_path / "seed", options={"regions": random_regions(faces)}, seed=1)
    assert not np.array_equal(a["classifier.weight"], toy.weights(other)["classifier.weight"])


def test_crops_differ_from_epoch_to_epoch(tmp_path):
    """With weights that stay and nothing else at random, the loss is that of other crops in the second epoch."""
    faces = toy.write_faces(tmp_path / "toy", train=32, test=8)
    still = {"lr": 1e-12, "momentum": 0.0, "weight_decay": 0.0, "flip": 0.0, "rotate": 0.0, "shift": 0.0, "epochs": 3}
    still["global_batch"] = 32  # one batch: its statistics do not depend on the order
    options = {"regions": random_regions(faces)}
    drawn = toy.train_toy(faces, out=tmp_path / "random", options=options, **still).group("history")["loss"]
    assert len({round(x, 4) for x in drawn.tolist()}) == 3
    toy.write_regions(faces)
    fixed = toy.train_toy(faces, out=tmp_path / "fixed", **still).group("history")["loss"]
    assert fixed.tolist() == pytest.approx([fixed[0]] * 3, abs=1e-4)


def test_stopping_in_between_changes_nothing(tmp_path):
    faces = toy.write_faces(tmp_path / "toy", train=32, test=8)
    options = {"regions": random_regions(faces)}
    whole = toy.train_toy(faces, out=tmp_path / "whole", options=options, epochs=3)
    toy.train_toy(faces, out=tmp_path / "parts", options=options, epochs=1)
    resumed = toy.train_toy(faces, out=tmp_path / "parts", options={**options, "resume": True}, epochs=3)
    a, b = toy.weights(whole), toy.weights(resumed)
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert whole.digest == resumed.digest


def test_two_processes_draw_the_same_crops(tmp_path):
    """Also with the batch statistics of every region by itself."""
    faces = toy.write_faces(tmp_path / "toy", train=32, test=8)
    options = {"regions": random_regions(faces)}
    model = toy.SMALL["model"] | {"batch_stats": "region"}
    one = toy.train_toy(faces, out=tmp_path / "one", options=options, model=model)
    two = toy.train_toy(faces, out=tmp_path / "two", options=options, model=model, devices=Devices("cpu", 2))
    assert two.group("history")["loss"] == pytest.approx(one.group("history")["loss"], rel=1e-4)


# ------------------------------------------------------------------------------------------------- the test


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    toy.write_faces(folder / "toy")
    tell("crop-regions", "--mode", "random", space=folder)
    tell("train", "ran", "--gpus", 0, "--epochs", 2, *SMALL, "--lr", 0.05, space=folder)
    return folder


def test_three_crops_are_trained_with(space):
    """The paper draws three in every iteration."""
    assert artefact.read(space / "toy/regions.h5", "regions")["boxes"].shape[1] == 1 + 3


def test_eval_repeats_random_crops(space):
    found = tell("eval", "--crop-repeats", 4, "--gpus", 0, space=space)["runs"]["ran-1"]
    paths = [space / "toy/runs/ran-1/predictions.h5"]
    paths += [paths[0].with_name(f"predictions-crops-{i}.h5") for i in (2, 3, 4)]
    repeats = [artefact.read(p, "predictions") for p in paths]
    assert len({np.asarray(p["logits"]).tobytes() for p in repeats}) == 4
    each = [(np.asarray(p["logits"]).argmax(1) == np.asarray(p["label"])).mean() for p in repeats]
    assert found["crop_repeats"]["all"]["n_repeats"] == 4
    assert found["crop_repeats"]["all"]["mean"] == pytest.approx(np.mean(each))
    assert found["crop_repeats"]["all"]["sd"] == pytest.approx(np.std(each, ddof=1))
    assert found["subsets"]["all"]["accuracy"] == pytest.approx(each[0])
    before = [p.stat().st_mtime_ns for p in paths]
    tell("eval", "--crop-repeats", 4, "--gpus", 0, space=space)
    assert [p.stat().st_mtime_ns for p in paths] == before


def test_crop_repeats_refuses_fixed_regions(space):
    out = space / "fixed.h5"
    tell("crop-regions", "--out", out, space=space)
    told = call("eval", "--crop-repeats", 2, "--regions", out, "--gpus", 0, space=space)
    assert told.exit_code == 2
    assert "--crop-repeats samples random crops anew" in told.stdout


def test_trained_on_random_crops_and_tested_on_others(space):
    """Fig. 9: more random crops, several times, and the fixed ones."""
    words = ["sweep", "ran", "--run", "ran-1", "--gpus", 0]
    random = ["--vary", "crop-regions.mode=[random]", "--vary", "crop-regions.random_n=[2,6]", "--crop-repeats", 3]
    points = tell(*words, *random, space=space)["points"]
    assert [p["values"]["crop-regions.random_n"] for p in points] == [2, 6]
    for point in points:
        scored = point["subsets"]["all"]
        assert scored["sd"] is not None
        assert scored["high"] - scored["accuracy"] == pytest.approx(scored["sd"])
    (fixed,) = tell(*words, "--vary", "crop-regions.mode=[fixed]", "--crop-repeats", 3, space=space)["points"]
    assert fixed["subsets"]["all"]["sd"] is None
