"""A network in a file of the user's: trained, evaluated, reported and exported; nothing runs that nobody has named."""

import re
import shutil
from pathlib import Path

import pytest
import toy
from commands import call, tell

import fertool
from fertool.stages import list_models

PAGE = Path(fertool.__file__).parent / "models/README.md"
SMALL = ("--gpus", 0, "--epochs", 1, "--batch", 16)


@pytest.fixture
def space(tmp_path, monkeypatch):
    """A workspace with toy faces, and the network of the documentation beside it, which nobody has named."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "mynet.py").write_text(code)
    toy.write_faces(tmp_path / "ws/toy")
    monkeypatch.chdir(tmp_path)
    for variable in ("FERTOOL_PLUGINS", "FERTOOL_PLUGINS_MENTIONED"):
        monkeypatch.setenv(variable, "")
    return tmp_path / "ws"


def test_network_of_a_file_is_trained_evaluated_and_reported(space, monkeypatch):
    run = Path(tell("train", "mynet.py:MyNet", *SMALL, space=space)["run"])
    monkeypatch.setenv("FERTOOL_PLUGINS_MENTIONED", "")
    refused = call("eval", "--gpus", 0, space=space)
    assert refused.exit_code == 2
    assert "runs only if you name it" in refused.stdout
    monkeypatch.setenv("FERTOOL_PLUGINS", str(space.parent / "mynet.py") + ":MyNet")
    scores = tell("eval", "--gpus", 0, space=space)["runs"][run.parent.name]
    assert scores["subsets"]["all"]["n_total"] == 24
    assert Path(tell("report", space=space)["report"]).exists()
    assert "my-net" in [m["network"] for m in list_models.every_network()]


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("nowhere.py:MyNet", "there is no file"),
        ("mynet.py:Other", "defines no Other"),
        ("mynet.py:MySettings", "is no network"),
        ("broken.py:MyNet", "cannot be imported: SyntaxError"),
        ("no_such_module:MyNet", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_references_that_lead_nowhere_are_one_line(space, reference, says):
    shutil.copy(space.parent / "mynet.py", space.parent / "broken.py")
    (space.parent / "broken.py").write_text("class MyNet(:\n")
    result = call("train", reference, *SMALL, space=space)
    assert result.exit_code in (2, 4)
    assert says in result.stdout
