"""Values on the command line that cannot be meant: an error of the command line or the recipe, never a crash."""

import re

import numpy as np
import pytest
import toy
from made_faces import FIVE
from typer.testing import CliRunner

from fertool import cli


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    toy.write_all(folder / "toy")
    return folder


SETS = {
    "train.lr": [
        "2001-99-99", "2001-01-01", "", "true", "[0.1]", "{a: 1}", ".nan", ".inf", "1e400", "-1", "1e39", "&a [*a]",
        "1:30", "0:0.1", "007",
    ],
    "train.seed": [str(2**63), str(2**64), "9" * 99, "-1", "1.5", "²", "yes", "null", "2001-01-01", "1:30", "017"],
    "train.epochs": ["on", ".inf", "0", "'x'", "[]"],
    "train.fold": ["-1", "false", "²"],
    "train.lr_milestones": ["[true]", "5", "[.nan]", "[[1]]", "[2001-99-99]"],
    "train.model": ["5", "null", "[]", "{name: 5}", "{1: 2}", "{name: ran, size: true}", "{name: ran, size: 1e9999}"],
    "train.model.size": ["-5", "true", "², 3", "24.5"],
    "train.init": ["5", "[a]", "true"],
    "train.track": ["5", "[1]", "a"],
    "train.": ["1"],
    "train": ["{lr: 1}"],
    "": ["1"],
    ".lr": ["1"],
    "train.lr.deeper": ["1"],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in SETS.items() for value in values])
def test_settings_that_cannot_be_meant(space, key, value):
    words = ["train", "ran", "--gpus", "0", "--set", f"{key}={value}", "--workspace", str(space)]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 4, result.output
    error = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert key.partition(".")[0] in error or "model" in error or "network" in error
    assert len(error) < 600


OPTIONS = [
    ("train", "ran", "--seed", str(2**64)),
    ("train", "ran", "--lr", "nan"),
    ("train", "ran", "--lr", "inf"),
    ("train", "ran", "--epochs", "1e999"),
    ("train", "ran", "--batch", "9" * 30),
    ("train", "ran", "--folds", "²"),
    ("train", "ran", "--folds", "٣x"),
    ("train", "ran", "--folds", ""),
    ("train", "ran", "--folds", "-1"),
    ("train", "ran", "--init", ""),
    ("inspect", "."),
    ("inspect", "/"),
    ("crop-regions", "--out", "."),
    ("eval", "--csv", "."),
    ("train", "ran", "--folds", "9" * 30),
    ("train", "ran", "--gpus", "²"),
    ("sweep", "ran", "--vary", "train.lr="),
    ("sweep", "ran", "--vary", "train.lr=[]"),
    ("sweep", "ran", "--vary", "train.lr=[2001-99-99]"),
    ("sweep", "ran", "--vary", "train.lr"),
    ("sweep", "ran", "--seeds", "9" * 12),
    ("render", "nowhere", "--seed", str(2**64)),
    ("eval", "--batch", "0"),
    ("demo", "nowhere", "--seed", str(2**64)),
]


@pytest.mark.parametrize("words", OPTIONS)
def test_options_that_cannot_be_meant(space, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERTOOL_WORKSPACE", str(space))
    monkeypatch.setattr("sys.argv", ["fertool", *words])
    with pytest.raises(SystemExit) as e:
        cli.main()
    assert e.value.code in (2, 3, 4)
    assert not list(tmp_path.iterdir())


def test_a_number_of_another_script_is_that_number_or_none(space):
    """Whatever `int` makes of it: nothing in between, as a digit that is none."""
    for number in ("٣", "１", "²"):
        result = CliRunner().invoke(cli.app, ["train", "ran", "--folds", number, "--workspace", str(space)])
        assert result.exit_code == 2
        assert re.search("neither all nor the number of a fold", result.stderr)


def test_an_epoch_without_a_single_step(tmp_path):
    """A network that learns without labels may be given one face."""
    split = np.array(["one"] + ["train"] * 47 + ["test"] * 24)
    marks = np.broadcast_to(FIVE * 32 - 0.5, (72, 5, 2)).astype("f4")
    toy.write_faces(tmp_path / "toy", split=split, landmarks=marks)
    space = ["--workspace", str(tmp_path)]
    assert CliRunner().invoke(cli.app, ["make-masks", *space]).exit_code == 0
    sets = ["--set", "train.train_splits=[one]", "--set", "train.flip=0", "--gpus", "0"]
    result = CliRunner().invoke(cli.app, ["train", "rasnet", *sets, *space])
    assert result.exit_code == 3
    assert "an epoch of 1 samples is too short" in result.stderr
