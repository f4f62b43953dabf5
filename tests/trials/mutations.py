"""Damaged and foreign files of every kind through every command that reads them.

    python tests/trials/mutations.py --minutes 10 --seed 0

Every trial copies a small workspace, changes one file and runs one command in a forked child, so that torch is imported
once. It counts tracebacks, exits of 1, crashes, hangs, memory over 2 GB, and files that a command took for whole
although they hold something else. `--trial N` repeats one trial and shows what it said.
"""

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2  # noqa: E402
import h5py  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import toy  # noqa: E402
from commands import tell  # noqa: E402

import fertool  # noqa: E402
from fertool import artefact  # noqa: E402
from fertool.artefact import digests  # noqa: E402
from fertool.artefact.storage import survey  # noqa: E402
from fertool.settings import DetectAlign, FitSdm  # noqa: E402
from fertool.stages import fit_sdm  # noqa: E402

_CPU = 20  # seconds of computing after which a trial hangs
_WALL = 240  # seconds of any time
_MEMORY = 2 << 30  # bytes
_SMALL = ["--gpus", "0", "--set", "train.iterations=1", "--batch", "24", "--set", "train.model.backbone=tiny"]
_SMALL += ["--set", "train.model.size=24"]
_RASNET = ["--gpus", "0", "--set", "train.iterations=1", "--set", "train.model.channels=4", "--set", "train.flip=0"]
EMOTIONS = ("fear", "happiness")
_DETECT = ["--detector", "none", "--landmarks", "none", "--align", "none", "--pose", "landmarks", "--size", "32"]

#: file -> the commands that read it, as words; "@" stands for the file itself
COMMANDS: dict[str, list[list[str]]] = {
    "toy/faces.h5": [
        ["inspect", "@"],
        ["inspect", "@", "--verify"],
        ["train", "ran", *_SMALL, "--seed", "1"],
        ["eval", "--gpus", "0", "--overwrite"],
        ["crop-regions", "--overwrite", "--mode", "landmark"],
        ["make-masks", "--overwrite"],
        ["build-subsets", "--overwrite", "--folds", "2"],
        ["build-subsets", "--synthesise", "--severity", "0.2", "--limit", "1"],
        ["combine", "toy", "two"],
        ["fit-sdm", "@", "--out", "sdm.h5", "--perturbations", "1"],
        ["visualize", "landmarks"],
        ["report"],
    ],
    "toy/regions.h5": [
        ["inspect", "@", "--verify"],
        ["train", "ran", *_SMALL, "--seed", "1"],
        ["eval", "--gpus", "0", "--overwrite"],
        ["visualize", "crops"],
        ["visualize", "regions"],
        ["report"],
    ],
    "toy/masks.h5": [
        ["inspect", "@", "--verify"],
        ["visualize", "masks"],
        ["train", "rasnet", *_RASNET],
    ],
    "toy/subsets.h5": [
        ["inspect", "@", "--verify"],
        ["eval", "--gpus", "0", "--subset", "all"],
        ["train", "ran", *_SMALL, "--folds", "0"],
        ["report"],
    ],
    "toy/runs/ran-1/run.h5": [
        ["inspect", "@", "--verify"],
        ["eval", "--gpus", "0", "--overwrite"],
        ["predict", "images/fear/0.png", "--detector", "none", "--gpus", "0"],
        ["export", "--format", "safetensors", "--overwrite"],
        ["train", "ran", *_SMALL[:2], *_SMALL[4:], "--set", "train.iterations=2", "--resume"],
        ["train", "ran", *_SMALL, "--seed", "1", "--init", "@"],
        ["visualize", "curves"],
        ["report"],
    ],
    "toy/runs/ran-1/predictions.h5": [
        ["inspect", "@", "--verify"],
        ["eval", "--gpus", "0"],
        ["visualize", "confusion"],
        ["report"],
    ],
    "toy/runs/ran-1/figures/figures.h5": [["inspect", "@", "--verify"], ["visualize", "curves"]],
    "sdm/landmarks.h5": [
        ["inspect", "@", "--verify"],
        ["detect-align", "images", *_DETECT[:2], "--landmarks", "sdm", "--sdm", "@", "--out", "x.h5", "--limit", "1"],
    ],
    "half/faces.h5.partial": [
        ["inspect", "@"],
        ["detect-align", "images", *_DETECT, "--out", "half/faces.h5"],
    ],
    "mine.yaml": [
        ["recipes", "@"],
        ["train", "@", *_SMALL, "--seed", "1"],
        ["make-masks", "--recipe", "@", "--overwrite"],
    ],
    "weights.safetensors": [
        ["predict", "images/fear/0.png", "--run", "@", "--detector", "none", "--gpus", "0"],
        ["train", "ran", *_SMALL, "--seed", "1", "--init", "@"],
    ],
    "weights.pth": [["train", "ran", *_SMALL, "--seed", "1", "--init", "@"]],
    "table/labels.csv": [["datasets", "check", "auto", "table"]],
    "occlusion.csv": [["build-subsets", "--overwrite", "--occlusion-table", "@"]],
}
#: commands that do not take --workspace
_NO_SPACE = ("inspect", "datasets", "recipes", "fit-sdm")
#: commands that have to notice whatever is changed in a sealed file
_VERIFYING = {("toy/faces.h5", "train"), ("toy/faces.h5", "eval"), ("toy/faces.h5", "combine")}


