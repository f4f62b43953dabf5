"""The workspace: which artefact a command means when none is named, and what it says when that is not clear."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fertool import files
from fertool.errors import ArtefactError, DataError, UsageError
from fertool.run_folders import beside, data_folder, name_of, sweep_of
from fertool.workspace import Workspace, new_run, run_reference, slug


def place(root: Path, *files: str) -> Workspace:
    """Empty files, each a second younger than the one before."""
    for i, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1_000_000 + i, 1_000_000 + i))
    return Workspace(root)


def test_where_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv("FERTOOL_WORKSPACE", raising=False)
    assert Workspace().root == Path("artefacts")
    monkeypatch.setenv("FERTOOL_WORKSPACE", str(tmp_path / "mine"))
    assert Workspace().root == tmp_path / "mine"
    assert Workspace(tmp_path).root == tmp_path
    assert Workspace(tmp_path).path("raf", "masks") == tmp_path / "raf" / "masks.h5"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("RAF-DB_1.0", "RAF-DB_1.0"),
        ("my faces, 2nd", "my-faces-2nd"),
        ("gesichter-ä", "gesichter-ä"),
        ("写真", "写真"),
        ("../..", "data"),
        (".hidden", "hidden"),
        ("", "data"),
    ],
)
def test_names_of_folders(name, folder):
    assert slug(name) == folder


def test_the_only_data_set_is_meant(tmp_path):
    space = place(tmp_path, "raf/faces.h5", "unfinished/faces.h5.partial", "notes.txt")
    assert space.datasets() == ["raf"]
    assert space.faces(None) == tmp_path / "raf/faces.h5"
    assert space.faces("raf") == tmp_path / "raf/faces.h5"
    assert space.beside(space.faces(None), "regions") == tmp_path / "raf/regions.h5"


def test_several_data_sets_have_to_be_named(tmp_path):
    space = place(tmp_path, "raf/faces.h5", "fer/faces.h5")
    with pytest.raises(UsageError, match="several datasets: fer, raf") as e:
        space.faces(None)
    assert "--data NAME" in e.value.hint
    assert space.faces("fer") == tmp_path / "fer/faces.h5"
    with pytest.raises(ArtefactError, match="no faces of 'rafd'") as e:
        space.faces("rafd")
    assert e.value.hint == "did you mean 'raf'?"


def test_drawn_occluders_are_meant_only_by_name(tmp_path):
    """So that the command that draws them can be repeated, and what works on the only dataset goes on to work."""
    space = place(tmp_path, "raf/faces.h5", "raf-occluded/faces.h5")
    assert space.dataset() == "raf"
    assert space.dataset("raf-occluded") == "raf-occluded"
    assert place(tmp_path / "other", "fer-occluded/faces.h5").dataset() == "fer-occluded"


@pytest.mark.parametrize("root", [".", "not/there"])
def test_no_data_set(tmp_path, root):
    space = Workspace(tmp_path / root)
    for name in (None, "raf"):
        with pytest.raises(ArtefactError, match="there are no faces") as e:
            space.faces(name)
        assert e.value.hint == "run: fertool detect-align FOLDER"
    with pytest.raises(ArtefactError, match="there is no run") as e:
        space.run()
    assert e.value.hint.startswith("run: fertool train MODEL")
    assert "fertool run probe-rendered" in e.value.hint


def test_faces_by_path(tmp_path, monkeypatch):
    place(tmp_path, "elsewhere/faces.h5", "odd/my.h5")
    space = Workspace(tmp_path / "empty")
    assert space.faces(str(tmp_path / "elsewhere/faces.h5")) == tmp_path / "elsewhere/faces.h5"
    monkeypatch.chdir(tmp_path / "odd")
    assert space.faces("my.h5") == Path("my.h5")
    with pytest.raises(ArtefactError, match="no faces of '/not/there.h5'"):
        space.faces("/not/there.h5")


def test_the_latest_run_is_meant(tmp_path):
    space = place(tmp_path, "raf/runs/ran-2/run.h5", "fer/runs/ran-9/run.h5", "raf/runs/ran-1/run.h5")
    (tmp_path / "raf/runs/ran-3").mkdir()  # begun, and nothing saved yet
    assert [r.name for r in space.runs()] == ["ran-2", "ran-9", "ran-1"]
    assert space.run() == tmp_path / "raf/runs/ran-1"
    assert space.run(data="fer") == tmp_path / "fer/runs/ran-9"
    os.utime(tmp_path / "raf/runs/ran-2/run.h5")
    assert space.run() == tmp_path / "raf/runs/ran-2"


def test_runs_by_name_and_path(tmp_path):
    space = place(tmp_path, "raf/runs/ran-1/run.h5", "fer/runs/ran-1/run.h5", "fer/runs/ran-baseline-1/run.h5")
    assert space.run("ran-baseline-1") == tmp_path / "fer/runs/ran-baseline-1"
    with pytest.raises(UsageError, match="several datasets have a run 'ran-1': .*raf.*fer") as e:
        space.run("ran-1")
    assert e.value.hint == "name its dataset, too: raf/ran-1"
    assert space.run("fer/ran-1") == tmp_path / "fer/runs/ran-1"
    assert space.run("raf/ran-1/") == tmp_path / "raf/runs/ran-1"
    for wrong in ("raf/ran-baseline-1", "../raf/ran-1", "/raf/ran-1"):
        with pytest.raises(ArtefactError, match="no run"):
            space.run(wrong)
    for path in (tmp_path / "raf/runs/ran-1", tmp_path / "raf/runs/ran-1/run.h5"):
        assert space.run(str(path)) == tmp_path / "raf/runs/ran-1"
    assert space.run("ran-1", data="raf") == tmp_path / "raf/runs/ran-1"
    with pytest.raises(ArtefactError, match="no run 'ran-baslin-1'") as e:
        space.run("ran-baslin-1")
    assert e.value.hint == "did you mean 'ran-baseline-1'?"


def test_runs_of_sweeps_are_meant_only_by_name(tmp_path):
    space = place(
        tmp_path,
        "raf/runs/ran-1/run.h5",
        "raf/sweeps/alpha/ran-1/run.h5",
        "raf/sweeps/alpha/ran-2/run.h5",
        "fer/sweeps/raf/ran-1/run.h5",
    )
    assert space.run() == tmp_path / "raf/runs/ran-1", "the latest that belongs to no sweep"
    assert space.runs() == [tmp_path / "raf/runs/ran-1"]
    assert space.run("ran-1") == space.run("raf/ran-1") == tmp_path / "raf/runs/ran-1", "a full name wins"
    assert space.run("fer/raf/ran-1") == tmp_path / "fer/sweeps/raf/ran-1"
    for name in ("alpha/ran-2", "raf/alpha/ran-2", str(tmp_path / "raf/sweeps/alpha/ran-2")):
        assert space.run(name) == tmp_path / "raf/sweeps/alpha/ran-2"
    with pytest.raises(ArtefactError, match="no run 'ran-2' in .* but in sweeps") as e:
        space.run("ran-2")
    assert e.value.hint == "name the sweep, too: raf/alpha/ran-2"
    with pytest.raises(ArtefactError, match="no run 'alhpa/ran-2'") as e:
        space.run("alhpa/ran-2")
    assert e.value.hint == "did you mean 'alpha/ran-2'?"
    with pytest.raises(ArtefactError, match="all runs in .* belong to sweeps") as e:
        space.run(data="fer")
    assert e.value.hint == "name one: --run fer/raf/ran-1"
    assert [name_of(r) for r in beside(tmp_path / "raf/sweeps/alpha/ran-9")] == [
        *("raf/ran-1", "raf/alpha/ran-1", "raf/alpha/ran-2")
    ]


def test_folders_called_runs_or_sweeps_confuse_nobody(tmp_path):
    """A workspace or dataset may have one of these names."""
    space = place(tmp_path / "sweeps", "sweeps/runs/ran-1/run.h5", "runs/runs/ran-2/run.h5")
    assert [name_of(r) for r in space.runs(sweeps=True)] == ["sweeps/ran-1", "runs/ran-2"]
    assert data_folder(space.run("sweeps/ran-1")) == tmp_path / "sweeps/sweeps"
    assert [sweep_of(r) for r in space.runs()] == ["", ""]


def test_hints_name_runs_as_short_as_commands_find_them(tmp_path, monkeypatch):
    monkeypatch.delenv("FERTOOL_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    for root, name in (("artefacts", "raf/ran-1"), ("other", "other/raf/runs/ran-1")):
        space = place(tmp_path / root, "raf/runs/ran-1/run.h5")
        assert run_reference(space.run()) == name
        assert Workspace().run(name).resolve() == space.run().resolve()
    monkeypatch.chdir(tmp_path / "other")
    assert run_reference(tmp_path / "artefacts/raf/runs/ran-1") == f"{tmp_path}/artefacts/raf/runs/ran-1"


def test_new_runs_are_numbered(tmp_path):
    parent = tmp_path / "raf" / "runs"
    runs = []
    for _ in range(2):
        runs.append(new_run(parent, "ran"))
        (runs[-1] / "run.h5").touch()
    assert runs == [tmp_path / "raf/runs/ran-1", tmp_path / "raf/runs/ran-2"]
    assert new_run(parent, "ran-baseline").name == "ran-baseline-1"
    (runs[0] / "run.h5").unlink()
    runs[0].rmdir()
    assert new_run(parent, "ran") == runs[0]


def test_run_folder_of_a_killed_training_is_used_again(tmp_path):
    parent = tmp_path / "raf" / "runs"
    folder = new_run(parent, "ran")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (folder / f".fertool-{files._HOST}-{dead.pid}-{'0' * 12}.tmp.h5").touch()
    (folder / ".run.h5.lock").touch()
    (folder.parent / ".ran-1.lock").touch()
    assert new_run(parent, "ran") == folder
    assert not list(folder.glob("*.tmp.h5"))


def test_run_folder_of_a_running_training_is_left_alone(tmp_path):
    parent = tmp_path / "raf" / "runs"
    folder = new_run(parent, "ran")
    program = f"""
import sys
from fertool import locks
with locks.exclusive({str(folder)!r}):
    print("locked", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        assert new_run(parent, "ran").name == "ran-2"
        other.stdin.close()


def test_a_workspace_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write .*file/raf/runs") as e:
        new_run(tmp_path / "file/raf/runs", "ran")
    assert "--workspace" in e.value.hint
