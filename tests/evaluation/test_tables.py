"""What eval prints for people."""

import numpy as np
import pytest
from small_runs import CLASSES, make_faces, make_predictions, make_run, make_subsets

from fertool.stages.evaluate import scores


@pytest.fixture
def printed(tmp_path, capsys):
    """Scores of two runs on a split with a large and a small subset, as `eval --subset all --classes` prints them."""
    labels = np.arange(64) % 8
    faces = make_faces(tmp_path / "toy", labels)
    make_subsets(faces, occlusion=np.arange(64) < 40, pose45=np.arange(64) < 20)
    made = {}
    for name, wrong in (("ran-1", 8), ("ran-baseline-1", 16)):
        said = np.where(np.arange(64) < wrong, (labels + 1) % 8, labels)
        made[name] = make_predictions(make_run(faces, name), faces, said).path

    def run(*names: str) -> str:
        paths = {n: made[n] for n in names}
        facts = scores.run(paths, names=("all",), confidence=0.95, fuse=(), csv=None)
        scores.report(facts, every_class=True)
        return capsys.readouterr().err

    return run


def test_tables_of_several_runs_name_their_run(printed):
    text = printed("ran-1", "ran-baseline-1")
    for run in ("ran-1", "ran-baseline-1"):
        for subset in ("whole split", "occlusion"):
            assert f"Classes, {run}, {subset}" in text
            assert f"predicted class (columns), {run}, {subset}" in text
    assert "Classes, whole split" in printed("ran-1"), "a single run has its name above the scores"


def test_few_faces_are_marked_and_have_no_tables_of_classes(printed):
    text = printed("ran-1", "ran-baseline-1")
    assert "pose45 *" in text
    assert "occlusion *" not in text
    assert "* fewer than 30 faces" in text
    assert "ran-1, pose45" not in text
    assert "ran-1: no classes of pose45: fewer than 30 faces" in text
    assert text.count(CLASSES[0]) == 2 * 2 * 2, "two runs, two subsets, classes and confusion"
