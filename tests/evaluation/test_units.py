"""Every JSON object and CSV file has fractions; what people read has percent."""

import json
import re

import numpy as np
import pytest
import toy
from commands import tell
from rates import beyond_one, rows_beyond_one
from typer.testing import CliRunner

from fertool import cli
from fertool.evaluation.units import interval, percent, points

SMALL = [w for e in ("model.backbone=tiny", "model.size=24", "global_batch=16") for w in ("--set", f"train.{e}")]
TRAIN = ["train", "ran", "--variant", "baseline", "--epochs", 2, "--lr", 0.05, *SMALL, "--gpus", 0]


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """Two runs on one dataset, with faces that are easy to tell apart, and the folds of another."""
    folder = tmp_path_factory.mktemp("units")
    toy.write_faces(folder / "one", train=32, test=12)
    crossed = toy.write_faces(folder / "two", train=30, test=0)
    toy.write_subsets(crossed, fold=np.arange(30, dtype="i2") % 3)
    for seed in (0, 1):
        tell(*TRAIN, "--data", "one", "--set", f"train.seed={seed}", space=folder)
    tell(*TRAIN, "--data", "two", "--folds", "all", space=folder)
    return folder


COMMANDS = {
    "eval": ["eval", "--run", "one/runs/ran-baseline-1", "--run", "one/runs/ran-baseline-2", "--fuse"],
    "eval --folds": ["eval", "--folds", "--run", "two/runs/ran-baseline-fold0-1"],
    "report": ["report", "--run", "one/runs/ran-baseline-1", "--run", "one/runs/ran-baseline-2"],
    "sweep": ["sweep", "ran", "--variant", "baseline", "--data", "one", "--vary", "train.lr=[0.01,0.05]"],
    "papers": ["papers", "ran"],
}


def completed(name: str, space, tmp_path) -> list:
    more = {
        "eval": ["--csv", tmp_path / "scores.csv", "--gpus", 0],
        "eval --folds": ["--csv", tmp_path / "scores.csv", "--gpus", 0],
        "sweep": ["--epochs", 1, *SMALL, "--gpus", 0],
    }
    return [space / w if "/runs/" in str(w) else w for w in (*COMMANDS[name], *more.get(name, ()))]


@pytest.mark.parametrize("name", COMMANDS)
def test_rates_are_fractions_in_json_and_csv(name, space, tmp_path):
    if name == "papers":
        facts = json.loads(CliRunner().invoke(cli.app, ["papers", "ran", "--json"]).stdout)
        assert 0.5 < max(c["value"] for c in facts["papers"]["ran"]["cells"]) < 1
    else:
        facts = tell(*completed(name, space, tmp_path), space=space)
    assert facts["schema"] >= 2
    assert list(beyond_one(facts)) == []
    written = [*tmp_path.glob("*.csv"), *(f for f in facts.get("files", ()) if f.endswith(".csv"))]
    assert len(written) == {"eval": 2, "eval --folds": 1, "sweep": 1}.get(name, 0)
    assert [problem for file in written for problem in rows_beyond_one(file)] == []


def test_people_read_percent(space, tmp_path):
    (run,) = tell("eval", "--run", space / "one/runs/ran-baseline-1", "--gpus", 0, space=space)["runs"].values()
    whole = run["subsets"]["all"]
    words = ["eval", "--run", space / "one/runs/ran-baseline-1", "--gpus", 0, "--workspace", space]
    said = CliRunner().invoke(cli.app, list(map(str, words))).stderr
    line = next(line for line in said.splitlines() if line.startswith("whole split"))
    shown = f"{100 * whole['accuracy']:.2f} {100 * whole['low']:.2f}–{100 * whole['high']:.2f}"
    assert shown in re.sub(" +", " ", line)


def test_differences_are_points_and_nothing_is_a_dash():
    assert (percent(0.8855), percent(1, 0), percent(None), percent(float("nan"))) == ("88.55", "100", "–", "–")
    assert (points(0.0123), points(-0.5), points(None)) == ("+1.23", "-50.00", "–")
    assert (interval(0.25, 0.5, 1), interval(None, None)) == ("25.0–50.0", "–")


def test_percent_among_the_facts_is_noticed():
    facts = {"runs": {"a": {"accuracy": 62.5, "n_total": 40, "confusion": [[3, 1]]}}, "confusion_mean": [[50.0]]}
    assert list(beyond_one(facts)) == [".runs.a.accuracy: 62.5", ".confusion_mean: 50.0"]
