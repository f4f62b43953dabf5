"""Networks that stand on another one, learn from pairs, masks or attributes, or cut pixels: by the real commands."""

import json

import numpy as np
import pytest
import toy
from commands import call, tell
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.regions.attributes import GROUPS

FIVE = np.array([[9.1, 10.7], [21.9, 10.7], [15.5, 18], [11, 24], [20, 24]], "f4")
TINY_DENSE = ["train.model.blocks=[1,1,1]", "train.model.growth=4", "train.model.stem=4"]
RUNS = {
    "rasnet": ["train.model.channels=4", "train.flip=0"],
    "man": ["train.model.channels=4"],
    "amg": TINY_DENSE,
    "ws-lgrn": [*TINY_DENSE, "train.model.embedding=8"],
    "lnlattennet": ["train.model.channels=4", "train.model.size=64"],
    "va-cnn": ["train.model.width=16", "train.model.height=32"],
}


def write_space(folder, **columns):
    """Faces that have landmarks and attributes, of three splits."""
    n = 60
    rng = np.random.default_rng(5)
    attributes = {name: 2 * rng.integers(0, 2, n).astype("i2") - 1 for group in GROUPS.values() for name in group[:1]}
    attributes |= {name: np.full(n, -1, "i2") for group in GROUPS.values() for name in group[1:]}
    split = np.array((["train"] * 36 + ["val"] * 12 + ["test"] * 12), dtype=object)
    usual = {"split": split, "landmarks": np.repeat(FIVE[None], n, axis=0), **attributes}
    return toy.write_faces(folder / "toy", train=n, test=0, **{**usual, **columns})


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chains")
    write_space(folder)
    assert tell("make-masks", space=folder)["valid"] == 60
    return folder


def refusal(*words, space) -> dict:
    result = call(*words, space=space)
    assert result.exit_code not in (0, 1), result.output
    return json.loads(result.stdout)


def words(network, *more, sets=()):
    chosen = [part for entry in (*RUNS[network], *sets) for part in ("--set", entry)]
    common = ("--gpus", 0, "--epochs", 1, "--batch", 12, "--lr", 0.001, *chosen)
    return ("train", network, *common, *more)


def train(network, *more, space, sets=()) -> artefact.Artefact:
    return artefact.read(tell(*words(network, *more, sets=sets), space=space)["run"], "run")


# ------------------------------------------------------------------------------------------- chains of two


@pytest.fixture(scope="module")
def trained(space):
    """What MAN and WS-LGRN stand on; first that they say so."""
    missing = {name: refusal(*words(name), space=space) for name in ("man", "ws-lgrn")}
    return missing, {name: train(name, space=space) for name in ("rasnet", "amg")}


@pytest.mark.parametrize(("name", "part"), [("man", "rasnet"), ("ws-lgrn", "amg")])
def test_a_chain(space, trained, name, part):
    missing, parts = trained
    assert missing[name]["code"] == 3
    assert f"{name} requires a trained {part}, and" in missing[name]["error"]
    assert f"fertool train {part}" in missing[name]["hint"]

    made = train(name, space=space)
    assert made.parent("pretrained_part").digest == parts[part].digest
    assert made.params["model"]["pretrained_part"] == parts[part].params["model"]
    before = toy.weights(parts[part])
    held = {k.removeprefix(f"{part}."): v for k, v in toy.weights(made).items() if k.startswith(f"{part}.")}
    assert before.keys() == held.keys()
    assert all(np.array_equal(before[k], held[k]) for k in before), "bit for bit, batch statistics too"
    assert not [name for name in made.columns if name.startswith(f"optimizer/{part}.")]

    scored = tell("eval", "--run", made.path.parent, space=space)["runs"]
    assert scored[made.path.parent.name]["subsets"]["all"]["n_total"] == 12


def test_the_part_can_be_named(space, trained):
    _, parts = trained
    assert refusal(*words("man", "--pretrained-part", parts["amg"].path.parent), space=space)["error"].endswith(
        "a run of amg"
    )
    assert (
        "has no pretrained part"
        in refusal(*words("man", "--variant", "vgg", "--pretrained-part", parts["rasnet"].path.parent), space=space)[
            "error"
        ]
    )
    vgg = train("man", "--variant", "vgg", space=space)
    assert vgg.parent("pretrained_part") is None


