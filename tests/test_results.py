"""The published results: pages and numbers are those of the JSON beside them."""

import json
import re
from pathlib import Path

import pytest

from fertool.evaluation.board.markdown import page
from fertool.recipe import load

FOLDER = Path(__file__).parent.parent / "examples/results"


@pytest.fixture(scope="module")
def board() -> dict:
    return json.loads((FOLDER / "board.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def controls() -> dict:
    return json.loads((FOLDER / "controls/board.json").read_text(encoding="utf-8"))


def test_pages_are_those_of_the_numbers(board, controls):
    assert (FOLDER / "board.md").read_text(encoding="utf-8") == page(board, {0: "board.png"})
    assert (FOLDER / "controls/board.md").read_text(encoding="utf-8") == page(controls, {0: "board.png"})


def test_numbers_of_the_rendered_controls_are_those_of_their_board(controls):
    text = " ".join((FOLDER / "controls/README.md").read_text(encoding="utf-8").split())
    baseline, ran = ([f"{100 * a:.2f}" for a in s["subsets"]["all"]["each"]] for s in controls["blocks"][0]["systems"])
    assert f"baseline {baseline[0]}, {baseline[1]} and {baseline[2]}, RAN {ran[0]}, {ran[1]} and {ran[2]} %" in text
    gap = controls["blocks"][0]["systems"][1]["subsets"]["all"]["gap"]
    difference, low, high = (f"{100 * gap[name]:+.2f}" for name in ("difference", "low", "high"))
    assert f"{difference} points ({low} to {high})" in text


def test_every_difference_in_the_text_is_in_the_numbers(board):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    known = set()
    for system in board["blocks"][0]["systems"]:
        for subset in system["subsets"].values():
            if gap := subset["gap"]:
                values = (gap["difference"], gap["low"], gap["high"], gap["claim"]["difference"])
                known |= {f"{100 * value:+.2f}" for value in values}
    told = set(re.findall(r"[+-]\d+\.\d\d", text))
    assert len(told) >= 6
    assert told <= known


def test_accuracies_of_the_baseline_in_the_text_are_in_the_numbers(board):
    text = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    subsets = board["blocks"][0]["systems"][0]["subsets"]
    here = [f"{100 * subsets[name]['accuracy']:.2f}" for name in ("occlusion", "pose30", "pose45")]
    assert f"below the {here[0]}, {here[1]} and {here[2]} reached here" in text


def test_recipe_is_read_and_is_that_of_the_runs(board):
    settings = load(str(FOLDER / "ran-ferplus-dlib.yaml")).settings("train")
    assert settings.model["backbone"] == "dlib-resnet29"
    (precision,) = {s["precision"] for s in board["blocks"][0]["systems"]}
    assert settings.precision == precision


def test_recipe_of_the_rendered_controls_is_read():
    settings = load(str(FOLDER / "controls/ran-controls.yaml")).settings("train")
    assert (settings.model["backbone"], settings.epochs, settings.lr) == ("dlib-resnet29", 6, 1e-4)
