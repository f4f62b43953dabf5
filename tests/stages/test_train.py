"""Training: exact resume, stops that lose nothing, the same on several processes, and clear words when it cannot be."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
import yaml

from fertool import artefact, console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError, DeviceError, FertoolError, RecipeError
from fertool.stages import inspect, train
from fertool.training.devices import Devices, choose


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Artefact:
    return toy.write_all(tmp_path_factory.mktemp("space") / "toy")


@pytest.fixture(scope="module")
def trained(faces) -> Artefact:
    """A run of two epochs."""
    return toy.train_toy(faces)


@pytest.fixture
def out(faces, request) -> Path:
    return faces.path.parent / "elsewhere" / request.node.name


def refused(kind: type[FertoolError], says: str, hint: str, call) -> None:
    with pytest.raises(kind, match=says) as e:
        call()
    assert hint in (e.value.hint or "")
    assert "\n" not in e.value.message + (e.value.hint or "")


def same(a: Artefact, b: Artefact) -> bool:
    return a.stored.keys() == b.stored.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a.stored)


# ------------------------------------------------------------------------------------------------ what a run holds


def test_it_learns_and_keeps_its_history(trained):
    history = trained.group("history")
    assert history["epoch"].tolist() == [1, 2]
    assert history["lr"].tolist() == [0.05, 0.05]
    assert np.allclose(history["loss"], history["loss_ce"] + history["loss_rank"])
    assert history["loss"][1] < history["loss"][0] / 3
    assert history["train_accuracy"][1] == history["val_accuracy"][1] == 1
    assert trained["state/iteration"] == 6
    assert trained["state/finished"]
    assert trained["state/best"] == 1


def test_losses_of_the_first_steps(trained):
    """They change when anything changes that results hang on: network, loss, order, augmentation, schedule."""
    assert trained["history/loss_ce"][0] == pytest.approx(0.652676, rel=1e-3)
    assert trained["history/loss_rank"][0] == pytest.approx(0.0292093, rel=1e-3)
    assert trained["history/loss"][1] == pytest.approx(0.02556, rel=0.1), "rounding has grown by then"


def test_a_run_says_what_it_is(trained, faces):
    assert trained.classes == toy.CLASSES
    assert trained.parent("faces").digest == faces.digest
    assert trained.parent("regions").kind == "regions"
    assert trained.params["model"]["name"] == "ran"
    assert trained.params["model"]["rank_margin"] == 0.02
    assert trained.params["train"]["global_batch"] == 16
    assert trained.info["seed"] == 0
    facts = train.summary(trained.path)
    assert facts["epochs"] == 2
    assert facts["history"]["val_accuracy"][1] == 1
    assert facts["seconds"] > 0
    assert inspect.summary(trained.path)["finished"] is True


def test_best_weights_are_those_of_the_best_epoch(trained, faces, out):
    """The first of two epochs that are equally good."""
    assert trained["history/val_accuracy"].tolist() == [1, 1]
    first = toy.weights(toy.train_toy(faces, out=out, epochs=1))
    best, last = toy.weights(trained, "best"), toy.weights(trained)
    assert best.keys() == last.keys() == first.keys()
    assert all(np.array_equal(best[name], first[name]) for name in first)
    assert not all(np.array_equal(last[name], first[name]) for name in first)


# ---------------------------------------------------------------------------------- up to date, names, other settings


def test_the_same_settings_twice_are_one_run(trained, faces, capsys):
    assert trained.path.parent.name == "ran-1"
    before = trained.path.stat().st_mtime_ns
    assert toy.train_toy(faces).path == trained.path
    assert toy.train_toy(faces, options={"resume": True}).path == trained.path
    assert capsys.readouterr().err.count("ran-1 is up to date") == 2
    assert trained.path.stat().st_mtime_ns == before


def test_a_folder_of_another_run_is_kept_until_told(trained, faces):
    folder = trained.path.parent
    refused(
        ArtefactError, "ran-1 holds a run with other settings: train.lr 0.05 → 0.1", "--overwrite",
        lambda: toy.train_toy(faces, out=folder, lr=0.1),
    )  # fmt: skip
    assert artefact.read(trained.path).uid == trained.uid


def test_overwriting(faces, out):
    first = toy.train_toy(faces, out=out, epochs=0.4)
    assert toy.train_toy(faces, out=out, epochs=0.4).uid == first.uid
    again = toy.train_toy(faces, out=out, epochs=0.4, options={"overwrite": True})
    assert (again.uid != first.uid, again.digest) == (True, first.digest)
    other = toy.train_toy(faces, out=out, epochs=0.4, seed=1, options={"overwrite": True})
    assert other.digest != first.digest


def test_the_name_of_a_run_says_its_variant(faces):
    run = toy.train_toy(faces, epochs=0.4, options={"variant": "baseline", "recipe": "mine"})
    assert run.path.parent.name == "ran-baseline-1"
    assert (run.params["variant"], run.params["recipe"]) == ("baseline", "mine")
    assert run.params["model"]["fusion"] == "none"
    assert run.parent("regions") is None, "the baseline looks at the whole face only"


# ----------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"optimizer": "adam", "lr": 0.003, "oversample": True},
        {"momentum": 0.0, "lr_milestones": [1.5], "precision": "bf16", "cache": "host"},
    ],
)
def test_k_and_resumed_k_equal_2k_epochs(faces, tmp_path, how):
    whole = toy.train_toy(faces, out=tmp_path / "whole", **how)
    toy.train_toy(faces, out=tmp_path / "parts", **how, epochs=1)
    torch.manual_seed(12345)
    parts = toy.train_toy(faces, out=tmp_path / "parts", **how, options={"resume": True})
    assert same(whole, parts)
    assert parts.digest == whole.digest
    assert len(parts.info["seconds"]) == 2


def test_nothing_to_resume(trained, faces, out):
    for options in ({"seed": 9}, {"lr": 0.1}, {"model": {**toy.SMALL["model"], "attn_norm": "softmax"}}):
        refused(
            ArtefactError, "no run of these settings to resume .*: ran-1", "start without --resume",
            lambda o=options: toy.train_toy(faces, options={"resume": True}, **o),
        )  # fmt: skip
    refused(
        ArtefactError, "no run of these settings to resume", "start without --resume",
        lambda: toy.train_toy(faces, out=out, options={"resume": True}),
    )  # fmt: skip


def test_only_what_can_be_exact_is_resumed(faces, tmp_path):
    def go_on(folder: str, **settings):
        return lambda: toy.train_toy(faces, out=tmp_path / folder, options={"resume": True}, **settings)

    toy.train_toy(faces, out=tmp_path / "odd", epochs=None, iterations=4)
    refused(ArtefactError, "has done 4 steps already, and these settings ask for 3", "more", go_on("odd", epochs=1))
    refused(ArtefactError, "inside an epoch .1 of 3 steps.", "without --resume", go_on("odd", epochs=3))
    fraction = {"lr_unit": "fraction", "lr_milestones": [0.5]}
    toy.train_toy(faces, out=tmp_path / "fraction", epochs=1, **fraction)
    refused(ArtefactError, "other settings: train.epochs 1.* → 2", "", go_on("fraction", epochs=2, **fraction))


# ------------------------------------------------------------------------------- stopped and killed, for real

LONG = {**toy.SMALL, "model": {"name": "ran", "backbone": "tiny", "size": 16}, "global_batch": 4, "epochs": 4}


@pytest.fixture(scope="module")
def long_faces(tmp_path_factory) -> Artefact:
    """Fifty steps an epoch."""
    return toy.write_all(tmp_path_factory.mktemp("long") / "toy", train=200, test=17)


@pytest.fixture(scope="module")
def uninterrupted(long_faces) -> Artefact:
    return toy.train_toy(long_faces, out=long_faces.path.parent / "whole", **LONG, options={"recipe": "long"})


def start(faces: Artefact, folder: Path, *more: str, **settings) -> subprocess.Popen:
    """`fertool train` as a user starts it."""
    recipe = folder.parent / "long.yaml"
    recipe.write_text(yaml.safe_dump({"train": {**LONG, **settings}}))
    command = [sys.executable, "-m", "fertool", "train", str(recipe), "--data", str(faces.path), "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True, env=environment)


def go_on(faces: Artefact, folder: Path, **settings) -> Artefact:
    return toy.train_toy(faces, out=folder, **{**LONG, **settings}, options={"resume": True, "recipe": "long"})


def wait_for_training(child: subprocess.Popen) -> None:
    for line in child.stderr:
        if "faces to train on" in line:
            time.sleep(0.3)
            return
    pytest.fail("it never started to train")


def stop(child: subprocess.Popen, folder: Path, by: signal.Signals) -> None:
    """Stop it in the midst and check what it says and leaves behind."""
    wait_for_training(child)
    child.send_signal(by)
    said = child.communicate(timeout=120)[1].splitlines()
    assert child.returncode == 130
    assert said[-2:] == [
        f"error: stopped; everything is saved in {folder / 'run.h5'}",
        "hint: the same command with --resume goes on",
    ]
    run = artefact.read(folder / "run.h5")
    assert 0 < run["state/iteration"] < 200
    assert not run["state/finished"]


def test_stopped_by_sigterm_nothing_is_lost(long_faces, uninterrupted, tmp_path):
    stop(start(long_faces, tmp_path / "run"), tmp_path / "run", signal.SIGTERM)
    refused(
        ArtefactError, "run is unfinished", "--resume",
        lambda: toy.train_toy(long_faces, out=tmp_path / "run", **LONG, options={"recipe": "long"}),
    )  # fmt: skip
    resumed = go_on(long_faces, tmp_path / "run")
    assert same(resumed, uninterrupted)
    assert resumed.digest == uninterrupted.digest


def test_killed_it_goes_on_from_its_last_save(long_faces, uninterrupted, tmp_path):
    often = {"checkpoint_minutes": 0.005}
    child = start(long_faces, tmp_path / "run", **often)
    until = time.monotonic() + 120
    while not (tmp_path / "run/run.h5").exists() and time.monotonic() < until:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    run = artefact.read(tmp_path / "run/run.h5")
    assert run["state/iteration"] > 0
    assert not run["state/finished"]
    assert inspect.summary(run.path)["finished"] is False
    assert same(go_on(long_faces, tmp_path / "run", **often), uninterrupted)


def test_ctrl_c_reaches_every_process(long_faces, uninterrupted, tmp_path):
    """What two processes have begun one can end; after many steps rounding has grown to percents."""
    stop(start(long_faces, tmp_path / "run", "--cpu-processes", "2"), tmp_path / "run", signal.SIGINT)
    resumed = go_on(long_faces, tmp_path / "run")
    assert resumed["history/loss"][0] == pytest.approx(uninterrupted["history/loss"][0], rel=0.03)
    assert resumed["state/iteration"] == 200


def test_two_processes_train_like_one(tmp_path, capfd):
    """The last batch has three faces for one process and four for the other; 17 to validate on are nine and eight."""
    console.configure(quiet=True)
    faces = toy.write_all(tmp_path / "toy", train=39, test=17)
    # high rates make much of rounding, on some processors more than on others
    one = toy.train_toy(faces, out=tmp_path / "one", lr=0.001)
    two = toy.train_toy(faces, out=tmp_path / "two", lr=0.001, devices=Devices("cpu", 2))
    assert one["state/iteration"] == two["state/iteration"] == 6
    for name in ("loss", "loss_ce", "lr", "train_accuracy", "val_accuracy"):
        assert two[f"history/{name}"] == pytest.approx(one[f"history/{name}"], rel=1e-3), name
    for name, values in toy.weights(one).items():
        assert np.allclose(toy.weights(two)[name], values, atol=1e-4), f"{name}: a step moves them by 0.002"
    assert capfd.readouterr() == ("", ""), "what is quiet is so in every process"
    seen = two["history/val_accuracy"] * 17
    assert seen == pytest.approx(np.round(seen)), "a share of 17 faces, each counted once"


def test_errors_in_a_process_are_told_as_if_there_were_one(faces, out, tmp_path, capfd):
    torch.save({"elsewhere": torch.ones(3)}, tmp_path / "other.pth")
    refused(
        DeviceError, "other.pth: 0 of .* tensors filled", "--init none",
        lambda: toy.train_toy(faces, out=out, init=str(tmp_path / "other.pth"), devices=Devices("cpu", 2)),
    )  # fmt: skip
    assert not out.exists(), "nothing was saved, so nothing is left"
    assert "Traceback" not in capfd.readouterr().err


# ----------------------------------------------------------------------------------------------- labels


def classified(run: Artefact, faces: Artefact, labels: np.ndarray, rows: np.ndarray) -> float:
    """Share of rows that a run's weights give these labels."""
    from fertool.recipe import Recipe
    from fertool.stages.evaluate import forward as evaluation
    from fertool.training.data import Pixels, region_boxes
    from fertool.training.inference import infer

    net, forward, device = evaluation.load_network(run, Recipe().settings("eval"), toy.CPU, 3)
    boxes = region_boxes(faces, artefact.read(faces.path.with_name("regions.h5")))
    rows = torch.from_numpy(rows)
    found = infer(net, forward, Pixels(faces["images"], rows, device), boxes, rows, 64)
    predicted = torch.cat([output.logits.argmax(1) for _, output in found])
    return float((predicted.numpy() == labels[rows]).mean())


