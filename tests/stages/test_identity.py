"""Identity pretraining: who is trained on and who is verified, the losses, pairs, and the way of its weights."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.datasets import open_dataset
from fertool.errors import DataError
from fertool.evaluation.verification import best_threshold, roc_auc, verify
from fertool.models.identity import add_margin
from fertool.models.registry import build_model, model_settings
from fertool.pretrained.initialise import init_source, init_weights
from fertool.subsets.pairs import draw_pairs
from tests.commands import call, tell
from tests.toy import write_faces

EACH = 8
SMALL = ("--gpus", 0, "--set", "train.model.backbone=tiny", "--set", "train.model.size=24", "--set", "train.flip=0")


def portraits(people: int, seed: int = 0) -> np.ndarray:
    """(people · EACH, 32, 32, 1) faces: of each person the same coarse pattern, in other light and with noise."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(40, 200, (people, 4, 4)).repeat(EACH, axis=0).repeat(8, axis=1).repeat(8, axis=2)
    light = rng.normal(0, 12, (len(patterns), 1, 1)) + rng.normal(0, 10, patterns.shape)
    return (patterns + light).clip(0, 255).astype("u1")[..., None]


def spoken(*words, space) -> str:
    """What a command prints for people, who read no JSON; that it worked is asserted."""
    result = CliRunner().invoke(cli.app, [*map(str, words), "--workspace", str(space)])
    assert result.exit_code == 0, result.output
    return result.output


