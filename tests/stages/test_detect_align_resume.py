"""detect-align stopped, failing and run again: the same faces as without, or an error and rows still pending."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fertool import artefact
from fertool.datasets import open_dataset
from fertool.datasets.folder import Folder
from fertool.errors import ArtefactError, DataError, OutOfMemoryError
from fertool.faces.images import UnreadableImage, read_image
from fertool.faces.status import OK, PENDING, UNREADABLE
from fertool.settings import DetectAlign
from fertool.stages import detect_align

FERTOOL = (sys.executable, "-m", "fertool")
PLAIN = {"detector": "none", "landmarks": "none", "align": "none", "pose": "landmarks", "size": 24}
ROWS = 20


@pytest.fixture(scope="module")
def photos(rendered, tmp_path_factory):
    """Twenty pictures of several people and poses, two of one size, two of another, and so on."""
    folder = tmp_path_factory.mktemp("photos")
    for i, source in enumerate(sorted(rendered.glob("images/*/*.png"))[: 4 * ROWS : 4]):
        with Image.open(source) as image:
            image.resize((90, 90) if i // 2 % 2 else (110, 96)).save(folder / f"{i:02d}.png")
    return folder


def align(data, out, *, dataset=None, workers=2, overwrite=False, **settings):
    dataset = dataset or open_dataset(data)
    settings = DetectAlign(**{**PLAIN, **settings})
    return artefact.read(
        detect_align.run(dataset, settings=settings, out=out, workers=workers, overwrite=overwrite), "faces"
    )


def unfinish(whole: artefact.Artefact, out: Path, pending) -> Path:
    """The file that a kill leaves behind: a complete one of which some rows were not written yet."""
    partial = artefact.partial_path(out)
    shutil.copy(whole.path, partial)
    with h5py.File(partial, "r+") as h5:
        h5.attrs.modify("complete", False)
        h5.attrs.modify("digest", " " * 32)
        for row in pending:
            h5["status"][row] = PENDING
            h5["images"][row] = 77
    return partial


# ------------------------------------------------------------------------------------------------------ bit for bit


#: workers, and the rows that are still to be made
IN_ORDER, EVERY_SECOND = (1, range(3, ROWS)), (2, range(0, ROWS, 2))


@pytest.mark.parametrize(
    ("settings", "ways"),
    [
        (
            {"detector": "mtcnn", "landmarks": "ert68", "align": "similarity", "pose": "learned"},
            (IN_ORDER, EVERY_SECOND),
        ),
        (
            {"detector": "dlib-cnn", "landmarks": "mtcnn5", "align": "affine", "pose": "learned", "upsample": 0},
            (EVERY_SECOND,),
        ),
    ],
    ids=["mtcnn", "dlib-cnn"],
)
def test_resumed_faces_are_those_of_an_uninterrupted_run(photos, tmp_path, settings, ways):
    """Detectors see pictures of one size together; boxes of one alone are others in their last bits."""
    whole = align(photos, tmp_path / "whole.h5", workers=2, **settings)
    assert (whole["status"] == OK).sum() > ROWS // 2
    for workers, pending in ways:
        out = tmp_path / f"{workers}.h5"
        unfinish(whole, out, pending)
        assert align(photos, out, workers=workers, **settings).digest == whole.digest


# ------------------------------------------------------------------------------------------------- passing failures


class FailingDisk(Folder):
    """A folder of which the seventh picture cannot be read as long as a file `failure` lies beside it."""

    def read(self, sample):
        failure = self.root.parent / "failure"
        if sample.id == "06.png" and failure.exists():
            number = int(failure.read_text())
            raise OSError(number, os.strerror(number), str(sample.path)) if number else MemoryError
        return super().read(sample)


def test_a_file_that_cannot_be_read_now_stops_and_stays_pending(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    out, dataset = tmp_path / "faces.h5", FailingDisk(tmp_path / "photos")
    for number in (errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOENT, errno.ENOMEM, 0):
        (tmp_path / "failure").write_text(str(number))
        with pytest.raises(OutOfMemoryError if number in (errno.ENOMEM, 0) else DataError) as caught:
            align(None, out, dataset=dataset)
        assert caught.value.exit_code == (5 if number in (errno.ENOMEM, 0) else 3)
        assert "the same command goes on" in caught.value.hint
        assert number in (errno.ENOMEM, 0) or "06.png" in caught.value.message
        status = artefact.read(artefact.partial_path(out), partial=True)["status"]
        assert status[6] == PENDING, number
        assert not (status == UNREADABLE).any(), number
    (tmp_path / "failure").unlink()
    assert (align(None, out, dataset=dataset)["status"] == OK).all()


def test_a_folder_moved_away_and_back(photos, tmp_path):
    folder, away, out = tmp_path / "photos", tmp_path / "away", tmp_path / "faces.h5"
    folder.mkdir()
    for i in range(150):
        shutil.copy(photos / f"{i % ROWS:02d}.png", folder / f"{i:03d}.png")
    options = [word for name, value in PLAIN.items() for word in (f"--{name}", str(value))]
    command = [
        *FERTOOL,
        "detect-align",
        str(folder),
        *options,
        "--detector",
        "dlib-hog",
        "--workers",
        "1",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    partial = artefact.partial_path(out)
    while not (partial.exists() and (artefact.read(partial, partial=True)["status"] != PENDING).any()):
        assert process.poll() is None
        time.sleep(0.01)
    folder.rename(away)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 3, said
    assert "cannot be read: No such file or directory" in said
    assert "Traceback" not in said
    status = np.asarray(artefact.read(partial, partial=True)["status"])
    assert not (status == UNREADABLE).any()
    assert 0 < (status == PENDING).sum() < 150
    away.rename(folder)
    subprocess.run(command, check=True, capture_output=True)
    assert (artefact.read(out)["status"] != UNREADABLE).all()


def test_a_file_that_a_table_lists_in_vain_is_a_row(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "list.csv").write_text("path,label\n00.png,happy\ngone.png,sad\n01.png,sad\n")
    faces = align(tmp_path / "photos" / "list.csv", tmp_path / "faces.h5")
    assert faces["status"].tolist() == [OK, UNREADABLE, OK]
    assert faces["problem"][1] == "no such file"
    assert align(tmp_path / "photos" / "list.csv", tmp_path / "faces.h5").uid == faces.uid
    shutil.copy(photos / "02.png", tmp_path / "photos" / "gone.png")
    with pytest.raises(ArtefactError, match=r"1 of the images .* changed since: gone.png"):
        align(tmp_path / "photos" / "list.csv", tmp_path / "faces.h5")


def test_a_missing_file_does_not_undo_a_row(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    table = tmp_path / "photos" / "list.csv"
    table.write_text("path,label\n00.png,happy\n01.png,sad\n02.png,sad\n")
    whole, out = align(table, tmp_path / "whole.h5"), tmp_path / "faces.h5"
    unfinish(whole, out, [2])
    (tmp_path / "photos" / "00.png").rename(tmp_path / "00.png")
    with pytest.raises(DataError, match=r"1 files that were there .* are missing: .*00.png"):
        align(table, out)
    (tmp_path / "00.png").rename(tmp_path / "photos" / "00.png")
    assert align(table, out).digest == whole.digest


def test_no_memory_for_an_image_is_no_damage(tmp_path):
    """Under a limit of memory a large picture cannot be read, which says nothing of it; a damaged one is damaged."""
    Image.new("RGB", (6000, 5000), (9, 9, 9)).save(tmp_path / "large.png", compress_level=1)
    (tmp_path / "damaged.png").write_bytes((tmp_path / "large.png").read_bytes()[:-5000])
    script = (
        "import re, resource, sys\n"
        "from pathlib import Path\n"
        "from fertool.faces.images import read_image\n"
        "large, damaged = map(Path, sys.argv[1:])\n"
        "def told(path):\n"
        "    try:\n"
        "        return read_image(path).shape\n"
        "    except Exception as e:\n"
        "        return type(e).__name__\n"
        "print(told(large), told(damaged))\n"
        "now = int(re.search(r'VmSize:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + (60 << 20), now + (60 << 20)))\n"
        "print(told(large))\n"
    )
    files = [str(tmp_path / name) for name in ("large.png", "damaged.png")]
    done = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["(5000, 6000, 3) UnreadableImage", "MemoryError"], done.stderr
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "gone.png")
    with pytest.raises(UnreadableImage):
        read_image(tmp_path)


# ---------------------------------------------------------------------------------------------------- other images


def as_bitmaps(photos, folder):
    """Pictures of equal size in bytes and of one time, in two classes."""
    for i, kind in enumerate(("happy", "sad") * 5):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        with Image.open(photos / f"{i:02d}.png") as image:
            image.convert("RGB").resize((40, 40)).save(folder / kind / f"{i}.bmp")
        os.utime(folder / kind / f"{i}.bmp", (1_000_000_000, 1_000_000_000))
    return folder


def exchange(first: Path, second: Path) -> None:
    first.rename(first.with_suffix(".tmp"))
    second.rename(first)
    first.with_suffix(".tmp").rename(second)


def test_photographs_exchanged_for_others_of_equal_size_and_time(photos, tmp_path):
    data, out = as_bitmaps(photos, tmp_path / "data"), tmp_path / "faces.h5"
    before = align(data, out)
    rows = [before.ids.tolist().index(name) for name in ("happy/0.bmp", "sad/1.bmp")]
    images = np.array(before["images"][rows])
    exchange(data / "happy" / "0.bmp", data / "sad" / "1.bmp")
    with pytest.raises(ArtefactError, match=r"2 of the images .* have changed since: happy/0.bmp, sad/1.bmp") as e:
        align(data, out)
    assert "--overwrite" in e.value.hint
    after = align(data, out, overwrite=True)
    assert after.digest != before.digest
    assert (after["images"][rows] == images[::-1]).all()


def test_other_times_of_the_same_photographs_change_nothing(photos, tmp_path):
    data, out = as_bitmaps(photos, tmp_path / "data"), tmp_path / "faces.h5"
    before = align(data, out)
    for file in data.glob("*/*"):
        os.utime(file, (1_100_000_000, 1_100_000_000))
    again = align(data, out)
    assert (again.uid, again.digest) == (before.uid, before.digest)
    assert (again["source_stat"][:, 1] == 1_100_000_000 * 10**9).all()  # the next call need not compare them
    shutil.copytree(data, tmp_path / "copy" / "data")
    assert align(tmp_path / "copy" / "data", tmp_path / "copy.h5").digest == before.digest


def test_a_resumed_file_holds_no_old_photograph(photos, tmp_path):
    data, out = as_bitmaps(photos, tmp_path / "data"), tmp_path / "faces.h5"
    unfinish(align(data, tmp_path / "old.h5"), out, [7, 8])
    exchange(data / "happy" / "0.bmp", data / "sad" / "1.bmp")
    resumed = align(data, out)
    assert resumed.digest == align(data, tmp_path / "new.h5").digest


# ----------------------------------------------------------------------------------------------------------- stopped


def family(pid: int) -> list[Path]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}") for child in children]


def ended(process: Path) -> bool:
    try:
        return " Z " in (process / "stat").read_text()
    except OSError:
        return True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_workers_start(photos, tmp_path, how):
    """Everybody hears the signal, as with Ctrl-C in a terminal, at several moments of the start."""
    command = [*FERTOOL, "detect-align", str(photos), "--out", str(tmp_path / "faces.h5")]
    for sign, delay in (("resource_tracker", 0), ("spawn_main", 0), ("spawn_main", 0.3)):
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while not any(sign in (child / "cmdline").read_text() for child in family(process.pid) if not ended(child)):
            assert process.poll() is None
            time.sleep(0.002)
        started = family(process.pid)
        time.sleep(delay)
        os.killpg(process.pid, how)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130, said
        assert "stopped after 0 of 20" in said
        assert "Traceback" not in said
        for _ in range(500):
            if all(map(ended, started)):
                break
            time.sleep(0.02)
        assert all(map(ended, started))
