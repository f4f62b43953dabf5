"""runs: every run of a workspace in one table, whatever its state; removed and renamed, and what depends on it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import toy
from commands import call, tell
from typer.testing import CliRunner

import fertool
from fertool import artefact, cli, locks
from fertool.artefact import Parent
from fertool.evaluation import summary
from fertool.workspace import Workspace

TINY = [w for s in ("model.backbone=tiny", "model.size=24") for w in ("--set", f"train.{s}")]
LOCKED = """
import sys
from fertool import locks
with locks.exclusive(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def write_run(folder: Path, *, created="2026-01-01T00:00:00Z", accuracy=0.5, epochs=2, planned=2, parents=(), **params):
    """A run as training leaves it, without weights."""
    train = {"train_splits": ["train"], "val_split": "val", "select_on": "val", "epochs": planned, "seed": 0, "lr": 0.1}
    model = {"name": "ran", **params.pop("model", {})}
    kept = summary.of_run(epochs, 3 * epochs, epochs == planned, accuracy, {"val_accuracy": [accuracy]}, train)
    return artefact.save(
        folder / "run.h5",
        "run",
        {"weights/last/a": np.full(3, accuracy)},
        params={"recipe": "", "variant": params.pop("variant", ""), "model": model, "train": {**train, **params}},
        inputs=parents,
        info=artefact.make_info() | {"created": created, "summary": kept},
    )


@pytest.fixture
def space(tmp_path):
    """Three runs of two datasets and two of a sweep; raf/ran-2 is the latest of no sweep."""
    write_run(tmp_path / "raf/runs/ran-1", accuracy=0.7)
    write_run(tmp_path / "fer/runs/man-1", created="2026-01-03T00:00:00Z", model={"name": "man"}, variant="vgg")
    write_run(tmp_path / "raf/runs/ran-2", created="2026-01-02T00:00:00Z", epochs=1, seed=1)
    for i, lr in enumerate((0.01, 0.02)):
        write_run(tmp_path / f"raf/sweeps/rate/ran-{i + 1}", created=f"2026-01-0{i + 4}T00:00:00Z", lr=lr, accuracy=0.9)
    return tmp_path


def names(space, *words):
    return [r["name"] for r in tell("runs", *words, space=space)["runs"]]


def test_every_run_is_listed_with_its_facts(space):
    facts = tell("runs", space=space)
    assert facts["schema"] == 2
    by_name = {r["name"]: r for r in facts["runs"]}
    assert list(by_name) == ["raf/rate/ran-2", "raf/rate/ran-1", "fer/man-1", "raf/ran-2", "raf/ran-1"], "newest first"
    run = by_name["raf/ran-2"]
    assert (run["network"], run["variant"], run["data"], run["sweep"]) == ("ran", "", "raf", "")
    assert (run["epochs"], run["epochs_planned"], run["finished"], run["state"]) == (1, 2, False, "unfinished")
    assert (run["accuracy"], run["split"], run["role"]) == (0.5, "val", "validation")
    assert run["bytes"] == (space / "raf/runs/ran-2/run.h5").stat().st_size
    assert run["settings"] == {"train.seed": 1}
    assert by_name["raf/ran-1"]["settings"] == {"train.seed": 0}
    assert by_name["raf/rate/ran-1"]["settings"] == {"train.lr": 0.01}, "what a sweep varies"
    assert [r["name"] for r in facts["runs"] if r["latest"]] == [f"raf/{Workspace(space).run().name}"]


def test_table_is_in_percent_and_breaks_no_word(space, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    said = CliRunner().invoke(cli.app, ["runs", "--workspace", str(space)]).stderr
    (line,) = (line for line in said.splitlines() if "raf/rate/ran-2" in line)
    assert line.split()[:6] == ["raf/rate/ran-2", "ran", "–", "lr", "0.02", "2/2"]
    assert line.split()[6:9] == ["finished", "90.00", "val"]
    assert "raf/ran-2  ←" in said
    assert "taken where no --run is given" in said


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--data", "fer"], ["fer/man-1"]),
        (["--network", "man"], ["fer/man-1"]),
        (["--variant", "vgg"], ["fer/man-1"]),
        (["--variant", "ran", "--finished", "--sort", "name"], ["raf/ran-1", "raf/rate/ran-1", "raf/rate/ran-2"]),
        (["--unfinished"], ["raf/ran-2"]),
        (["--sweep", "rate", "--reverse"], ["raf/rate/ran-1", "raf/rate/ran-2"]),
        (["--sort", "accuracy", "--data", "raf"], ["raf/rate/ran-1", "raf/rate/ran-2", "raf/ran-1", "raf/ran-2"]),
        (["--sort", "epochs", "--data", "fer"], ["fer/man-1"]),
        (["--network", "nobody"], []),
    ],
)  # fmt: skip
def test_filters_and_order(space, words, found):
    assert names(space, *words) == found


