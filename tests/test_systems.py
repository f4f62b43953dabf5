"""Other systems than Linux, as far as they can be imitated on it; see tests/foreign/sitecustomize.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

from fertool import artefact

ROOT = Path(__file__).parents[1]

IMPORT_ALL = """
import importlib, pkgutil, fertool
for module in pkgutil.walk_packages(fertool.__path__, "fertool."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import os, signal
assert not hasattr(os, "fork") and not hasattr(os, "pread") and not hasattr(signal, "pthread_sigmask")
"""


COMMANDS = """
import json, sys
from fertool import cli, streams
streams.prepare()
for words in json.loads(sys.argv[1]):
    print(cli.app(words, standalone_mode=False))
    sys.stdout.flush()
"""


def foreign(program: str, *words: str, at: Path) -> str:
    """Run a program on a system that is imitated, where texts are not in UTF-8; return what it prints."""
    system = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "USER": "x"}
    path = os.pathsep.join([str(ROOT / "tests/foreign"), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONWARNDEFAULTENCODING": "1", "OMP_NUM_THREADS": "1", **system}
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=at, env=env, capture_output=True, check=False)
    told = (done.stdout + done.stderr).decode("cp1252")
    assert done.returncode == 0, told
    assert "Traceback" not in told
    return told


def test_every_module_can_be_imported(tmp_path):
    foreign(IMPORT_ALL, at=tmp_path)


def test_a_whole_experiment(tmp_path, rendered):
    small = ["detect-align", str(rendered), "--detector", "dlib-hog", "--size", "32", "--workers", "2"]
    network = ("model.backbone=tiny", "model.size=24", "epochs=1", "global_batch=16")
    small_network = [word for setting in network for word in ("--set", f"train.{setting}")]
    commands = [
        [*small, "--limit", "28"],
        ["crop-regions"],
        ["train", "ran", "--recipe", "ran-rendered", "--cpu-processes", "2", *small_network],
        ["eval"],
        ["predict", str(rendered / "images" / "p000"), "--out", "told", "--draw"],
        ["report"],
    ]
    told = foreign(COMMANDS, json.dumps(commands), at=tmp_path)
    run = tmp_path / "artefacts/rendered/runs/ran-1"
    assert "28 images of rendered, faces 32 × 32" in told
    assert "2 × cpu" in told
    assert "\\u2192 artefacts/rendered/runs/ran-1" in told  # an arrow that the encoding lacks
    assert {p.name for p in run.glob("[!.]*")} == {"run.h5", "predictions.h5", "report.html"}
    assert (tmp_path / "told/predictions.csv").read_text(encoding="utf-8").count(".png,") >= 14
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".tmp", ".partial")]
    assert artefact.read(run / "run.h5").digest