def test_label_distributions_are_learnt(tmp_path):
    """The distributions say other classes than the labels do; rows without one are left out."""
    truth = (np.asarray(toy.write_faces(tmp_path / "plain")["label"]) + 1) % 3
    spread = np.full((72, 3), 0.1, "f4")
    spread[np.arange(72), truth] = 0.8
    spread[:4] = np.nan
    faces = toy.write_faces(tmp_path / "toy", label_distribution=spread)
    toy.write_regions(faces)
    run = toy.train_toy(faces, labels="distribution", epochs=5)
    assert run["history/train_accuracy"][-1] == 1
    assert classified(run, faces, truth, np.arange(48, 72)) == 1
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.1))
    assert 0 <= run["history/loss_ce"][-1] < 0.2 < entropy, "a divergence ends at 0, a cross-entropy at the entropy"


def test_a_distribution_is_needed_to_learn_one(faces):
    refused(
        ArtefactError, "no label distributions", "labels: majority",
        lambda: toy.train_toy(faces, labels="distribution"),
    )  # fmt: skip


def test_labels_and_split_of_the_released_lists(tmp_path):
    """The lists exchange the splits and move every label by one; one face in nine is in no list."""
    faces = toy.write_all(tmp_path / "toy", train=24, test=48)
    listed = np.arange(72) % 9 > 0
    moved = np.where(listed, (np.asarray(faces["label"]) + 1) % 3, -1)
    split = np.where(listed, np.where(np.arange(72) < 24, "test", "train"), "")
    refused(
        ArtefactError, "requires subsets", "fertool build-subsets --lists",
        lambda: toy.train_toy(faces, labels="list"),
    )  # fmt: skip
    subsets = toy.write_subsets(faces, list_label=moved.astype("i2"), list_split=split)
    run = toy.train_toy(faces, labels="list", epochs=3)
    assert run.parent("subsets").digest == subsets.digest
    assert run["state/iteration"] == 3 * np.ceil(((split == "train") & listed).sum() / 16)
    assert run["history/val_accuracy"][-1] == 1
    assert classified(run, faces, moved, np.flatnonzero(split == "test")) == 1


