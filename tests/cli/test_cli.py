"""The command line: quick help, one JSON object, errors in two lines with the right exit code, options that arrive."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import layouts
import numpy as np
import pytest
import toy
import typer
from typer.testing import CliRunner

from fertool import __version__, artefact, cli, console, recipe
from fertool.cli import command as commands_of_cli
from fertool.cli import options
from fertool.errors import DataError
from fertool.settings import STAGES
from fertool.stages import doctor
from fertool.workspace import Workspace

COMMANDS = {
    "detect-align", "fit-sdm", "make-masks", "crop-regions", "build-subsets", "train", "eval", "sweep", "combine",
    "run", "demo", "visualize", "report", "predict", "export", "suggest-occlusion", "render", "inspect", "datasets",
    "models", "papers", "recipes", "doctor", "adopt", "board", "runs",
}  # fmt: skip
HEAVY = ("torch", "torchvision", "lightning", "cv2", "dlib", "matplotlib", "facenet_pytorch", "pandas", "trimesh")


@pytest.fixture(autouse=True)
def wide_console(monkeypatch):
    """Tables as wide as they are."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A workspace with one dataset, toy."""
    folder = tmp_path_factory.mktemp("space")
    toy.write_all(folder / "toy")
    return folder


def call(*arguments, space=None):
    words = [*map(str, arguments), *(["--workspace", str(space)] if space else [])]
    return CliRunner().invoke(cli.app, words)