def test_no_landmarks_are_needed_to_test(space, trained, tmp_path):
    train("man", space=space)
    other = toy.write_faces(tmp_path / "other", train=0, test=9, seed=3)
    assert "landmarks" not in other
    scored = tell("eval", "--run", "man-1", "--data", other.path, space=space)["runs"]["man-1"]
    assert scored["subsets"]["all"]["n_total"] == 9
    found = artefact.read(scored["predictions"])
    assert found["attention_regions"].shape == (9, 8)
    assert np.allclose(found["attention_regions"].sum(1), 1, atol=1e-5)


def test_what_knows_no_expressions_is_not_scored(space, trained):
    told = refusal("eval", "--run", "rasnet-1", space=space)
    assert told["code"] == 2
    assert "rasnet-1 predicts no expressions" in told["error"]
    history = trained[1]["rasnet"].group("history")
    assert 0 < history["val_iou"][-1] < 1
    assert history["constant_iou"].tolist() == [1.0], "all of these faces have the same masks"
    assert "a constant output reaches 100.0 %" in told["error"]
    assert "val_accuracy" in trained[1]["amg"].group("history")


def test_masks_that_saturate_are_warned_of_and_those_of_the_recipe_do_not(space):
    def told(*more):
        words = ("train", "rasnet-rafdb", "--gpus", 0, "--batch", 12, "--set", "train.iterations=9")
        chosen = ("--set", "train.model.channels=16", "--workspace", space)
        return CliRunner().invoke(cli.app, [*map(str, (*words, *more, *chosen))]).stderr

    dead = told("--lr", 0.001, "--set", "train.model.pixels=vgg-face")
    assert "constant %" in dead
    assert "outputs have saturated" in dead
    alive = told()
    assert "constant %" in alive
    assert "saturated" not in alive


def test_pre_training_gives_all_but_the_head(space, trained, tmp_path):
    first = train("ws-lgrn", space=space)
    write_space(tmp_path, label=np.arange(60).astype("i2") % 2)
    (tmp_path / "toy/faces.h5").rename(tmp_path / "kept.h5")
    toy.write_faces(tmp_path / "toy", train=48, test=12, classes=("neutral", "anger", "fear", "sadness"))
    tuned = train(
        "ws-lgrn",
        "--init",
        first.path,
        "--pretrained-part",
        trained[1]["amg"].path.parent,
        "--lr",
        1e-9,
        space=tmp_path,
    )
    a, b = toy.weights(first), toy.weights(tuned)
    assert b["classifier.weight"].shape[0] == 4
    moved = [k for k in a if k != "classifier.weight" and k != "classifier.bias" and "running" not in k]
    assert all(np.allclose(a[k], b[k], atol=1e-6) for k in moved if "num_batches" not in k)
    told = refusal(*words("lnlattennet", "--init", first.path), space=tmp_path)
    assert told["code"] == 5
    assert "lnlattennet has no trunk" in told["error"]


# --------------------------------------------------------------------------- pairs, versions, cuts, traces


@pytest.mark.parametrize("name", ["ws-lgrn", "lnlattennet"])
def test_stopping_in_between_changes_nothing(space, trained, tmp_path, name):
    """Pairs in all their versions, and dropout."""
    sets = ["train.rotation_angles=[-10, 10]", "train.expand=true"] if name == "ws-lgrn" else []
    whole = train(name, "--epochs", 2, "--out", tmp_path / "whole", space=space, sets=sets)
    train(name, "--epochs", 1, "--out", tmp_path / "parts", space=space, sets=sets)
    resumed = train(name, "--epochs", 2, "--out", tmp_path / "parts", "--resume", space=space, sets=sets)
    a, b = toy.weights(whole), toy.weights(resumed)
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert whole.group("history")["loss"].tolist() == resumed.group("history")["loss"].tolist()
    if name == "ws-lgrn":
        assert whole["state/iteration"] == 2 * 36 * 4 // 12, "36 faces, two turns, mirrored or not, 12 pairs a step"
        assert {"loss_ce", "loss_eyes", "loss_mouth", "loss_face"} <= whole.group("history").keys()