# --------------------------------------------------------------------------------------------------- the workspace


def build(root: Path) -> None:
    """Make one small file of every kind."""
    rng = np.random.default_rng(0)
    n = 36
    marks = rng.uniform(8, 24, (n, 68, 2)).astype("f4")
    more = {
        "landmarks": marks,
        "pose": rng.uniform(-50, 50, (n, 3)).astype("f4"),
        "pose_error": np.ones(n, "f4"),
        "subject": np.array([f"p{i % 6}" for i in range(n)]),
        "bbox": np.tile(np.array([0, 0, 32, 32], "f4"), (n, 1)),
        "transform": np.tile(np.eye(2, 3), (n, 1, 1)),
        "label_distribution": np.tile(np.array([0.5, 0.25, 0.25], "f4"), (n, 1)),
    }
    faces = toy.write_faces(root / "toy", 24, 12, **more)
    _as_detected(faces.path)
    toy.write_faces(root / "two", 12, 6, seed=1, **{k: v[:18] for k, v in more.items()})
    for i in range(6):
        path = root / f"images/{EMOTIONS[i % 2]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    (root / "table").mkdir()
    rows = [f"../images/{EMOTIONS[i % 2]}/{i}.png,{EMOTIONS[i % 2]},train,p{i},{i}" for i in range(6)]
    (root / "table/labels.csv").write_text("\n".join(["path,label,split,subject,frame", *rows]) + "\n")
    (root / "occlusion.csv").write_text("id,type\n" + "".join(f"face {i}.png,upper\n" for i in range(5)))
    text = "about: mine\ndataset: toy\nstages: [crop-regions, train]\n"
    text += "train:\n  lr: 0.01\n  lr_milestones: [1, 2]\n  model: {name: ran, size: 24}\ncrop-regions: {mode: fixed}\n"
    (root / "mine.yaml").write_text(text + "make-masks: {grid: 7}\n")
    space = {"space": root}
    tell("crop-regions", "--data", "toy", **space)
    tell("make-masks", "--data", "toy", **space)
    tell("build-subsets", "--data", "toy", "--folds", 2, **space)
    tell("train", "ran", "--data", "toy", *_SMALL, **space)
    tell("eval", "--gpus", 0, **space)
    tell("visualize", "curves", **space)
    tell("export", "--format", "safetensors", **space)
    run = root / "toy/runs/ran-1"
    shutil.move(run / "ran-1.safetensors", root / "weights.safetensors")
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in artefact.read(run / "run.h5").group("weights/last").items()}
    torch.save({"state_dict": tensors}, root / "weights.pth")
    fit_sdm.run([faces.path], settings=FitSdm(perturbations=1), out=root / "sdm/landmarks.h5")
    tell("detect-align", root / "images", *_DETECT, "--out", root / "half/faces.h5", **space)
    half = (root / "half/faces.h5").rename(root / "half/faces.h5.partial")
    with h5py.File(half, "r+") as h5:
        h5.attrs.modify("complete", False)
        h5["status"][2:] = 0
    shutil.rmtree(root / "two/runs", ignore_errors=True)


