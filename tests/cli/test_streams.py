"""Commands whose streams are closed, full, read by nobody, narrow, or of an encoding that lacks letters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy
from typer.testing import CliRunner

from fertool import artefact, cli

ROOT = Path(__file__).parents[2]
NAME = "Gesicht ä 表情 \udcff.png"


def shell(script: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess:
    """A line of bash, in which `fertool` is the command; its exit code is that of the first command in a pipe."""
    fertool = f'fertool() {{ "{sys.executable}" -m fertool "$@"; }}'
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = ["bash", "-c", f"{fertool}; {script}; exit ${{PIPESTATUS[0]}}"]
    return subprocess.run(command, capture_output=True, cwd=tmp_path, env=env)


@pytest.fixture
def named(tmp_path) -> Path:
    """An artefact with names that few encodings have all letters of."""
    params = {"name": NAME.encode("utf-8", "replace").decode()}
    return artefact.save(tmp_path / "ä 表.h5", "subsets", {"id": np.array(["表"])}, params=params).path


@pytest.mark.parametrize("words", ["recipes ran-ferplus", "recipes --json", "--help", "recipes --help"])
def test_output_that_nobody_reads_to_the_end(tmp_path, words):
    done = shell(f"fertool {words} | true", tmp_path)
    assert done.returncode in (0, 141)
    assert b"Broken" not in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"error" not in done.stderr


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2> /dev/full"])
def test_streams_that_are_closed(tmp_path, streams):
    done = shell(f"fertool recipes ran-ferplus {streams}", tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_under_stdout(tmp_path):
    for words in ("recipes ran-ferplus", "recipes --json", "--help"):
        done = shell(f"fertool {words} > /dev/full", tmp_path)
        assert done.returncode == 3
        assert done.stderr.decode().splitlines()[-1].startswith("error: cannot write to standard output: No space left")
        assert b"Exception ignored" not in done.stderr


def test_a_closed_stdout_is_not_what_is_written_to_next(tmp_path):
    """The number of a closed stream would be given to the next file that is opened, and be printed into."""
    toy.write_faces(tmp_path / "artefacts" / "toy")
    done = shell("fertool crop-regions >&- 2>&-", tmp_path)
    assert done.returncode == 0
    assert artefact.read(tmp_path / "artefacts/toy/regions.h5", "regions").rows == 72


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, {}]
)
def test_names_that_an_encoding_lacks(tmp_path, named, environment):
    environment = {"PYTHONUTF8": "0", **environment}
    done = shell(f"fertool inspect '{named}'", tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert b"Gesicht" in done.stderr
    (tmp_path / "ä.yaml").write_text("about: ä 表情\n", encoding="utf-8")
    done = shell("fertool recipes ä.yaml", tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert b"about: " in done.stdout
    done = shell("fertool recipes 'nope ä 表'", tmp_path, **environment)
    assert done.returncode == 4
    assert done.stderr.startswith(b"error: there is no recipe 'nope ")


def test_a_narrow_terminal_loses_no_word(tmp_path):
    """Words may be broken over lines; of each column all letters are there, one below the other."""
    wide = sum(c.isalpha() for c in shell("fertool recipes", tmp_path, COLUMNS="300").stderr.decode())
    for columns in ("20", "0", "1", "²", "-3"):
        done = shell("fertool recipes", tmp_path, COLUMNS=columns)
        assert done.returncode == 0, done.stderr
        assert "…" not in done.stderr.decode(), columns
        assert sum(c.isalpha() for c in done.stderr.decode()) == wide, columns


def test_a_bare_environment(tmp_path):
    """No home, no terminal, no locale."""
    bare = f'env -i PATH="$PATH" PYTHONPATH="{ROOT}" "{sys.executable}" -m fertool'
    done = shell(f"{bare} recipes --json < /dev/null", tmp_path, TERM="dumb", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("option", ["--workspace=~/space", "--workspace ~/space", ""])
def test_a_tilde_is_the_home_folder(tmp_path, option):
    toy.write_faces(tmp_path / "home" / "space" / "toy")
    home = {"HOME": str(tmp_path / "home")} | ({} if option else {"FERTOOL_WORKSPACE": "~/space"})
    done = shell(f"fertool crop-regions {option}", tmp_path, **home)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home/space/toy/regions.h5").is_file()
    assert not (tmp_path / "~").exists()


def test_a_run_named_from_where_the_user_is(tmp_path, monkeypatch):
    faces = toy.write_all(tmp_path / "artefacts" / "toy")
    runs = faces.path.parent / "runs"
    toy.train_toy(faces, epochs=0.4)
    (runs / "ran-2").mkdir()
    places = {runs: "ran-1", runs / "ran-1": ".", runs / "ran-2": "../ran-1", runs.parent: "runs/ran-1/run.h5"}
    for folder, run in places.items():
        monkeypatch.chdir(folder)
        result = CliRunner().invoke(cli.app, ["eval", "--run", run, "--json", "--overwrite"])
        assert result.exit_code == 0, result.stderr
    assert (runs / "ran-1" / "predictions.h5").is_file()
