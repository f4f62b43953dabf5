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


def test_page_is_that_of_the_numbers(board):
    assert (FOLDER / "board.md").read_text(encoding="utf-8") == page(board, {0: "board.png"})


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