def test_unknown_dataset_is_named(space):
    told = tell("runs", "--data", "rafd", space=space, ok=False)
    assert (told["code"], told["hint"]) == (3, "did you mean 'raf'?")


def test_options_before_a_subcommand_are_refused(space):
    done = CliRunner().invoke(cli.app, ["runs", "--workspace", str(space), "rm", "ran-1", "--yes"])
    assert done.exit_code == 2
    assert "hint: write: fertool runs rm ... --workspace" in done.stderr
    assert (space / "raf/runs/ran-1/run.h5").exists()


def test_damaged_newer_foreign_and_empty_runs_are_listed_with_their_reason(space):
    whole = (space / "raf/runs/ran-1/run.h5").read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"no run"), ("none", b"")):
        (space / "raf/runs" / name).mkdir()
        (space / "raf/runs" / name / "run.h5").write_bytes(content)
    (space / "raf/runs/begun").mkdir()
    (space / "raf/runs/begun/run.h5.partial").touch()
    (space / "raf/runs/mapped").mkdir()
    artefact.save(
        space / "raf/runs/mapped/run.h5", "regions", {"id": np.array(["a"]), "boxes": np.zeros((1, 1, 4))}, params={}
    )

    newer = write_run(space / "raf/runs/newer").path
    with h5py.File(newer, "r+") as h5:
        h5.attrs["fertool_schema"] = 99
    odd = write_run(space / "raf/runs/odd").path
    with h5py.File(odd, "r+") as h5:
        h5.attrs["params"] = json.dumps({"model": {"name": "ran"}})
    facts = {r["name"]: r for r in tell("runs", space=space)["runs"]}
    assert len(facts) == 5 + 7
    reasons = {name: facts[f"raf/{name}"]["problem"] for name in ("cut", "text", "none", "mapped", "newer", "odd")}
    assert all(reasons.values()), reasons
    assert all(facts[f"raf/{name}"]["state"] == "unreadable" for name in reasons)
    assert "schema 99" in reasons["newer"]
    assert "regions" in reasons["mapped"]
    assert "train" in reasons["odd"]
    assert facts["raf/begun"]["state"] == "empty"
    assert "before anything was saved" in facts["raf/begun"]["problem"]
    said = CliRunner().invoke(cli.app, ["runs", "--workspace", str(space)]).stderr
    assert f"raf/newer: {reasons['newer']}" in said
    removed = tell("runs", "rm", "cut", "raf/begun", "newer", "--yes", space=space)["removed"]
    assert removed == ["raf/cut", "raf/begun", "raf/newer"], "what cannot be read can be removed"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, who may not read, which only root may")
