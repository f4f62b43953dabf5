"""Published numbers and recipes in files of the user's, and in installed packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy
from commands import tell
from typer.testing import CliRunner

import fertool
from fertool import cli
from fertool import recipe as recipes

RECIPE = """
about: a small network
dataset: folder
paper: numbers.yaml
stages: [detect-align, train, eval]
train:
  model: {name: ran, backbone: tiny, size: 24}
  epochs: 1
  global_batch: 16
  lr: 0.05
"""

PAPER = """
paper: toy-2024
title: Bars and how to tell them apart
authors: A, B
venue: Toys 2024
results:
  - table: Table 1
    dataset: folder
    recipe: small.yaml
    rows:
      - {system: baseline, variant: baseline, value: 61.5, own: true}
      - {system: baseline at a low rate, variant: baseline, value: 40.0, own: true, given: {lr: 0.001}}
      - {system: somebody else's, value: 99.0}
"""

NETWORK = toy.NETWORK.replace(
    'name = "my-net"\n    Settings', 'name = "my-net"\n    paper = "numbers.yaml"\n    Settings'
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with toy faces, and a recipe and published numbers in a folder of their own."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/small.yaml").write_text(RECIPE)
    (tmp_path / "mine/numbers.yaml").write_text(PAPER)
    toy.write_all(tmp_path / "ws/toy")
    monkeypatch.chdir(tmp_path)
    for variable in ("FERTOOL_PLUGINS", "FERTOOL_PLUGINS_MENTIONED"):
        monkeypatch.setenv(variable, "")
    return tmp_path


def trained(*words) -> Path:
    recipe = ("--recipe", "mine/small.yaml", "--gpus", 0)
    return Path(tell("train", "ran", *recipe, "--variant", "baseline", *words, space="ws")["run"])


def test_eval_and_report_show_numbers_of_a_file(folder):
    trained()
    scores = tell("eval", "--gpus", 0, "--paper", "mine/numbers.yaml", space="ws")["runs"]["ran-baseline-1"]
    paper = scores["subsets"]["all"]["paper"]
    assert (paper["value"], paper["source"]) == (0.615, "Table 1")
    assert scores["paper"]["title"] == "Bars and how to tell them apart"
    page = Path(tell("report", "--paper", "mine/numbers.yaml", space="ws")["report"]).read_text()
    assert "61.5" in page
    assert "Bars and how to tell them apart" in page


def test_number_of_other_settings_is_not_compared(folder):
    trained("--set", "train.rotate=9")
    scores = tell("eval", "--gpus", 0, "--paper", "mine/numbers.yaml", space="ws")["runs"]["ran-baseline-1"]
    paper = scores["subsets"]["all"]["paper"]
    assert paper["value"] is None
    assert paper["differs"] == {"train.rotate": {"paper": "0", "here": "9"}}


def test_paper_of_a_network_is_looked_up_beside_its_file(folder):
    (folder / "mine/mynet.py").write_text(NETWORK)
    (folder / "mine/numbers.yaml").write_text(
        PAPER.replace("variant: baseline", "variant: my-net").replace("small", "own")
    )
    (folder / "mine/own.yaml").write_text(
        "dataset: folder\ntrain: {model: {name: 'mynet.py:MyNet'}, epochs: 1, global_batch: 16}\n"
    )
    tell("train", "mine/mynet.py:MyNet", "--recipe", "mine/own.yaml", "--gpus", 0, space="ws")
    scores = tell("eval", "--gpus", 0, space="ws")["runs"]["my-net-1"]
    assert scores["subsets"]["all"]["paper"]["value"] == 0.615
    described = json.loads(CliRunner().invoke(cli.app, ["models", "mine/mynet.py:MyNet", "--json"]).stdout)
    assert described["paper"] == "A, B: Bars and how to tell them apart. Toys 2024"


def test_run_of_a_recipe_compares_with_the_paper_beside_it(folder):
    prepare = "{detector: none, landmarks: none, align: none, size: 32}"
    (folder / "mine/small.yaml").write_text(f"{RECIPE}detect-align: {prepare}\n")
    from PIL import Image

    for i, image in enumerate(toy.bars(labels := [0, 1, 2] * 4)):
        split, emotion = "train" if i < 9 else "test", toy.CLASSES[labels[i]]
        (path := folder / "data" / split / emotion / f"{i}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    facts = tell("run", "mine/small.yaml", "data", "--variant", "baseline", "--gpus", 0, space="ws")
    assert facts["eval"]["runs"]["ran-baseline-1"]["paper"]["name"] == "toy-2024"


def test_papers_lists_the_numbers_of_a_file_with_their_commands(folder):
    told = CliRunner().invoke(cli.app, ["papers", "mine/numbers.yaml", "--json"])
    cells = json.loads(told.stdout)["papers"]["mine/numbers.yaml"]["cells"]
    assert [c["value"] for c in cells] == [0.615, 0.4]
    assert cells[0]["commands"] == ["fertool run mine/small.yaml data/folder --name small --variant baseline"]
    assert cells[1]["commands"] == [f"{cells[0]['commands'][0]} --set train.lr=0.001"]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("variant: baseline, value: 61.5", "varient: ran-baseline, value: 61.5", "unknown key 'varient'"),
        ("value: 99.0", "value: high", "the value of somebody else's is no number"),
        ("value: 99.0", "note: none", "there is no value"),
        ("venue: Toys 2024", "", "there is no venue"),
        ("    rows:", "    row:", "unknown key 'row'"),
        ("results:", "results: {", "is not valid YAML"),
        (PAPER, "[1, 2]", "holds no published numbers"),
    ],
)
def test_file_that_holds_no_numbers_is_refused(folder, old, new, error):
    assert PAPER.count(old)
    (folder / "mine/numbers.yaml").write_text(PAPER.replace(old, new))
    told = CliRunner().invoke(cli.app, ["papers", "mine/numbers.yaml", "--json"])
    assert told.exit_code == 4
    assert error in json.loads(told.stdout)["error"]


def test_missing_file_is_refused_before_anything_is_predicted(folder):
    run = trained()
    told = tell("eval", "--gpus", 0, "--paper", "mine/numbres.yaml", space="ws", ok=False)
    assert "there is no file mine/numbres.yaml" in told["error"]
    assert not list(run.parent.glob("predictions*"))


def test_extended_file_is_looked_up_beside_the_recipe(folder):
    (folder / "mine/longer.yaml").write_text("extends: small.yaml\ntrain: {epochs: 7}\n")
    train = recipes.load("mine/longer.yaml").settings("train")
    assert (train.epochs, train.model["backbone"]) == (7, "tiny")
    (folder / "small.yaml").write_text("train: {epochs: 9, lr: 9}\n")
    assert recipes.load("mine/longer.yaml").settings("train").lr == 0.05, "not that of the working folder"


def test_installed_packages_offer_recipes_and_papers(folder):
    package = folder / "site/toys"
    package.mkdir(parents=True)
    (package / "small.yaml").write_text(RECIPE.replace("numbers.yaml", "toy-2024"))
    (package / "toy-2024.yaml").write_text(PAPER.replace("small.yaml", "small"))
    (package.parent / "toys-1.0.dist-info").mkdir()
    (package.parent / "toys-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    entries = "".join(f"[fertool.{kind}]\ntoys = toys.{kind}\n" for kind in ("recipes", "papers"))
    (package.parent / "toys-1.0.dist-info/entry_points.txt").write_text(entries)
    for kind, name in (("recipes", "small"), ("papers", "toy-2024")):
        (package / kind).mkdir()
        (package / f"{name}.yaml").rename(package / kind / f"{name}.yaml")
    path = os.pathsep.join([str(package.parent), str(Path(fertool.__file__).parents[1])])

    def fer(*words):
        return subprocess.run(
            (sys.executable, "-m", "fertool", *words), check=True, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": path},
        ).stdout  # fmt: skip

    assert "a small network" in json.loads(fer("recipes", "--json"))["recipes"]["small"]
    (cell, _) = json.loads(fer("papers", "toy-2024", "--json"))["papers"]["toy-2024"]["cells"]
    assert cell["commands"] == ["fertool run small data/folder --name small --variant baseline"]