def write_people(folder, train: int = 12, test: int = 8, **columns):
    n, names = EACH * train, [f"person {i:02d}" for i in range(train + test)]
    usual = {"images": portraits(train + test), "subject": np.repeat(names, EACH)}
    return write_faces(folder, n, EACH * test, **{**usual, **columns})


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A workspace with faces of 12 people to learn and 8 others, and a run trained on them."""
    space = tmp_path_factory.mktemp("people")
    write_people(space / "people")
    tell("train", "identity", *SMALL, "--epochs", 12, "--lr", 0.1, "--batch", 16, space=space)
    return space


@pytest.fixture(scope="module")
def run_file(space):
    return space / "people" / "runs" / "identity-1" / "run.h5"


# ----------------------------------------------------------------------------------------- learning and verifying


def test_unseen_people_are_verified(space, run_file, tmp_path):
    run = artefact.read(run_file, "run")
    assert (run.classes, run.params["model"]["subjects"]) == (None, 12)
    facts = tell("eval", "--csv", tmp_path / "scores.csv", "--set", "eval.pairs=200", space=space)
    found = facts["runs"]["identity-1"]
    assert {k: found[k] for k in ("people", "faces", "pairs", "chance")} == {
        "people": 8, "faces": 64, "pairs": 200, "chance": 0.5,
    }  # fmt: skip
    assert found["accuracy"] > 0.8
    assert found["auc"] > 0.85
    assert found["sd"] > 0
    assert "accuracy" in (tmp_path / "scores.csv").read_text().splitlines()[0]
    predictions = artefact.read(found["predictions"], "predictions")
    assert set(predictions["subject"]) == {f"person {i}" for i in range(12, 20)}
    again = tell("eval", "--set", "eval.pairs=200", space=space)["runs"]["identity-1"]
    other = tell("eval", "--set", "eval.pairs=200", "--set", "eval.pair_seed=1", space=space)["runs"]["identity-1"]
    assert again == found != other
    refused = call("eval", "--split", "train", space=space)
    assert refused.exit_code == 3
    assert "no faces of unseen people in split 'train': its 12 people are trained on" in refused.stderr
    history = run.group("history")
    assert history["val_accuracy"][-1] > 0.8
    assert (history["constant_accuracy"] == 0.5).all()


def test_the_report_says_how_well_pairs_are_verified(space):
    tell("eval", "--run", "identity-1", space=space)
    tell("report", "--run", "identity-1", space=space)
    page = (space / "people" / "runs" / "identity-1" / "report.html").read_text()
    assert "pairs of 8 people who were not trained on (chance is 50 %), ROC AUC" in page


def test_the_scores_of_a_random_network_are_those_of_chance():
    rng = np.random.default_rng(0)
    pairs, same = draw_pairs(np.arange(400) // 4, 1000)
    found = verify(rng.normal(size=(400, 64)), pairs, same)
    assert abs(found.accuracy - 0.5) < 0.05
    assert abs(found.auc - 0.5) < 0.05


def test_pairs_are_balanced_different_and_seeded():
    subjects = np.random.default_rng(0).permutation(np.repeat(list("abcd"), [30, 20, 2, 1]))
    pairs, same = draw_pairs(subjects, 400, seed=3)
    assert len(pairs) == 400
    assert same.sum() == 200
    assert ((subjects[pairs[:, 0]] == subjects[pairs[:, 1]]) == same).all()
    assert len({frozenset(p) for p in pairs.tolist()}) == 400
    assert (pairs == draw_pairs(subjects, 400, seed=3)[0]).all()
    assert (pairs != draw_pairs(subjects, 400, seed=4)[0]).any()
    everything, same = draw_pairs(subjects, 10**6)
    assert same.sum() == (30 * 29 + 20 * 19 + 2) // 2 // 10 * 10
    for few in (["a"] * 9, list("abcdefgh"), []):
        assert not len(draw_pairs(np.array(few), 100)[0])


def test_threshold_and_roc_in_closed_form():
    scores, same = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True])
    assert best_threshold(scores, same) == 0.2
    assert roc_auc(scores, same) == 0.75
    assert roc_auc(np.zeros(4), same) == 0.5


# ------------------------------------------------------------------------------------------------------ losses


def test_arcface_adds_its_margin_to_the_right_person_only():
    angles = torch.tensor([[0.3, 1.2, 2.9], [1.0, 0.2, 3.0]], dtype=torch.float64, requires_grad=True)
    labels, m = torch.tensor([0, 2]), 0.5
    found = add_margin(angles.cos(), labels, m)
    expected = angles.cos().clone()
    expected[0, 0] = math.cos(0.3 + m)
    expected[1, 2] = math.cos(3.0) - m * math.sin(m)  # 3 + 0.5 would lie beyond π
    assert torch.allclose(found, expected, atol=1e-6)
    add_margin(torch.ones(1, 2, requires_grad=True), torch.tensor([0]), m).sum().backward()


def test_the_arcface_variant_trains_and_keeps_its_scale(space):
    words = ("--variant", "arcface", "--epochs", 2, "--set", "train.model.scale=16", "--set", "train.model.margin=0.2")
    facts = tell("train", "identity", *SMALL, *words, space=space)
    model = artefact.read(facts["run"], "run").params["model"]
    assert (model["loss"], model["scale"], model["margin"]) == ("arcface", 16.0, 0.2)
    plain = build_model(model_settings(dict(model)), 0)
    views = torch.rand(4, 1, 3, 24, 24)
    assert plain.train()(views).logits.abs().max() <= 16
    assert plain.eval()(views).logits.shape == (4, 128)


def test_two_processes_learn_and_verify_as_one(tmp_path):
    write_people(tmp_path / "people")
    each = [
        tell(
            "train", "identity", *SMALL, "--epochs", 0.3, "--lr", 0.01, "--batch", 16, "--cpu-processes", n,
            "--out", tmp_path / "people" / "runs" / f"with-{n}", space=tmp_path,
        )["history"]
        for n in (1, 2)
    ]  # fmt: skip
    assert each[0]["loss"] == pytest.approx(each[1]["loss"], rel=1e-4)
    assert each[0]["val_accuracy"] == pytest.approx(each[1]["val_accuracy"], abs=0.01)


# --------------------------------------------------------------------------------------- weights that are passed on


def test_a_run_gives_its_backbone_to_ran(space, run_file):
    tell("train", "ran", *SMALL, "--init", "identity-1", "--variant", "baseline", "--epochs", 0.01, space=space)
    run = artefact.read(space / "people" / "runs" / "ran-baseline-1" / "run.h5", "run")
    init = run.info["lineage"]["init"]
    assert init["run"]["model"]["name"] == "identity"
    assert init["run"]["lineage"]["faces"] == 12 * EACH
    assert run.parent("init").digest == artefact.read(run_file, "run").digest
    net = build_model(model_settings(run.params["model"]), 3)
    fresh = net.classifier.weight.clone()
    match = init_weights(net, str(run_file))
    assert (match.matched, match.missing) == (match.expected, ())
    theirs = artefact.read(run_file, "run").group("weights/last")
    assert all((v.numpy() == theirs[f"backbone.{k}"]).all() for k, v in net.backbone.state_dict().items())
    assert torch.equal(net.classifier.weight, fresh)


def test_vgg16_of_an_identity_run_fills_ran_and_man(tmp_path):
    torch.manual_seed(0)
    with torch.device("meta"):
        nets = [
            build_model(model_settings({"name": name, **more}), 7)
            for name, more in (("identity", {"backbone": "vgg16"}), ("ran", {"backbone": "vgg16"}), ("man", {}))
        ]
    source, *others = nets
    names = set(source.backbone.state_dict())
    assert set(others[0].backbone.state_dict()) == names
    assert set(others[1].backbone.state_dict()) == {n for n in names if n.startswith("features_.")}


def test_another_backbone_is_refused(space, run_file):
    result = call("train", "ran", "--gpus", 0, "--init", "identity-1", "--variant", "baseline", space=space)
    assert result.exit_code == 5
    assert "was trained with the backbone tiny, and ran has resnet18 here" in result.stderr
    assert "--set train.model.backbone=tiny" in result.stderr
    with torch.device("meta"):
        man = build_model(model_settings({"name": "man", "block": "none"}), 3)
    with pytest.raises(Exception, match="backbone tiny, and man has vgg16 here"):
        init_source(man, str(run_file))


# ----------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        (None, "has no subjects"),
        ([""] * 12, "has no subjects"),
        (["anna"] * 12, "has 1 person, of whom 1 has two faces or more: identity needs two such people"),
        ([f"p{i}" for i in range(12)], "has 12 people, of whom 0 have two faces or more"),
        (["anna"] * 4 + [f"p{i}" for i in range(8)], "of whom 1 has two faces or more"),
    ],
)
def test_too_few_people_are_refused(tmp_path, subject, says):
    columns = {} if subject is None else {"subject": np.array(subject)}
    write_faces(tmp_path / "few", 12, 0, **columns)
    result = call("train", "identity", *SMALL, space=tmp_path)
    assert result.exit_code == 3
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert says in error


def test_people_with_one_face_are_left_out_and_counted(tmp_path):
    subject = np.array(["a"] * 4 + ["b"] * 4 + ["c", "d", "", ""])
    write_faces(tmp_path / "few", 12, 0, subject=subject)
    text = spoken("train", "identity", *SMALL, "--epochs", 1, "--batch", 4, space=tmp_path)
    assert "2 people with one face are left out of the training" in text
    run = artefact.read(tmp_path / "few" / "runs" / "identity-1" / "run.h5", "run")
    assert run.params["model"]["subjects"] == 2
    assert run.info["lineage"]["faces"] == 8


def test_people_who_are_trained_on_are_not_verified(tmp_path):
    subject = np.repeat([f"p{i:02d}" for i in range(12)], 8)
    split = np.where(np.arange(96) % 8 < 4, "train", "test")
    split[48:] = "test"  # of p06 on, nothing is trained on
    write_people(tmp_path / "both", 12, 0, subject=subject, split=split)
    text = spoken("train", "identity", *SMALL, "--epochs", 1, space=tmp_path)
    assert "6 people in test are trained on, and not verified" in text
    facts = tell("eval", "--gpus", 0, "--set", "eval.pairs=40", space=tmp_path)
    assert facts["runs"]["identity-1"]["people"] == 6


def test_without_splits_people_are_held_out(tmp_path):
    write_people(tmp_path / "plain", 20, 0, split=np.array([""] * 160))
    words = ("--epochs", 1, "--set", "train.model.held_out=0.25")
    tell("train", "identity", *SMALL, *words, space=tmp_path)
    facts = tell("eval", "--gpus", 0, "--set", "eval.pairs=40", space=tmp_path)
    assert facts["runs"]["identity-1"]["people"] == 5


@pytest.mark.parametrize("option", ["--classes", "--fuse", "--folds", "--average"])
def test_options_for_expressions_are_refused(space, option):
    result = call("eval", option, "--run", "identity-1", space=space)
    assert result.exit_code == 2
    assert f"{option} is for expressions" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("visualize", "confusion", "--run", "identity-1"),
        ("visualize", "gradcam", "--run", "identity-1"),
        ("sweep", "identity", "--vary", "train.lr=[0.1]", "--epochs", 0.1, *SMALL),
    ],
)
def test_what_needs_expressions_says_so_in_a_line(space, words):
    result = call(*words, space=space)
    assert result.exit_code == 2
    assert "subjects" in result.stderr or "no classes" in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("error:")]) == 1
    assert "Traceback" not in result.stderr


# ------------------------------------------------------------------------------------------------ person/image


def write_folders(root, *folders: str):
    for k, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(2):
            Image.new("RGB", (32, 32), (10 * k, 20 * i, 0)).save(root / folder / f"{i}.png")
    return root


def test_folders_are_people(tmp_path):
    names = ("train/happy", "train/n01/video 1", "test/Zoë", "test/n01")
    dataset = open_dataset(write_folders(tmp_path, *names), "folder", folders="subjects")
    found = {(s.split, s.subject, s.label) for s in dataset.samples()}
    assert found == {("train", "happy", None), ("train", "n01", None), ("test", "Zoë", None), ("test", "n01", None)}
    assert (len(dataset.samples()), dataset.classes, dataset.problems()) == (8, (), [])


def test_a_single_persons_folder_is_that_person(tmp_path):
    dataset = open_dataset(write_folders(tmp_path, "faces/anna"), "folder", folders="subjects")
    assert {s.subject for s in dataset.samples()} == {"anna"}


def test_images_outside_the_folders_are_nobodys(tmp_path):
    root = write_folders(tmp_path / "a", "anna")
    Image.new("RGB", (32, 32)).save(root / "stray.png")
    dataset = open_dataset(root, "folder", folders="subjects")
    assert [str(p) for p in dataset.problems()] == [f"1 images lie in no person's folder ({root})"]
    with pytest.raises(DataError, match="2 images lie in no person's folder"):
        open_dataset(write_folders(tmp_path / "b", "."), "folder", folders="subjects").samples()


def test_folders_of_people_become_faces_with_subjects(tmp_path):
    root = write_folders(tmp_path / "data", "n1", "n2")
    words = ("--dataset", "folder", "--set", "data.folders=subjects", "--detector", "none", "--align", "none")
    more = ("--landmarks", "none", "--size", 16)
    tell("detect-align", root, *words, *more, space=tmp_path / "space")
    faces = artefact.read(tmp_path / "space" / "data" / "faces.h5", "faces")
    assert list(faces["subject"]) == ["n1", "n1", "n2", "n2"]
    assert (faces.params["data"]["folders"], faces.classes) == ("subjects", None)