def test_lists_are_needed_to_use_them(tmp_path):
    faces = toy.write_all(tmp_path / "toy")
    toy.write_subsets(faces, pose30=np.ones(72, bool))
    refused(
        ArtefactError, "subsets made from the released lists", "--lists",
        lambda: toy.train_toy(faces, labels="list"),
    )  # fmt: skip


def test_only_faces_with_a_picture_and_a_label_are_used(tmp_path, capsys):
    status, label = np.ones(72, "u1"), (np.arange(72) % 3).astype("i2")
    status[:5], label[5:9] = 4, -1
    status[[50, 60]] = 2, 3
    faces = toy.write_faces(tmp_path / "toy", status=status, label=label, images=toy.bars(np.arange(72) % 3))
    toy.write_regions(faces)
    run = toy.train_toy(faces, epochs=1, oversample=True, accumulate=3)
    assert "39 faces to train on, 24 in test" in capsys.readouterr().err
    assert run["state/iteration"] == 3


# -------------------------------------------------------------------------------------- speed that changes nothing


def test_where_faces_are_held_changes_nothing(trained, faces, tmp_path):
    for cache in ("host", "device", "none"):
        run = toy.train_toy(faces, out=tmp_path / cache, cache=cache, checkpoint_minutes=3)
        assert all(np.array_equal(v, toy.weights(run)[k]) for k, v in toy.weights(trained).items()), cache


