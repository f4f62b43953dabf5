"""Attention maps and traces as pictures, and the arrays behind them, by the real command."""

import json
from pathlib import Path

import numpy as np
import pytest
import toy
from PIL import Image
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.figures.attention import maps


def tell(*words, space, ok=True) -> dict:
    result = CliRunner().invoke(cli.app, [*map(str, words), "--workspace", str(space), "--json"])
    assert (result.exit_code == 0) == ok, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention")
    toy.write_faces(folder / "toy")
    common = ("--gpus", 0, "--epochs", 1, "--batch", 24)
    sets = {
        "va-cnn": ["train.model.width=16", "train.model.height=32"],
        "lnlattennet": ["train.model.channels=4", "train.model.size=64", "train.track=[face 1.png, face 60.png]"],
    }
    for name, chosen in sets.items():
        entries = [w for entry in (*chosen, "train.track_every=1") for w in ("--set", entry)]
        tell("train", name, *common, *entries, space=folder)
        tell("eval", "--run", f"{name}-1", space=folder)
    return folder


@pytest.mark.parametrize(
    ("run", "names", "shape"), [("va-cnn-1", {"map"}, (2, 1)), ("lnlattennet-1", {"global", "local"}, (64, 64))]
)
def test_attention_over_faces(space, run, names, shape):
    files = tell("visualize", "attention", "--run", run, "--faces", 3, "--dpi", 80, space=space)["files"]
    picture = np.asarray(Image.open(files[0]).convert("RGB"))
    assert picture.std() > 10
    arrays = artefact.read(Path(files[1]), "figures").group("attention")
    assert arrays["images"].shape[0] == 3
    predictions = artefact.read(space / f"toy/runs/{run}/predictions.h5")
    place = predictions.ids.tolist().index(arrays["id"][0])
    for name in names:
        assert arrays[name].shape == (3, *shape)
    if run == "va-cnn-1":
        assert np.allclose(arrays["map"][0], predictions["attention_map"][place])


def test_patches_are_laid_over_the_face():
    weights = np.arange(16, dtype="f4")[None]
    laid = maps({"global": weights}, {"name": "lnlattennet", "size": 144, "overlap": None})["global"][0]
    assert laid[5, 5] == 0
    assert laid[5, 40] == 0.5, "where the first two overlap, their mean"
    assert laid[143, 143] == 15
    masks = np.zeros((1, 8, 2, 2), "f4")
    masks[0, 3, 0, 1] = 1
    found = maps({"regions": np.full((1, 8), 1 / 8), "masks": masks}, {"name": "man"})["regions"]
    assert found[0].tolist() == [[0, 1 / 8], [0, 0]]


def test_traces_of_tracked_faces(space):
    files = tell("visualize", "trace", "--run", "lnlattennet-1", "--dpi", 80, space=space)["files"]
    assert np.asarray(Image.open(files[0]).convert("RGB")).std() > 10
    arrays = artefact.read(Path(files[1]), "figures").group("trace")
    assert arrays["iteration"].tolist() == [0, 1, 2]
    assert arrays["global"].shape == (3, 2, 16)
    assert arrays["id"].tolist() == ["face 1.png", "face 60.png"]


def test_what_cannot_be_drawn(space):
    told = tell("visualize", "trace", "--run", "va-cnn-1", space=space, ok=False)
    assert told["code"] == 2
    assert "kept no weights" in told["error"]
    told = tell("visualize", "attention", "--run", "va-cnn-1", "--run", "lnlattennet-1", space=space, ok=False)
    assert "attention shows one run" in told["error"]