def _as_detected(path: Path) -> None:
    """Settings of detect-align in the faces file, so that runs on it can be used for other images."""
    old = artefact.read(path)
    params = {**DetectAlign(detector="none", landmarks="none", align="none", size=32, grey=True).as_dict()}
    columns = {name: np.array(old[name]) for name in old.columns}
    artefact.save(path, "faces", columns, params={**params, "dataset": "folder"}, classes=old.classes)


# ---------------------------------------------------------------------------------------------------- the mutations

_ODD = (
    None, True, -1, 0, 5, 1e308, float("nan"), float("inf"), 10**30, "", "x", "../../etc/passwd", "\x1b[31m", [], [1],
    {}, {"a": 1}, ["x"] * 3, [[]], "9" * 5000,
)  # fmt: skip


def flip(data: bytearray, r: random.Random) -> str:
    """Change some bytes."""
    for _ in range(r.choice([1, 1, 4, 32])):
        at = r.randrange(len(data)) if r.random() < 0.5 else r.randrange(min(len(data), 8192))
        data[at] = r.choice([0, 255, data[at] ^ (1 << r.randrange(8)), r.randrange(256)])
    return "flip"


def zero(data: bytearray, r: random.Random) -> str:
    """Zero a stretch, as a disk does that lost power."""
    at, count = r.randrange(len(data)), r.choice([8, 64, 512, 4096])
    data[at : at + count] = bytes(len(data[at : at + count]))
    return "zero"


def cut(data: bytearray, r: random.Random) -> str:
    """End too early."""
    del data[r.randrange(len(data)) :]
    return "cut"


def swap(data: bytearray, r: random.Random) -> str:
    """Exchange two blocks."""
    n = r.choice([16, 512])
    a, b = r.randrange(max(1, len(data) - n)), r.randrange(max(1, len(data) - n))
    data[a : a + n], data[b : b + n] = data[b : b + n], data[a : a + n]
    return "swap"


def insert(data: bytearray, r: random.Random) -> str:
    """Put bytes in between."""
    at = r.randrange(len(data) + 1)
    data[at:at] = r.choice([b"\0", b"\xff\xfe", b",", b"\n", b'"', b"\x1b[31m", bytes(512), b"9" * 5000, b"=1+1"])
    return "insert"


def retype_attribute(h5: h5py.File, r: random.Random) -> str:
    """Give an attribute another type."""
    name = r.choice(sorted(h5.attrs))
    if r.random() < 0.2:
        del h5.attrs[name]
        return f"{name} gone"
    value = r.choice([
        5, -1, 1.5, np.inf, np.nan, True, "", "x", b"\xff\xfe", "null", "[]", "{}", "5", "[" * 2000, '{"a":' * 500,
        np.arange(3), np.zeros((2, 2)), h5py.Empty("f4"), "9" * 6000, np.array([b"a", b"b"]), '{"a": 1e999}',
    ])  # fmt: skip
    h5.attrs[name] = value
    return f"{name} := {str(value)[:20]!r}"


def change_json(h5: h5py.File, r: random.Random) -> str:
    """Change a value somewhere inside a JSON attribute."""
    name = r.choice(["params", "inputs", "classes", "info"])
    try:
        tree = json.loads(h5.attrs[name])
    except (KeyError, ValueError, TypeError):
        return "nothing"
    holder, path = {"": tree}, ""
    key = path
    while isinstance(holder[key], dict | list) and holder[key] and r.random() < 0.8:
        holder = holder[key]
        key = r.choice(sorted(holder)) if isinstance(holder, dict) else r.randrange(len(holder))
        path += f".{key}"
    if r.random() < 0.2 and path:
        del holder[key]
    else:
        holder[key] = r.choice(_ODD)
    whole = holder[""] if not path else tree
    h5.attrs[name] = json.dumps(whole)
    return f"{name}{path}"


