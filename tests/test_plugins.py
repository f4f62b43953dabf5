"""Detectors, datasets and figures in files of the user's, in worker processes; networks whose source has changed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import toy
from commands import call, tell

import fertool
from fertool import artefact, plugins

DETECTOR = """
import numpy as np
from fertool.detectors.base import Detector, Faces

class Middle(Detector):
    name = "middle"

    def detect(self, images, boxes=()):
        for image in images:
            h, w = image.shape[:2]
            yield Faces(np.array([[w / 4, h / 4, 3 * w / 4, 3 * h / 4]]), np.array([1.0]))
"""

DATASET = """
from fertool.datasets.base import Dataset, Sample

class Own(Dataset):
    name = "own"
    classes = ("neutral", "happiness")

    @classmethod
    def matches(cls, root):
        return ""

    def scan(self):
        paths = sorted(self.root.glob("*.png"))
        return [Sample(p.name, p, label=self.classes[i % 2], split="test") for i, p in enumerate(paths)], []
"""

PAGE = Path(fertool.__file__).parent / "evaluation/README.md"
(FIGURE,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
FIGURE += """
def undecorated(runs, settings, subset):
    return None
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with plugins that nobody has named."""
    for name, code in (("mynet", toy.NETWORK), ("middle", DETECTOR), ("own", DATASET), ("mean", FIGURE)):
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    for variable in ("FERTOOL_PLUGINS", "FERTOOL_PLUGINS_MENTIONED"):
        monkeypatch.setenv(variable, "")
    return tmp_path


def test_every_built_in_plugin_is_found_by_its_name():
    for group in plugins.GROUPS:
        for name in plugins.names(group):
            assert plugins.resolve(group, name).object.name in (name, "")
    listed = plugins.built_in_figures()
    assert {name: plugins.resolve("figures", name).object.about for name in plugins.names("figures")} == listed
    assert len(listed) >= 15


def test_dataset_and_detector_of_files_work_in_worker_processes(folder, monkeypatch):
    import cv2
    import numpy as np

    (folder / "images").mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"images/{i}.png"), np.full((40, 40, 3), 80 * i, np.uint8))
    words = ("detect-align", "images", "--dataset", "own.py:Own", "--landmarks", "none", "--align", "none")
    tell(*words, "--detector", str(folder / "middle.py") + ":Middle", "--size", 16, "--workers", 2, space="ws")
    faces = artefact.read(folder / "ws/images/faces.h5", "faces")
    assert faces["bbox"][:].tolist() == [[10, 10, 30, 30]] * 3
    assert faces.params["detector"] == "middle.py:Middle", "without its folder"
    assert set(faces.params["plugins"]) == {"detector", "dataset"}
    assert len(set(np.asarray(faces["label"]))) == 2


def test_two_processes_train_a_network_of_a_file(folder):
    toy.write_faces(folder / "ws/toy")
    words = ("train", "mynet.py:MyNet", "--gpus", 0, "--cpu-processes", 2, "--epochs", 1, "--batch", 16)
    made = artefact.read(Path(tell(*words, space="ws")["run"]), "run")
    assert made.params["model"]["name"] == "mynet.py:MyNet"
    assert len(made.params["plugins"]["model"]) == 32
    assert made.path.parent.name == "my-net-1"


def test_python_api_takes_a_network_of_a_file(folder):
    toy.write_faces(folder / "ws/toy")
    run = fertool.train("mynet.py:MyNet", workspace="ws", gpus=0, epochs=1, global_batch=16)
    assert run.name == "my-net-1"


@pytest.mark.parametrize("fits", [True, False])
def test_changed_source_is_named_with_both_digests(folder, monkeypatch, fits):
    toy.write_faces(folder / "ws/toy")
    tell("train", "mynet.py:MyNet", "--gpus", 0, "--epochs", 1, "--batch", 16, space="ws")
    (folder / "later").mkdir()
    changed = (
        toy.NETWORK + "# later\n" if fits else toy.NETWORK.replace("nn.Flatten(), ", "nn.Flatten(), nn.Identity(), ")
    )
    (folder / "later/mynet.py").write_text(changed)
    monkeypatch.setenv("FERTOOL_PLUGINS_MENTIONED", "")
    monkeypatch.setenv("FERTOOL_PLUGINS", "later/mynet.py:MyNet")
    result = call("eval", "--gpus", 0, space="ws")
    assert result.exit_code == (0 if fits else 3), result.output
    if fits:
        run = folder / "ws/toy/runs/my-net-1"
        stored = [artefact.read(run / f"{kind}.h5").params["plugins"] for kind in ("run", "predictions")]
        assert stored[0] != stored[1]
    else:
        assert "the source of mynet.py:MyNet has changed since my-net-1 was made (was" in result.output


def test_paths_in_the_environment_may_hold_commas(folder, monkeypatch):
    monkeypatch.setenv("FERTOOL_PLUGINS", "a,b/mynet.py:MyNet, pkg.mod:Net,/c/other.py:Net")
    assert list(plugins.sources.listed()) == ["mynet.py:MyNet", "pkg.mod:Net", "other.py:Net"]


def test_figure_of_a_file_is_drawn_of_faces_and_keeps_its_digest(folder):
    faces = toy.write_faces(folder / "ws/toy")
    picture, arrays = tell("visualize", "mean.py:draw_brightness", "--dpi", 40, space="ws")["files"]
    assert Path(picture).name == "brightness.png"
    assert Path(picture).stat().st_size > 1000
    kept = artefact.read(Path(arrays), "figures")
    assert kept.group("brightness")["mean"].shape == (faces.rows,)
    about = kept.params["figures"]["brightness"]
    assert about["kind"] == "mean.py:draw_brightness", "without its folder"
    assert len(about["plugins"]["kind"]) == 32


def test_python_api_draws_a_figure_of_a_file(folder):
    run = toy.train_toy(toy.write_all(folder / "ws/toy"), epochs=1).path.parent
    picture, _ = fertool.visualize("mean.py:draw_brightness", run, dpi=40)
    assert picture == run / "figures/brightness.png"


def test_figure_of_an_installed_package_is_drawn_by_its_name(folder):
    toy.write_faces(folder / "ws/toy")
    (folder / "mean-1.0.dist-info").mkdir()
    (folder / "mean-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mean\nVersion: 1.0\n")
    (folder / "mean-1.0.dist-info/entry_points.txt").write_text(
        "[fertool.figures]\nhow-bright = mean:draw_brightness\n"
    )
    words = (sys.executable, "-m", "fertool", "visualize", "how-bright", "--workspace", "ws", "--dpi", "40")
    path = os.pathsep.join([str(folder), str(Path(fertool.__file__).parents[1])])
    subprocess.run(words, check=True, env=os.environ | {"PYTHONPATH": path})
    assert (folder / "ws/toy/figures/brightness.png").exists()


@pytest.mark.parametrize(
    ("reference", "error", "hint"),
    [
        ("mean.py:undecorated", "mean.py:undecorated is no figure", "fertool.figures.figure"),
        ("mean.py:draw_brighness", "mean.py defines no draw_brighness", "draw_brightness"),
        ("mynet.py:MyNet", "mynet.py:MyNet is no figure", "fertool.figures.figure"),
        ("confussion", "there is no figure 'confussion'", "confusion"),
    ],
)
def test_what_is_no_figure_is_refused(folder, reference, error, hint):
    told = tell("visualize", reference, space="ws", ok=False)
    assert error in told["error"]
    assert hint in told["hint"]
