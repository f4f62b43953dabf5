"""`eval --average`: the mean over datasets, as in LNLAttenNet's Table IV; by the real command."""

import numpy as np
import pytest
import toy
from commands import tell

from fertool import artefact

SMALL = ["--gpus", 0, "--epochs", 1, "--lr", 0.05]
SMALL += [w for e in ("model.backbone=tiny", "model.size=24", "global_batch=16") for w in ("--set", f"train.{e}")]
BASELINE = ["--variant", "baseline"]


def right(path) -> float:
    p = artefact.read(path, "predictions")
    return (np.asarray(p["logits"]).argmax(1) == np.asarray(p["label"])).mean()


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """Runs on three datasets: tested on the split test, on val, and in folds."""
    folder = tmp_path_factory.mktemp("average")
    toy.write_faces(folder / "one", train=32, test=12)
    n = np.arange(44)
    toy.write_faces(folder / "two", train=32, test=12, seed=1, split=np.where(n < 32, "train", "val").astype(object))
    crossed = toy.write_faces(folder / "three", train=30, test=0, seed=2)
    toy.write_subsets(crossed, fold=np.arange(30, dtype="i2") % 3)
    tell("train", "ran", *BASELINE, *SMALL, "--data", "one", space=folder)
    tell("train", "ran", *BASELINE, *SMALL, "--data", "two", "--set", "train.val_split=val", space=folder)
    tell("train", "ran", *BASELINE, *SMALL, "--data", "three", "--folds", "all", space=folder)
    return folder


def test_the_mean_over_datasets(space):
    runs = [space / "one/runs/ran-baseline-1", space / "two/runs/ran-baseline-1", space / "three/runs"]
    runs[2] = runs[2] / "ran-baseline-fold0-1"
    facts = tell("eval", "--average", "--gpus", 0, *[w for r in runs for w in ("--run", r)], space=space)
    folds = [right(p / "predictions.h5") for p in (space / "three/runs").iterdir()]
    expected = [right(runs[0] / "predictions.h5"), right(runs[1] / "predictions-val.h5"), np.mean(folds)]
    assert [d["accuracy"] for d in facts["datasets"].values()] == pytest.approx(expected)
    assert list(facts["datasets"]) == ["one", "two", "three"]
    assert facts["accuracy"] == pytest.approx(np.mean(expected))
    assert facts["paper"] is None, "these are no datasets of a paper"


def test_what_has_no_mean(space):
    one = space / "one/runs/ran-baseline-1"
    for words in (["--run", one], ["--run", one, "--run", one]):
        told = tell("eval", "--average", "--gpus", 0, *words, space=space, ok=False)
        assert told["code"] == 2
        assert "one run on each of several datasets" in told["error"]
    told = tell("eval", "--average", "--run", one, "--split", "val", space=space, ok=False)
    assert "on its own split" in told["error"]