def test_attention_of_chosen_faces_is_kept(space, tmp_path):
    sets = ["train.track=[face 3.png, face 50.png]", "train.track_every=2"]
    run = train("lnlattennet", "--out", tmp_path / "run", space=space, sets=sets)
    trace = run.group("trace")
    assert trace["iteration"].tolist() == [0, 2]
    assert trace["global"].shape == trace["local"].shape == (2, 2, 16)
    assert np.allclose(trace["global"].sum(2), 1, atol=1e-5)
    assert not np.array_equal(trace["global"][0], trace["global"][1])
    told = refusal(*words("lnlattennet", sets=["train.track=[face 99.png]"]), space=space)
    assert "no face 'face 99.png' to track" in told["error"]


def test_pixels_are_cut_as_they_are(space):
    from fertool.training.transforms import cut_boxes, sample_views, view_transforms

    run = train("va-cnn", space=space)
    assert run.params["model"]["crop"]
    import torch

    from fertool.backbones.base import InputSpec

    images = torch.randint(0, 256, (5, 1, 160, 125), dtype=torch.uint8)
    spec = InputSpec((144, 112), 1, crop=True)
    middle = sample_views(images, view_transforms(cut_boxes(5, (160, 125), spec.size), None), spec)
    assert torch.allclose(255 * middle[:, 0], images[:, :, 8:152, 6:118].float(), atol=0.01)
    places = cut_boxes(4000, (160, 125), spec.size, seed=1)[:, 0] * torch.tensor([125, 160, 125, 160])
    corners = places[:, :2].round().unique(dim=0)
    assert len(corners) == 14 * 17, "every offset in turn"
    assert torch.allclose(places, places.round(), atol=1e-4)


# ------------------------------------------------------------------------------------------------- bad input


def test_refusals(space, tmp_path):
    cases = (
        (words("rasnet", sets=["train.flip=0.5"]), 4, "learns masks that lie where the face was stored, and flip"),
        (words("va-cnn", sets=["train.model.width=64"]), 4, "cuts 64×32 pixels out of every face"),
    )
    for command, code, message in cases:
        told = refusal(*command, space=space)
        assert told["code"] == code, told
        assert message in told["error"]


def test_masks_of_another_size(tmp_path):
    write_space(tmp_path)
    tell("make-masks", "--grid", 7, space=tmp_path)
    told = refusal(*words("rasnet"), space=tmp_path)
    assert "rasnet learns masks of 8×14×14" in told["error"]
    assert "has 8×7×7" in told["error"]
    assert "--grid 14" in told["hint"]


def test_symmetric_attention_wants_aligned_faces(tmp_path):
    faces = toy.write_faces(tmp_path / "toy")
    columns = {name: faces[name] for name in faces.columns}
    artefact.save(faces.path, "faces", columns, params={"align": "none"}, classes=faces.classes)
    told = refusal(*words("va-cnn", "--variant", "attention-symmetric"), space=tmp_path)
    assert told["code"] == 4
    assert "symmetric attention needs aligned faces" in told["error"]


def test_attributes_that_are_not_there(tmp_path):
    toy.write_faces(tmp_path / "toy", landmarks=np.repeat(FIVE[None], 72, axis=0))
    assert "groups" not in tell("make-masks", space=tmp_path)
    told = refusal(*words("amg"), space=tmp_path)
    assert told["code"] == 3
    assert "these faces have no attributes" in told["error"]


def test_a_group_that_all_faces_have(tmp_path):
    write_space(tmp_path, attr_smiling=np.ones(60, "i2"))
    tell("make-masks", space=tmp_path)
    told = refusal(*words("amg"), space=tmp_path)
    assert told["code"] == 3
    assert "no faces are drawn for the group 'mouth'" in told["error"]


def test_pairs_of_a_single_class(tmp_path):
    toy.write_faces(tmp_path / "toy", label=np.zeros(72, "i2"))
    told = refusal(*words("ws-lgrn", "--variant", "gfnet"), space=tmp_path)
    assert told["code"] == 3
    assert "are of the class 'neutral'" in told["error"]


def test_the_draw_is_kept(space):
    masks = artefact.read(space / "toy/masks.h5", "masks")
    groups, drawn, split = masks["groups"], masks["drawn"], artefact.read(space / "toy/faces.h5")["split"]
    for g in (0, 1):
        for use, name in ((1, "train"), (2, "val")):
            rows = drawn[:, g] == use
            assert set(split[rows]) == {name}
            assert groups[rows, g].mean() == 0.5
    again = artefact.read(space / "toy/masks.h5")
    tell("make-masks", "--overwrite", space=space)
    assert artefact.read(space / "toy/masks.h5").digest == again.digest