def real(*arguments, **environment: str) -> subprocess.CompletedProcess:
    """The command as a user runs it."""
    command = [sys.executable, "-m", "fertool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def leaves() -> dict[str, list[str]]:
    """Every command and subcommand, by name."""
    names = {c.name: [c.name] for c in cli.app.registered_commands}
    for group in cli.app.registered_groups:
        names[group.name] = [group.name]
        names |= {f"{group.name} {c.name}": [group.name, c.name] for c in group.typer_instance.registered_commands}
    return names


# ------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("words", ["--help", "train --help", "recipes", "recipes nope", "inspect {file}"])
def test_what_needs_no_network_loads_none(space, words):
    program = f"""
import sys
from fertool.cli import main
sys.argv = ["fertool", *{words.format(file=space / "toy/faces.h5").split()!r}]
try:
    main()
except SystemExit:
    print([m for m in {HEAVY} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_help_of_everything():
    assert {name.split()[0] for name in leaves()} == COMMANDS
    whole = call("--help").output
    for name in COMMANDS:
        assert re.search(rf"^  {name}  +\S", whole, re.M), f"{name} has no line in the help"
    for words in leaves().values():
        shown = call(*words, "--help")
        assert shown.exit_code == 0
        assert "--json" in shown.output, words


def test_every_argument_and_option_says_what_it_is():
    todo, seen = [("fertool", typer.main.get_command(cli.app))], 0
    while todo:
        name, command = todo.pop()
        todo += [(f"{name} {n}", c) for n, c in getattr(command, "commands", {}).items()]
        for parameter in command.params:
            assert parameter.help, f"{name}: {parameter.opts[0]} has no help"
            seen += 1
    assert seen > 150


def test_no_arguments_is_help(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fertool"])
    with pytest.raises(SystemExit) as e:
        cli.main()
    assert e.value.code == 0
    assert "detect-align" in capsys.readouterr().out


def test_version():
    assert call("--version").output == f"fertool {__version__}\n"


def test_options_are_made_from_settings():
    for cls in STAGES.values():
        made = options.flags_of(cls, [f.name for f in fields(cls) if f.name not in ("model", "pose_thresholds", "box")])
        for field, annotation in made.values():
            assert type(None) in annotation.__args__[0].__args__, f"{field} is None if it is not given"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("train", "initial learning rate (default: 0.01)"),
        ("train", "(default: off)"),
        ("crop-regions", "<fixed|random|landmark|patches>"),
        ("visualize", "repeatable (default: png)"),
        ("eval", "(default: the latest)"),
    ],
)
def test_help_shows_defaults_and_choices(command, shown):
    assert shown in " ".join(call(command, "--help").output.split())


def test_help_lists_every_command_in_a_panel():
    text = call("--help").output
    for panel in ("Prepare data:", "Train and evaluate:", "Use results:", "Tools:"):
        assert panel in text
    assert "\nCommands:" not in text


def _completions(line: str, cwd: Path) -> list[str]:
    """Return what bash would offer at the end of a line."""
    environment = os.environ | {
        "_FERTOOL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1),
    }  # fmt: skip
    program = "import sys; sys.argv[0] = 'fertool'; from fertool.cli import main; main(); "
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fertool tra", "train"),
        ("fertool train ran-fer", "ran-ferplus"),
        ("fertool models ws", "ws-lgrn"),
        ("fertool recipes man-raf", "man-rafdb"),
        ("fertool papers va", "va-cnn"),
        ("fertool visualize conf", "confusion"),
        ("fertool datasets check fer", "ferplus"),
        ("fertool train ran --set train.lr_m", "train.lr_milestones="),
        ("fertool eval --data to", "toy"),
        ("fertool eval --run ran", "ran-1"),
        ("fertool eval --run toy/r", "toy/ran-1"),
        ("fertool eval --run lr/", "lr/ran-2"),
        ("fertool eval --run toy/l", "toy/lr/ran-2"),
    ],
)
def test_shell_completion_offers_names(line, offered, tmp_path):
    for name in ("toy/faces.h5", "toy/runs/ran-1/run.h5", "toy/sweeps/lr/ran-2/run.h5"):
        (tmp_path / "artefacts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "artefacts" / name).touch()
    assert offered in _completions(line, tmp_path)


def test_malformed_settings_are_told_how_they_are_given():
    done = real("train", "ran", "lr=0.1")
    assert (done.returncode, done.stderr.splitlines()[1]) == (2, "hint: settings are given as: --set train.lr=0.1")


# ------------------------------------------------------------------------------------------------- errors


ERRORS = {
    2: [
        ("train", "rna"), ("visualize", "faecs", "--run", "{run}"), ("eval", "--run", "{run}", "--fuse"),
    ],
    3: [
        ("train", "ran", "--data", "nope"), ("eval", "--run", "nope"), ("inspect", "/nowhere.h5"),
        ("inspect", "{text}"), ("make-masks", "--data", "{text}"), ("detect-align", "/nowhere"),
    ],
    4: [
        ("train", "ran", "--set", "train.lrr=1"), ("train", "ran", "--recipe", "nope"), ("recipes", "ran-ferpls"),
        ("models", "rna"), ("train", "ran", "--variant", "bseline"), ("run", "ran-ferpls", "."),
        ("crop-regions", "--set", "nonsense"),
    ],
    5: [("train", "ran", "--gpus", "99"), ("train", "ran", "--init", "/nowhere.pth", "--set", "train.model.size=24")],
}  # fmt: skip


@pytest.fixture(scope="module")
def run(space):
    return toy.train_toy(artefact.read(space / "toy/faces.h5"), epochs=0.4).path.parent


@pytest.mark.parametrize(("code", "words"), [(c, w) for c, cases in ERRORS.items() for w in cases])
def test_errors_are_two_lines_and_a_code(space, run, tmp_path, code, words):
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    words = [w.format(run=run, text=text) for w in words]
    where = space if words[0] in ("train", "eval", "visualize", "make-masks", "crop-regions") else None
    result = call(*words, "--quiet", space=where)
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert [line.split(":")[0] for line in lines] in (["error", "hint"], ["error"]), result.stderr

    told = call(*words, "--json", space=where)
    assert told.exit_code == code
    facts = json.loads(told.stdout)
    assert facts["ok"] is False
    assert facts["code"] == code
    assert told.stderr.splitlines()[0] == f"error: {facts['error']}"
    assert facts["hint"] is None or told.stderr.splitlines()[1] == f"hint: {facts['hint']}"


def test_several_data_sets(tmp_path):
    for name in ("a", "b"):
        toy.write_faces(tmp_path / name)
    result = call("crop-regions", space=tmp_path)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"error: {tmp_path} holds several datasets: a, b",
        "hint: name one with --data NAME",
    ]


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        (["train"], "Missing argument 'model'", "train --help"),
        (["trian"], "No such command 'trian'. Did you mean 'train'?", "--help"),
        (["train", "ran", "--epochs", "x"], "Invalid value for '--epochs'", "train --help"),
        (["train", "ran", "--epoch", "3"], "No such option", "train --help"),
    ],
)
def test_a_command_line_that_cannot_be_meant(monkeypatch, capsys, words, says, hint):
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["fertool", *words, *more])
        with pytest.raises(SystemExit) as e:
            cli.main()
        assert e.value.code == 2
        out, err = capsys.readouterr()
        assert says in err.splitlines()[0]
        assert err.splitlines()[1].startswith("hint: see: ")
        assert err.splitlines()[1].endswith(hint)
        assert len(err.splitlines()) == 2
        assert bool(out) == bool(more)
        assert not more or json.loads(out)["code"] == 2


def test_debug_shows_where(space):
    result = call("recipes", "nope", "--debug")
    assert result.exit_code == 4
    assert "Traceback" in result.stderr
    assert "recipe.py" in result.stderr
    assert result.stderr.splitlines()[-2].startswith("error: there is no recipe 'nope'")
    assert "Traceback" not in call("recipes", "nope").stderr


@pytest.mark.parametrize(
    ("raised", "code", "lines"),
    [
        (ZeroDivisionError("a\nb"), 1, ["error: ZeroDivisionError: a b", "hint: this is a bug; --debug shows where"]),
        (KeyboardInterrupt(), 130, ["error: stopped"]),
        (PermissionError(13, "Permission denied", "/x y"), 3, ["error: /x y: Permission denied"]),
        (DataError("no data", "get some"), 3, ["error: no data", "hint: get some"]),
    ],
)  # fmt: skip
def test_whatever_a_command_raises(raised, code, lines):
    other = typer.Typer()

    @commands_of_cli.command("work", "", to=other)
    def work():
        """Fail."""
        raise raised

    result = CliRunner().invoke(other, [])
    assert (result.exit_code, result.stderr.splitlines()) == (code, lines)


def test_the_real_command_fails_as_told(space):
    done = real("crop-regions", "--data", "nope", FERTOOL_WORKSPACE=str(space))
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.splitlines() == [f"error: there are no faces of 'nope' in {space}", "hint: known: toy"]


# ------------------------------------------------------------------------------------- what commands give back


def test_train_from_the_command_line(space):
    words = [
        "train", "ran", "--epochs", 0.4, "--batch", 12, "--lr", 0.03, "--seed", 5, "--oversample", "--gpus", 0,
        "--set", "train.model.backbone=tiny", "--set", "train.model.size=24", "--variant", "self",
    ]  # fmt: skip
    result = call(*words, "--json", space=space)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    facts = json.loads(result.stdout)
    assert facts["ok"] is True
    assert facts["iterations"] == 2
    run = artefact.read(facts["run"], "run")
    assert run.path == space / "toy/runs/ran-self-1/run.h5"
    train = run.params["train"]
    assert [train[k] for k in ("epochs", "global_batch", "lr", "seed", "oversample")] == [0.4, 12, 0.03, 5, True]
    assert (run.params["model"]["backbone"], run.params["model"]["size"], run.params["variant"]) == ("tiny", 24, "self")
    assert train["weight_decay"] == recipe.Recipe().settings("train").weight_decay

    again = call(*words, space=space)
    assert again.exit_code == 0
    assert again.stdout == ""
    assert "no recipe for ran on these faces" in again.stderr
    assert "ran-self-1 is up to date" in again.stderr
    assert call(*words, "--quiet", space=space).output == ""


def test_the_recipe_of_network_and_data_set_is_taken(tmp_path):
    faces = toy.write_all(tmp_path / "fer")
    columns = {name: faces[name] for name in faces.columns}
    artefact.save(faces.path, "faces", columns, params={"dataset": "ferplus"}, classes=faces.classes)
    toy.write_regions(artefact.read(faces.path))
    result = call("train", "ran", "--set", "train.train_splits=[nobody]", space=tmp_path)
    assert result.exit_code == 3
    assert result.stderr.splitlines()[0] == "recipe ran-ferplus"
    assert "no labelled faces" in result.stderr


def test_two_recipes_are_one_too_many(space):
    result = call("train", "ran-ferplus", "--recipe", "ran-rafdb", space=space)
    assert result.exit_code == 2
    assert "two recipes: ran-ferplus and ran-rafdb" in result.stderr


def test_a_network_with_a_users_recipe(space, tmp_path):
    (tmp_path / "mine.yaml").write_text("train: {epochs: 0.4, model: {backbone: tiny, size: 24}}")
    result = call("train", "ran", "--recipe", tmp_path / "mine.yaml", "--gpus", 0, "--json", space=space)
    assert result.exit_code == 0, result.stderr
    run = artefact.read(json.loads(result.stdout)["run"])
    assert run.params["recipe"] == "mine"
    assert (run.params["model"]["name"], run.params["model"]["backbone"]) == ("ran", "tiny")


def test_recipes():
    shown = call("recipes", "ran-ferplus")
    assert shown.stdout == recipe.load("ran-ferplus").text
    assert json.loads(call("recipes", "ran-ferplus", "--json").stdout)["text"] == shown.stdout
    listed = call("recipes")
    assert listed.stdout == ""
    for name in recipe.names():
        assert f"{name}  " in listed.stderr
    assert json.loads(call("recipes", "--json").stdout)["recipes"].keys() == set(recipe.names())


def test_models():
    facts = json.loads(call("models", "--json").stdout)["models"]
    counts = {m["network"]: m["parameters"] for m in facts}
    assert counts["RAN, ResNet-18"] == 11_186_248
    assert counts["RAN, ResNet-18, with attention biases"] == 11_185_225
    assert "11,186,248" in call("models").stderr
    ran = call("models", "ran").stderr
    for word in ("rank_margin = 0.02", "none | softmax", "baseline", "region-5"):
        assert word in ran


def test_datasets():
    facts = json.loads(call("datasets", "--json").stdout)
    assert {"ferplus", "fer2013", "rafdb", "folder", "csv", "rendered"} <= facts.keys()
    assert "28" in call("datasets").stderr


def test_the_check_of_a_data_set_fits_into_80_columns(tmp_path, monkeypatch):
    root = layouts.write_ferplus(tmp_path / "ferplus")
    monkeypatch.setenv("COLUMNS", "80")
    facts = json.loads(call("datasets", "check", "auto", root, "--json").stdout)
    lines = call("datasets", "check", "auto", root).stderr.splitlines()
    table = lines[lines.index("Counts") + 1 :]
    assert table[0].split() == list(facts["splits"]) == ["train", "val", "test"]
    rows = {line.split()[0]: line.split()[-3:] for line in table[1 : 4 + len(facts["classes"])]}
    assert rows["samples"] == [str(s["samples"]) for s in facts["splits"].values()]
    assert rows["complete"] == ["28,558", "3,579", "3,573"]
    for name in facts["classes"]:
        assert rows[name] == [str(s["classes"][name]) for s in facts["splits"].values()]


# ------------------------------------------------------------------------------------------------- inspect


def test_inspect(space):
    facts = json.loads(call("inspect", space / "toy/faces.h5", "--json").stdout)
    faces = artefact.read(space / "toy/faces.h5")
    assert (facts["kind"], facts["rows"], facts["complete"], facts["digest"]) == ("faces", 72, True, faces.digest)
    assert facts["status"] == {"ok": 72}
    assert facts["splits"] == {"train": 48, "test": 24}
    assert facts["labels"] == {"neutral": 24, "anger": 24, "fear": 24, "none": 0}
    assert facts["arrays"]["images"] == {"dtype": "uint8", "shape": [72, 32, 32, 1]}
    said = call("inspect", space / "toy/faces.h5").stderr
    for words in (
        "faces (schema 1), complete, 72 rows",
        "splits: train 48, test 24",
        "images",
        "72×32×32×1",
        "dataset",
    ):
        assert words in said
    regions = call("inspect", space / "toy/regions.h5").stderr
    assert f"from faces: toy/faces.h5 (faces, digest {faces.digest})" in regions


def test_inspect_an_unfinished_file(tmp_path):
    artefact.begin(
        tmp_path / "faces.h5",
        "faces",
        columns={"images": artefact.Column("u1", (4, 4, 1))},
        known={"id": ["a", "b"], "label": np.zeros(2, "i2"), "split": ["", "test"]},
        params={},
        classes=("happiness",),
    ).close()
    said = call("inspect", tmp_path / "faces.h5.partial").stderr
    assert "unfinished, 2 rows" in said
    assert "status: pending 2" in said
    assert "splits: (none) 1, test 1" in said


def test_names_from_data_are_printed_as_they_are(tmp_path):
    file = tmp_path / "[red]ä,[/red] 1.h5"
    params = {"[bold]": "[/bold]"}
    artefact.save(file, "subsets", {"id": np.array(["a"]), "[x]": np.array([True])}, params=params)
    said = call("inspect", file).stderr
    for words in (str(file), "[bold]", '"[/bold]"', "[x]"):
        assert words in said


# ------------------------------------------------------------------------------------------- console, doctor


def test_json_is_valid_whatever_the_numbers(capsys):
    console.configure(json_output=True)
    console.emit({"a": float("nan"), "b": np.array([1.5, np.inf]), "c": np.int64(3), "d": {4: (np.bool_(True), None)}})
    assert json.loads(capsys.readouterr().out) == {
        "schema": 2, "ok": True, "a": None, "b": [1.5, None], "c": 3, "d": {"4": [True, None]},
    }  # fmt: skip


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_only_the_first_of_several_processes_speaks(capsys, monkeypatch, variable):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "2")
    monkeypatch.setenv(variable, "1")
    console.configure()
    console.say("hello")
    console.configure(json_output=True)
    console.emit({"a": 1})
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv(variable, "0")
    console.emit({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"schema": 2, "ok": True, "a": 1}


def test_doctor(tmp_path, space):
    facts = json.loads(call("doctor", "--json", space=space).stdout)
    assert facts["fertool"] == __version__
    assert facts["versions"]["torch"]
    assert facts["workspace"]["data_sets"] == ["toy"]
    assert facts["workspace"]["writable"] is True
    assert {"what", "get", "needed"} >= {k for item in facts["missing"] for k in item}
    (tmp_path / "file").touch()
    broken = doctor.summary(Workspace("/proc/self/task/artefacts"))
    assert broken["workspace"]["free_gb"] >= 0
    said = call("doctor", space=space).stderr
    for words in (f"fertool {__version__}", "torch", "datasets: toy", "dlib 68 landmarks"):
        assert words in said


def test_doctor_breaks_no_path(space, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    files = json.loads(call("doctor", "--json", space=space).stdout)["models"].values()
    lines = call("doctor", space=space).stderr.splitlines()
    assert all(any(line.endswith(file) for line in lines) for file in files)


def test_papers_without_a_name_are_listed(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = CliRunner().invoke(cli.app, ["papers"]).stderr.splitlines()
    assert len(lines) < 30
    assert {"ran", "lnlattennet", "ws-lgrn", "va-cnn", "man"} <= {line.split(" ")[0] for line in lines}
    assert "fertool papers NAME" in lines[-1]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("faces.csv", "fertool datasets check"),
        ("ran.onnx", "fertool predict --run"),
        ("ran.pth", "--init"),
        ("a.txt", ".h5"),
    ],
)
def test_inspect_names_the_command_for_files_that_are_no_artefacts(tmp_path, name, command):
    (tmp_path / name).write_text("path,label\na.png,happiness\n")
    result = CliRunner().invoke(cli.app, ["inspect", str(tmp_path / name)])
    assert result.exit_code == 3
    assert "is no HDF5 file" in result.stderr
    assert command in result.stderr
    assert "damaged" not in result.stderr
