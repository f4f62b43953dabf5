"""`fertool run` on recipes that come after others: pretraining, other datasets, fused scores; by the real command."""

import json

import numpy as np
import pytest
import toy
from commands import call, tell
from layouts import write_affectnet, write_celeba, write_fedro, write_fer2013_csv, write_rafdb, write_sfew

from fertool import artefact
from fertool import recipe as recipes

DENSE = ("model.blocks=[1,1,1]", "model.growth=4", "model.stem=4", "iterations=2", "global_batch=8")
TINY = ("model.backbone=tiny", "model.size=24", "iterations=2", "global_batch=8")


def sets(recipe: str, *entries: str) -> list[str]:
    """`--set` for training settings of a recipe; "" is the one that is run."""
    return [word for e in entries for word in ("--set", f"{recipe}:train.{e}" if recipe else f"train.{e}")]


def plain(recipe: str = "", size: int = 48) -> list[str]:
    """`--set` that leaves out detectors, which other tests run."""
    off = ("detector=none", "landmarks=none", "align=none", f"size={size}")
    return [w for e in off for w in ("--set", f"{recipe}:detect-align.{e}" if recipe else f"detect-align.{e}")]


DRAFT = ("--set", "visualize.dpi=40")


def runs_of(folder) -> dict[str, artefact.Artefact]:
    return {r.name: artefact.read(r / "run.h5", "run") for r in sorted((folder / "runs").iterdir())}


# ------------------------------------------------------------------------------------------------ pretraining


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_celeba(folder / "celeba", n=60)
    write_fer2013_csv(folder / "fer2013")
    write_rafdb(folder / "raf", images=("aligned",))
    return folder


WS_LGRN = [
    "--variant", "gfnet", "--variant", "ws-lgrn", "--gpus", 0, *DRAFT, *plain("ws-lgrn-fer2013"),
    *sets("", *DENSE), *sets("ws-lgrn-fer2013", *DENSE), *sets("amg-celeba", *DENSE),
]  # fmt: skip


@pytest.fixture(scope="module")
def space(data, tmp_path_factory):
    """What a whole chain leaves behind; first that it says what is missing before anything starts."""
    folder = tmp_path_factory.mktemp("space")
    refused = call("run", "ws-lgrn-rafdb", data / "raf", *WS_LGRN, space=folder)
    assert refused.exit_code == 3
    told = json.loads(refused.stdout)
    assert "comes after amg-celeba" in told["error"]
    assert "--with celeba=FOLDER, or run: fertool run amg-celeba FOLDER" in told["hint"]
    assert not list(folder.iterdir()), "nothing was begun"
    others = ["--with", f"celeba={data / 'celeba'}", "--with", f"fer2013={data / 'fer2013'}"]
    facts = tell("run", "ws-lgrn-rafdb", data / "raf", *others, *WS_LGRN, space=folder)
    assert list(facts["before"]) == ["amg-celeba", "ws-lgrn-fer2013"]
    return folder


def test_every_variant_starts_from_its_own_pretraining(space):
    (amg,) = runs_of(space / "celeba").values()
    first, tuned = runs_of(space / "fer2013"), runs_of(space / "raf")
    assert list(first) == list(tuned) == ["ws-lgrn-1", "ws-lgrn-gfnet-1"]
    for name, run in tuned.items():
        assert run.params["train"]["init"] == str(space / "fer2013/runs" / name / "run.h5")
        assert run.params["recipe"] == "ws-lgrn-rafdb"
        assert first[name].params["recipe"] == "ws-lgrn-fer2013"
        assert first[name].params["train"]["expand"]
    for run in (first["ws-lgrn-1"], tuned["ws-lgrn-1"]):
        assert run.parent("pretrained_part").digest == amg.digest
    assert tuned["ws-lgrn-gfnet-1"].parent("pretrained_part") is None


def test_a_chain_is_walked_once_and_takes_what_the_workspace_has(data, space):
    before = {p: p.stat().st_mtime_ns for p in space.glob("*/runs/*/run.h5")}
    facts = tell("run", "ws-lgrn-rafdb", data / "raf", *WS_LGRN, space=space)
    assert "before" not in facts, "its runs are there: no other dataset is needed"
    assert {p: p.stat().st_mtime_ns for p in space.glob("*/runs/*/run.h5")} == before


def test_random_weights_need_no_pretraining(data, space):
    tell("run", "ws-lgrn-rafdb", data / "raf", *WS_LGRN, "--set", "train.init=none", space=space)
    assert runs_of(space / "raf")["ws-lgrn-2"].params["train"]["init"] == "none"


def test_a_variant_without_pretraining_is_named(data, space):
    words = ["--variant", "wcl", *WS_LGRN[4:]]
    told = json.loads(call("run", "ws-lgrn-rafdb", data / "raf", *words, space=space).stdout)
    assert "no finished run of it --variant wcl" in told["error"]
    assert told["hint"].endswith("fertool run ws-lgrn-fer2013 FOLDER --variant wcl")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "ws-lgrn-fer:train.lr=1"], "runs no recipe 'ws-lgrn-fer'"),
        (["--set", "ws-lgrn-fer2013:train.lrr=1"], "unknown key 'lrr'"),
        (["--with", "fer=x"], "uses no dataset 'fer'"),
        (["--with", "fer2013"], "is not DATASET=FOLDER"),
    ],
)
def test_a_chain_is_checked_before_it_starts(data, tmp_path, words, says):
    others = ["--with", f"celeba={data / 'celeba'}", "--with", f"fer2013={data / 'fer2013'}"]
    told = json.loads(call("run", "ws-lgrn-rafdb", data / "raf", *others, *words, space=tmp_path).stdout)
    assert says in told["error"]
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------ other faces, and scores together


