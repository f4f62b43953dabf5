"""Rendered faces that tests share: pictures and the faces file made from them, once per test run."""

import os
from pathlib import Path

import pytest

from fertool import console, pool
from fertool.settings import DetectAlign

# tests run side by side: one thread for each, or they would wait for one another
_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, pool.cores() // _processes)))


# tests write videos with OpenCV before fertool does, and FFmpeg's level is read once in a process
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

#: files and folders whose tests train, render or start processes; the longest first, so that no process ends alone
_SLOW = (
    "test_examples.py", "test_on_a_gpu.py", "stages", "test_executors.py", "rendering", "training", "figures", "models",
    "occlusion", "faces", "test_memory.py", "test_outputs.py", "test_systems.py", "test_api.py",
    "artefact/test_integrity.py", "cli/test_cli.py", "cli/test_hints.py", "cli/test_streams.py",
    "datasets/test_datasets_rendered.py", "evaluation/test_paper_results.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, and let them begin first."""
    root = Path(__file__).parent
    places = {root / name: place for place, name in enumerate(_SLOW)}

    def place(item: pytest.Item) -> int:
        return next((places[p] for p in (item.path, *item.path.parents) if p in places), len(_SLOW))

    for item in items:
        if place(item) < len(_SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=place)


@pytest.fixture(autouse=True)
def _talkative():
    """A command run inside a test's own process may have silenced the console."""
    console.configure()


def _once(tmp_path_factory, name: str, make):
    """A folder made once, whatever number of test processes there are."""
    import fcntl

    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    folder = common / name
    with open(common / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make(folder)
    return folder


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A folder of 6 people, 14 rendered pictures of each, at 128 pixels: the dataset `rendered`."""
    from fertool.stages import render

    return _once(tmp_path_factory, "rendered", lambda folder: render.run(folder, people=6, per_person=14, size=128))


@pytest.fixture(scope="session")
def faces_h5(rendered, tmp_path_factory):
    """The faces file of `rendered`: 84 faces of 64 pixels with 68 landmarks and pose."""
    from fertool.datasets import open_dataset
    from fertool.stages import detect_align

    settings = DetectAlign(detector="dlib-hog", size=64)

    def make(folder):
        detect_align.run(open_dataset(rendered), settings=settings, out=folder / "faces.h5")

    return _once(tmp_path_factory, "faces", make) / "faces.h5"