def change_array(h5: h5py.File, r: random.Random) -> str:
    """Change an array: its values, type, shape or name, or remove it."""
    found: list[str] = []
    h5.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    if not found:
        return "nothing"
    name = r.choice(found)
    values = h5[name][()]
    how = r.choice(["remove", "retype", "reshape", "values", "values", "swap", "rename", "add", "shuffle", "empty"])
    if how == "values":
        values = np.array(values)
        if values.dtype.kind in "SO":
            values = np.full(values.shape, r.choice([b"", b"\xff", b"x" * 300, b"../x", b"\x1b[31m", b"=1"]))
        elif values.size:
            kind = values.dtype.kind
            odd = [0, -1, 1, 127, 255, 1e30, np.nan, np.inf] if kind == "f" else [0, 1, 2, 99, 127]
            with warnings.catch_warnings(action="ignore"):
                if r.random() < 0.5:
                    values = np.full_like(values, r.choice(odd))
                else:
                    values.reshape(-1)[r.randrange(values.size)] = r.choice(odd)
    elif how == "retype":
        with contextlib.suppress(ValueError, TypeError), warnings.catch_warnings(action="ignore"):
            pair = [("a", "i4"), ("b", "f4")]
            values = np.asarray(values).astype(r.choice(["f8", "i8", "u1", "i2", "?", "S8", "c8", np.dtype(pair)]))
    elif how == "reshape":
        shape = np.shape(values)
        values = r.choice([
            np.asarray(values).reshape(-1), np.asarray(values)[..., None], np.asarray(values).reshape(shape[::-1]),
            np.asarray(values).reshape(-1)[:1].reshape(()) if np.size(values) else values, np.asarray(values)[None],
        ])  # fmt: skip
    elif how == "shuffle" and np.ndim(values):
        values = np.asarray(values)[np.random.default_rng(r.randrange(99)).permutation(len(values))]
    elif how == "empty" and np.ndim(values):
        values = np.asarray(values)[: r.choice([0, 1, len(values) // 2])]
    elif how == "swap":
        other = r.choice(found)
        theirs = h5[other][()]
        del h5[other]
        h5[other] = values
        values = theirs
    del h5[name]
    if how == "remove":
        return f"{name} gone"
    if how == "rename":
        name += "x"
    h5[name] = values
    if how == "add":
        h5["more"] = r.choice([np.zeros(3), np.float32(1), np.array([b"a"] * 36), np.zeros((36, 2), "c8")])
    return f"{name} {how}"


def reseal(path: Path) -> None:
    """Make it a file that another program wrote: digests that are right, and no seal."""
    with contextlib.suppress(Exception):
        with h5py.File(path, "r+") as h5:
            for name in ("digests", "seal"):
                if name in h5.attrs:
                    del h5.attrs[name]
        with h5py.File(path) as h5:
            texts = {k: v.decode() if isinstance(v, bytes) else v for k, v in h5.attrs.items()}
            stored = survey(h5, path)
        whole, _ = digests.of_file(path, texts, int(texts["fertool_schema"]), stored)
        with h5py.File(path, "r+") as h5:
            h5.attrs["digest"] = whole


def mutate(path: Path, r: random.Random) -> tuple[str, bool]:
    """Change a file. Returns what was done, and whether its seal should give that away."""
    is_h5 = ".h5" in path.name
    if is_h5 and r.random() < 0.65:
        with h5py.File(path, "r+") as h5:
            said = [r.choice([retype_attribute, change_json, change_array, change_array])(h5, r)]
        if foreign := r.random() < 0.6:
            reseal(path)
        return f"{'foreign' if foreign else 'edited'}: {said[0]}", not foreign
    data = bytearray(path.read_bytes())
    text = path.suffix in (".csv", ".yaml")
    said = [r.choice([flip, cut, swap, insert] if text else [flip, flip, zero, cut, swap, insert])(data, r)]
    path.write_bytes(bytes(data))
    return f"bytes: {said[0]}", is_h5


# ------------------------------------------------------------------------------------------------------ the trials


def content(path: Path) -> object:
    """What fertool reads out of a file."""
    a = artefact.read(path, partial=True)
    arrays = {name: np.asarray(a[name]).tobytes() if a[name].dtype != object else a[name].tolist() for name in a.stored}
    return a.kind, a.digest, a.params, a.inputs, a.classes, a.info, arrays


def child(words: list[str], folder: Path, path: Path, original: Path, strict: bool, log: Path) -> None:
    """Run a command in this process, then end it."""
    os.chdir(folder)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    import fertool.console

    fertool.console._stderr.file = sys.stderr
    sys.argv = ["fertool", *words]
    code: object = 0
    try:
        from fertool.cli import main

        main()
    except SystemExit as e:
        code = e.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if strict and not code:
        try:
            same = content(path) == content(original)
        except Exception:
            same = False
        if not same:
            code = 99
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def watch(pid: int) -> str:
    """Wait for a child; what became of it."""
    began = time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return f"crash, signal {os.WTERMSIG(status)}"
            return f"exit {os.WEXITSTATUS(status)}"
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
            memory = int(stat[21]) * resource.getpagesize()
        except (OSError, IndexError, ValueError):
            continue
        if cpu > _CPU or time.monotonic() - began > _WALL or memory > _MEMORY:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "memory" if memory > _MEMORY else "hang"
        time.sleep(0.01)


def words_of(name: str, words: list[str]) -> list[str]:
    """The words of a command about a file, complete."""
    words = [name if w == "@" else w for w in words]
    if words[0] in ("train", "crop-regions", "make-masks", "build-subsets"):
        words += ["--data", "toy"]
    if words[0] == "visualize":
        words += ["--data", "toy"] if words[1] in ("landmarks", "masks", "crops") else ["--run", "toy/runs/ran-1"]
    return words if words[0] in _NO_SPACE else [*words, "--workspace", "."]


def attempt(root: Path, name: str, words: list[str], harm) -> tuple[str, str, str]:
    """Change a file of a copy of the workspace and run a command: (what was done, what became of it, what it said)."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as temporary:
        folder, log = Path(temporary) / "w", Path(temporary) / "log"
        shutil.copytree(root, folder, copy_function=os.link)
        path = folder / name
        kept = path.read_bytes()
        path.unlink()
        path.write_bytes(kept)
        said, sealed = harm(path)
        strict = sealed and ("--verify" in words or (name, words[0]) in _VERIFYING)
        pid = os.fork()
        if pid == 0:
            child(words, folder, path, root / name, strict, log)
        outcome = watch(pid)
        text = log.read_text(errors="replace") if log.exists() else ""
    if "Traceback" in text:
        outcome = "traceback"
    elif outcome == "exit 99":
        outcome = "accepted"
    return f"{name} [{said}] {' '.join(words)}", outcome, text


def trial(number: int, seed: int, root: Path, only: str) -> tuple[str, str, str]:
    """One mutation through one command."""
    r = random.Random(f"{seed}/{number}")
    name = r.choice([n for n in COMMANDS if only in n])
    words = r.choice(COMMANDS[name])
    if name == "sdm/landmarks.h5" and words[0] == "detect-align" and r.random() < 0.7:
        words = ["inspect", "@", "--verify"]  # detect-align starts a process, which takes seconds
    return attempt(root, name, words_of(name, words), lambda path: mutate(path, r))


def check(root: Path) -> None:
    """That every command works on what is not harmed: else its trials would prove nothing."""
    wrong = []
    for name, commands in COMMANDS.items():
        for words in commands:
            done, outcome, text = attempt(root, name, words_of(name, words), lambda _: ("nothing", True))
            if outcome != "exit 0":
                wrong.append(f"{outcome} without any harm: {done}\n{text[-500:]}")
    if wrong:
        sys.exit("\n".join(wrong))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, help="number of the first trial")
    options.add_argument("--trial", type=int, help="repeat this trial only and show what it said")
    options.add_argument("--only", default="", help="only files whose name holds this")
    asked = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for module in pkgutil.walk_packages(fertool.__path__, "fertool."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    bad: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mutations-") as temporary:
        root = Path(temporary) / "root"
        build(root)
        check(root)
        if asked.trial is not None:
            print(*trial(asked.trial, asked.seed, root, asked.only), sep="\n")
            return
        end, number = time.monotonic() + 60 * asked.minutes, asked.first
        while time.monotonic() < end:
            done, outcome, text = trial(number, asked.seed, root, asked.only)
            outcomes[outcome] += 1
            if outcome.startswith(("crash", "hang", "memory", "traceback", "accepted")) or outcome == "exit 1":
                bad[outcome] += 1
                last = [line for line in text.splitlines() if line.strip()][-2:]
                print(f"trial {number}: {outcome}: {done}\n    " + "\n    ".join(last), flush=True)
            number += 1
            if not number % 500:
                print(f"{sum(outcomes.values()):,} trials: {dict(outcomes)}", flush=True)
    print(f"{sum(outcomes.values()):,} mutations; {dict(outcomes)}; bad: {dict(bad) or 'none'}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