def test_sfew_learns_from_all_of_fer2013(tmp_path):
    """The paper uses all 35,887: also those in which the detector finds no face."""
    write_sfew(tmp_path / "sfew")
    write_fer2013_csv(tmp_path / "fer")
    small = sets("", "iterations=2", "global_batch=8", "model.width=16", "model.height=32", "model.crop=false")
    for recipe in ("", "va-cnn-fer2013:"):  # diffusion is slow, and another test's
        small += ["--set", f"{recipe}detect-align.illumination=none"]
    words = ["run", "va-cnn-sfew-fer2013", tmp_path / "sfew", "--variant", "gap", "--gpus", 0, *small, *DRAFT]
    told = json.loads(call(*words, space=tmp_path / "w").stdout)
    assert "--with fer2013=FOLDER" in told["hint"]
    facts = tell(*words, "--with", f"fer2013={tmp_path / 'fer'}", space=tmp_path / "w")
    fer = artefact.read(tmp_path / "w/fer-for-sfew/faces.h5", "faces")
    assert facts["combine"]["from"]["fer2013"]["train"] == fer.rows, "every image, whatever split it was in"
    made = artefact.read(tmp_path / "w/sfew-fer2013/faces.h5", "faces")
    assert made.params["extra_data"] == "fer2013"
    theirs = np.array([i.startswith("fer2013/") for i in made.ids])
    assert np.isin(made["status"][theirs], (1, 2, 3)).all(), "none is left out"
    assert list(runs_of(made.path.parent)) == ["va-cnn-gap-1"]


def test_fedro_is_tested_by_what_learns_from_two_others(tmp_path):
    write_fedro(tmp_path / "FED-RO")
    write_rafdb(tmp_path / "raf", images=("aligned",))
    write_affectnet(tmp_path / "affectnet")
    others = ["--with", f"rafdb={tmp_path / 'raf'}", "--with", f"affectnet={tmp_path / 'affectnet'}"]
    words = ["--variant", "ran", "--gpus", 0, *sets("", *TINY), *plain(), *DRAFT]
    facts = tell("run", "ran-fedro", tmp_path / "FED-RO", *others, *words, space=tmp_path / "w")
    made = artefact.read(tmp_path / "w/FED-RO-rafdb-affectnet/faces.h5", "faces")
    assert "contempt" not in made.classes
    assert len(made.classes) == 7
    assert (made.params["dataset"], made.params["extra_data"]) == ("fedro", "rafdb+affectnet")
    detect = recipes.load("ran-fedro").settings("detect-align")
    assert "none" not in (detect.detector, detect.align), "they are whole images"
    origin = np.array([i.partition("/")[0] for i in made.ids])
    assert set(origin[made["split"] == "train"]) == {"rafdb", "affectnet"}
    assert set(origin[made["split"] == "test"]) == {"fedro"}
    scored = facts["eval"]["runs"]["ran-1"]["subsets"]["all"]
    assert scored["n_total"] == (origin == "fedro").sum()


def test_scores_of_two_recipes_are_averaged(tmp_path, monkeypatch):
    from fertool.backbones.registry import BACKBONES, Tiny

    monkeypatch.setitem(BACKBONES, "vgg16", Tiny)  # the real one takes minutes
    write_sfew(tmp_path / "sfew")
    small = ("model.size=24", "iterations=2", "global_batch=8")
    words = [*sets("", *small), *plain(), *sets("ran-sfew", *small, "model.backbone=tiny"), *plain("ran-sfew"), *DRAFT]
    facts = tell("run", "ran-sfew-fusion", tmp_path / "sfew", "--gpus", 0, *words, space=tmp_path / "w")
    assert facts["visualize"]["files"], "of predictions of the split that the recipe names"
    runs = runs_of(tmp_path / "w/sfew")
    assert [r.params["recipe"] for r in runs.values()] == ["ran-sfew", "ran-sfew-fusion"]
    assert [r.params["model"]["backbone"] for r in runs.values()] == ["tiny", "vgg16"]
    mean = 0
    for name in runs:
        predicted = artefact.read(facts["eval"]["runs"][name]["predictions"], "predictions")
        e = np.exp(np.asarray(predicted["logits"], float))
        mean = mean + e / e.sum(1, keepdims=True)
    right = mean.argmax(1) == np.asarray(predicted["label"])
    assert facts["eval"]["fused"]["fused"] == 2
    assert facts["eval"]["fused"]["subsets"]["all"]["accuracy"] == pytest.approx(right.mean())


def test_variants_of_one_recipe_are_averaged(tmp_path):
    (tmp_path / "faces").mkdir()
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "stages: [detect-align, crop-regions, train, eval]\nvariants: [region-0, region-1, ran]\n"
        "fuse: [region-0, region-1]\ndetect-align: {detector: none, landmarks: none, align: none, size: 32}\n"
        "train: {model: {name: ran, backbone: tiny, size: 24}, iterations: 2, global_batch: 8}\n"
    )
    import cv2

    faces = toy.bars(np.arange(24) % 3)
    for i, face in enumerate(faces):
        path = tmp_path / "faces" / ("train" if i < 15 else "test") / toy.CLASSES[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), face)
    facts = tell("run", recipe, tmp_path / "faces", "--gpus", 0, space=tmp_path / "w")["eval"]
    assert (len(facts["runs"]), facts["fused"]["fused"]) == (3, 2)
    some = tell("run", recipe, tmp_path / "faces", "--gpus", 0, "--variant", "ran", space=tmp_path / "w")["eval"]
    assert "fused" not in some