def test_runs_that_may_not_be_read_are_listed():
    program = (
        "import json, os, sys; from fertool.stages.runs import listing; from fertool.workspace import Workspace; "
        "listing.entries(Workspace(sys.argv[1])); os.setuid(65534); "  # Python may be root's alone
        "print(json.dumps(listing.entries(Workspace(sys.argv[2]))))"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others again and again
        space = Path(folder)
        space.chmod(0o755)
        for name in ("mine/raf/runs/ran-1", "all/raf/runs/file", "all/raf/runs/folder", "all/raf/runs/open"):
            write_run(space / name)
        (space / "all/raf/runs/file/run.h5").chmod(0o600)
        (space / "all/raf/runs/folder").chmod(0o700)
        words = [sys.executable, "-c", program, str(space / "mine"), str(space / "all")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts = {r["name"]: r for r in json.loads(done.stdout)}
    assert len(facts) == 3
    for name in ("raf/file", "raf/folder"):
        assert (facts[name]["state"], "Permission denied" in facts[name]["problem"]) == ("unreadable", True)
    assert facts["raf/open"]["problem"] is None


def test_run_in_training_says_so_and_cannot_be_removed_or_renamed(space):
    folder = space / "raf/runs/ran-2"
    begun = space / "raf/runs/ran-3"
    begun.mkdir()
    for busy in (folder, begun):
        with subprocess.Popen(
            [sys.executable, "-c", LOCKED, str(busy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout.readline() == "locked\n"
            (run,) = (r for r in tell("runs", space=space)["runs"] if r["path"] == str(busy))
            assert run["state"] == "training"
            for words in (["rm", f"raf/{busy.name}"], ["mv", busy.name, "other"]):
                told = tell("runs", *words, "--yes", space=space, ok=False)
                assert told["error"] == f"raf/{busy.name} is in use: it is being trained or evaluated"
            other.stdin.close()
    assert run["problem"] == "nothing is saved yet"
    assert folder.is_dir()


def test_accuracy_of_predictions_on_the_test_split(tmp_path):
    """By the real commands: the number of eval, without opening an array, and not once the run has changed."""
    toy.write_all(tmp_path / "toy")
    words = ["ran", "--gpus", 0, "--epochs", 1, "--batch", 16, *TINY]
    tell("train", *words, space=tmp_path)
    (before,) = tell("runs", space=tmp_path)["runs"]
    history = artefact.read(tmp_path / "toy/runs/ran-1/run.h5", "run").group("history")
    assert before["accuracy"] == history["val_accuracy"][-1]
    assert (before["split"], before["role"], before["faces"], before["metric"]) == ("test", "test", None, "accuracy")
    scored = tell("eval", "--gpus", 0, space=tmp_path)["runs"]["ran-1"]["subsets"]["all"]
    (after,) = tell("runs", space=tmp_path)["runs"]
    assert (after["accuracy"], after["faces"]) == (scored["accuracy"], scored["n_total"])
    assert (after["epochs"], after["epochs_planned"], after["finished"]) == (1, 1, True)
    table = fertool.runs(workspace=tmp_path)
    assert table.loc[0, "name"] == "toy/ran-1"
    assert table.loc[0, "accuracy"] == scored["accuracy"]
    assert fertool.runs(sweep="none", workspace=tmp_path).empty
    write_run(tmp_path / "toy/runs/ran-1", accuracy=0.25)
    (again,) = tell("runs", space=tmp_path)["runs"]
    assert (again["accuracy"], again["split"]) == (0.25, "val"), "predictions of what the run was before"


def test_runs_without_a_summary_are_read_whole(tmp_path):
    """As runs were written before they kept one."""
    toy.write_all(tmp_path / "toy")
    run = toy.train_toy(artefact.read(tmp_path / "toy/faces.h5"))
    info = {k: v for k, v in run.info.items() if k != "summary"}
    arrays = {name: np.array(run[name]) for name in run.stored}
    old = {"params": run.params, "inputs": run.inputs, "classes": run.classes, "info": info}
    new = tell("runs", space=tmp_path)["runs"]
    artefact.save(run.path, "run", arrays, **old)
    assert tell("runs", space=tmp_path)["runs"] == [new[0] | {"bytes": run.path.stat().st_size}]


def test_unchanged_runs_are_not_opened_again(space, monkeypatch):
    first = tell("runs", space=space)["runs"]
    with monkeypatch.context() as patch:
        patch.setattr(artefact, "peek", lambda *_: pytest.fail("a file was opened"))
        assert tell("runs", space=space)["runs"] == first
    write_run(space / "raf/runs/ran-1", accuracy=0.8)
    assert {r["name"]: r["accuracy"] for r in tell("runs", space=space)["runs"]}["raf/ran-1"] == 0.8
    (space / ".runs.json").write_text('{"format": 3}')
    assert len(tell("runs", space=space)["runs"]) == 5


def test_remove_says_what_depends_on_a_run(space, monkeypatch):
    monkeypatch.chdir(space)
    ran = artefact.read(space / "raf/runs/ran-1/run.h5", "run")
    write_run(space / "fer/runs/tuned", parents=[ran.as_parent("init")])
    write_run(space / "fer/runs/whole", parents=[ran.as_parent("pretrained_part")])
    for path, kind in (("raf/runs/ran-1/figures", "curves"), ("raf/figures", "curves"), ("raf/sweeps/rate", "sweep")):
        params, inputs = {"figures": {kind: {}}}, [ran.as_parent(f"{kind}/0")]
        artefact.save(space / path / "figures.h5", "figures", {f"{kind}/a": np.zeros(1)}, params=params, inputs=inputs)
    (space / "results").mkdir()
    board = {"blocks": [{"systems": [{"runs": [{"digest": ran.digest}]}]}]}
    (space / "results/board.json").write_text(json.dumps(board))
    (space / "raf/runs/ran-1/notes.txt").write_text("mine")
    asked = CliRunner().invoke(cli.app, ["runs", "rm", "ran-1", "--workspace", str(space)])
    assert asked.exit_code == 2
    assert "hint: add --yes" in asked.stderr
    assert "not written by fertool: notes.txt" in asked.stderr
    assert ran.path.exists()
    facts = tell("runs", "rm", "ran-1", "--yes", space=space)
    assert facts["removed"] == ["raf/ran-1"]
    assert set(facts["dependents"]["raf/ran-1"]) == {
        "fer/tuned, which starts from it",
        "fer/whole, which has it as its pretrained part",
        f"figures {space}/raf/figures/figures.h5",
        "sweep raf/rate",
        "board results",
    }
    assert not (space / "raf/runs/ran-1").exists()
    assert "raf/ran-1" not in names(space)


def test_rename_and_take_out_of_a_sweep(space):
    facts = tell("runs", "mv", "rate/ran-1", "raf/best", space=space)
    assert (facts["was"], facts["name"], facts["dependents"]) == ("raf/rate/ran-1", "raf/best", [])
    assert "raf/best" in names(space)
    assert "raf/rate/ran-1" not in names(space)
    assert not list(space.glob("raf/**/.*.lock"))
    tell("runs", "mv", "best", "raf/rate/better", space=space)
    assert (space / "raf/sweeps/rate/better/run.h5").exists()
    for old, new, code, said in (
        ("raf/ran-1", "ran-2", 3, "there is a run raf/ran-2 already"),
        ("raf/ran-1", "fer/ran-9", 2, "neither the dataset of raf/ran-1 nor one of its sweeps"),
        ("raf/ran-1", "a b", 2, "cannot be the name of a run"),
        ("raf/ran-1", "..", 2, "cannot be the name of a run"),
        ("rna-1", "x", 3, "there is no run 'rna-1'"),
    ):
        told = tell("runs", "mv", old, new, space=space, ok=False)
        assert (told["code"], said in told["error"]) == (code, True), told


def test_rename_of_a_run_that_others_name_has_to_be_agreed(space):
    ran = artefact.read(space / "raf/runs/ran-1/run.h5", "run")
    write_run(space / "fer/runs/tuned", parents=[ran.as_parent("init"), Parent("x", "weights", "w", "", "0")])
    told = tell("runs", "mv", "raf/ran-1", "first", space=space, ok=False)
    assert told["hint"] == "add --yes"
    facts = tell("runs", "mv", "raf/ran-1", "first", "--yes", space=space)
    assert facts["dependents"] == ["fer/tuned, which starts from it"]
    assert (space / "raf/runs/first/run.h5").exists()


def test_answer_on_the_terminal(space, monkeypatch):
    monkeypatch.setattr("fertool.cli.runs._is_terminal", lambda: True)
    words = ["runs", "rm", "ran-1", "--workspace", str(space)]
    assert CliRunner().invoke(cli.app, words, input="n\n").exit_code == 2
    assert (space / "raf/runs/ran-1").exists()
    done = CliRunner().invoke(cli.app, words, input="y\n")
    assert done.exit_code == 0
    assert "removed raf/ran-1" in done.stderr
    assert call("runs", "rm", "ran-1", space=space).exit_code == 3
    assert locks.is_free(space / "raf/runs/ran-1")