@pytest.mark.parametrize("accumulate", [2, 64])
def test_pieces_of_a_batch_take_every_face_once(faces, tmp_path, accumulate):
    run = toy.train_toy(faces, out=tmp_path / "run", accumulate=accumulate, epochs=1, global_batch=5)
    assert run["state/iteration"] == 10, "48 faces: nine batches of five and one of three"
    right = 48 * run["history/train_accuracy"][0]
    assert right == pytest.approx(round(right)), "a share of 48 faces, not of fewer"


# ----------------------------------------------------------------------------------- errors before anything heavy


def test_missing_regions(tmp_path):
    faces = toy.write_faces(tmp_path / "toy")
    refused(
        ArtefactError, "ran requires regions", f"fertool crop-regions --data {faces.path}",
        lambda: toy.train_toy(faces),
    )  # fmt: skip
    assert not (tmp_path / "toy/runs").exists()


def test_regions_and_lists_of_other_faces(tmp_path, faces):
    other = toy.write_faces(tmp_path / "toy", seed=1)
    regions, subsets = toy.write_regions(other), toy.write_subsets(other, list_label=other["label"])
    refused(
        ArtefactError, "regions.h5 was made from another faces file", "make it again",
        lambda: toy.train_toy(faces, options={"regions": regions.path}),
    )  # fmt: skip
    refused(
        ArtefactError, "subsets.h5 was made from another faces file", "make it again",
        lambda: toy.train_toy(faces, options={"subsets": subsets.path}, labels="list"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "kind", "says", "hint"),
    [
        ({"train_splits": ["trian"]}, DataError, "no labelled faces with a picture in split trian", "fertool inspect"),
        ({"select_on": "val"}, RecipeError, "choose the checkpoint on the test split", "select_on: test"),
        ({"select_on": "test", "val_split": "val"}, RecipeError, "it is the split val", "select_on: val"),
        ({"select_on": "val", "val_split": "val"}, DataError, "split val, and there are none", "select_on: last"),
        ({"init": "nowhere.pth"}, DeviceError, "no weights file nowhere.pth", "run.h5"),
        ({"init": "imagenet"}, DeviceError, "no ImageNet weights for Tiny", "--init none"),
        ({"precision": "16"}, DeviceError, "precision 16 needs a GPU", "bf16"),
        ({"model": {"name": "ran", "siz": 32}}, RecipeError, "model ran: unknown key 'siz'", "'size'"),
    ],
)
def test_what_cannot_be_trained(faces, tmp_path, settings, kind, says, hint):
    refused(kind, says, hint, lambda: toy.train_toy(faces, out=tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()


def test_variants_that_cannot_be(faces):
    refused(
        RecipeError, "region 5 is requested, and .* has regions 0 to 2", "crop-regions",
        lambda: toy.train_toy(faces, options={"variant": "region-5"}),
    )  # fmt: skip
    refused(RecipeError, "no variant 'rna'", "'ran'", lambda: toy.train_toy(faces, options={"variant": "rna"}))


def test_a_single_class(tmp_path):
    faces = toy.write_faces(tmp_path / "toy", label=np.ones(72, "i2"))
    toy.write_regions(faces)
    refused(DataError, "all 48 faces .* in split train are of the class 'anger'", "", lambda: toy.train_toy(faces))


def test_a_class_that_nobody_shows(tmp_path):
    faces = toy.write_faces(tmp_path / "toy", label=(np.arange(72) % 2 * 2).astype("i2"))
    toy.write_regions(faces)
    run = toy.train_toy(faces, epochs=0.4, oversample=True)
    assert np.isfinite(run["history/loss"]).all()


def test_too_few_faces_for_the_processes(faces):
    refused(
        RecipeError, "48 faces in batches of 16 are too few for 9 processes", "use fewer",
        lambda: toy.train_toy(faces, devices=Devices("cpu", 9)),
    )  # fmt: skip


def test_devices():
    assert choose(0) == choose(0, 1) == Devices("cpu", 1)
    assert choose(None, 2) == Devices("cpu", 2)
    there = torch.cuda.device_count()
    refused(DeviceError, f"--gpus {there + 2}: this machine has {there} GPU", "use --gpus", lambda: choose(there + 2))


def test_other_machines_have_to_be_started(faces, out, monkeypatch):
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    refused(
        DeviceError, "--nodes 2: nothing has started this command", "torchrun",
        lambda: toy.train_toy(faces, out=out, devices=Devices("cpu", 1, 2)),
    )  # fmt: skip


def test_without_a_validation_split(tmp_path):
    faces = toy.write_all(tmp_path / "toy", test=0)
    run = toy.train_toy(faces, epochs=1)
    assert np.isnan(run["history/val_accuracy"]).all()
    assert not run.group("weights/best")
    assert train.summary(run.path)["best_val_accuracy"] == -1


def test_inspect_shows_the_optimizer_as_one_table(trained):
    from typer.testing import CliRunner

    from fertool import cli

    shown = CliRunner().invoke(cli.app, ["inspect", str(trained.path)])
    assert shown.exit_code == 0, shown.output
    assert len([line for line in shown.output.splitlines() if line.startswith("optimizer")]) <= 7
    assert "optimizer/…" in shown.output
