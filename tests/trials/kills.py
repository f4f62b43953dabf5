"""Kill every stage at random moments, resume it, and compare with what an uninterrupted run makes.

    python tests/trials/kills.py [--minutes 10] [--seed 0] [--stages detect-align train ...] [--keep FOLDER]

A small workspace of rendered faces is made once. A trial copies it, starts a stage, kills it (SIGKILL) after a random
part of the time that it takes undisturbed, once or several times, sometimes its first process alone and sometimes all
of them, and then lets the same command (`train` with --resume) finish. It fails where the digest is another than that
of an uninterrupted run, rows are lost, a traceback is printed, an exit code is not 0, a temporary file is left, or
the command hangs. Libraries are imported once and every trial is forked from there; a share of the trials runs the
real command in a process of its own. The logs of failed trials are kept and named.
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

_REAL = 0.08  # share of the trials that run the command in a process of its own
_ALONE = 0.3  # share of the kills that spare the workers
_AGAIN = 0.4  # probability of another kill after one
_PATIENCE = 300.0  # seconds after which a command hangs
_SHIPPED = "--detector none --landmarks dataset --size 32"
_CPU = ("--set", "train.model.backbone=tiny", "--set", "train.model.size=24", "--gpus", "0")
#: what multiprocessing prints in a worker whose first process was killed while it started that worker
_ORPHANED = re.compile(
    r"Traceback \(most recent call last\):\n(?:  .*\n)*?.*multiprocessing/spawn\.py(?:.*\n)*?\w*EOFError.*\n"
)
_TINY = (*_CPU, "--batch", "12", "--lr", "0.05")


@dataclass(frozen=True)
class Stage:
    """A command to be killed.

    Attributes:
        words: its command line; {ws} is the workspace, {out} an empty folder, {photos} a folder of rendered faces.
        made: what it makes, files or folders.
        weight: how often it is tried, relative to the others.
    """

    words: tuple[str, ...]
    made: tuple[str, ...]
    weight: float = 1.0


def _stage(line: str, *made: str, weight: float = 1.0, more: tuple[str, ...] = ()) -> Stage:
    return Stage((*line.split(), *more), made, weight)


STAGES = {
    "detect-align": _stage(
        "detect-align {photos} --detector dlib-hog --pose landmarks --size 48 --out {out}/faces.h5",
        "{out}/faces.h5", weight=3.0,
    ),
    "detect-align, plain": _stage(
        "detect-align {photos} --detector none --landmarks none --align none --pose landmarks --size 48 "
        "--workers 1 --out {out}/faces.h5", "{out}/faces.h5", weight=2.0,
    ),
    "detect-align, mtcnn": _stage("detect-align {photos} --size 48 --out {out}/faces.h5", "{out}/faces.h5", weight=0.3),
    "make-masks": _stage("make-masks --data toy --workspace {ws} --out {out}/masks.h5", "{out}/masks.h5"),
    "crop-regions": _stage(
        "crop-regions --data toy --mode random --workspace {ws} --out {out}/regions.h5", "{out}/regions.h5"
    ),
    "build-subsets": _stage("build-subsets --data toy --workspace {ws} --out {out}/subsets.h5", "{out}/subsets.h5"),
    "train": _stage(
        "train ran --data toy --epochs 4 --workspace {ws} --out {out}/run", "{out}/run", weight=2.0, more=_TINY
    ),
    "eval": _stage("eval --run {ws}/toy/runs/ran-1 --gpus 0 --workspace {ws}", "{ws}/toy/runs/ran-1"),
    "combine": _stage("combine toy other --name both --workspace {ws}", "{ws}/both"),
    "render": _stage("render {out}/rendered --people 3 --per-person 3 --size 48", "{out}/rendered"),
    "predict": _stage(
        "predict {photos} --run {ws}/toy/runs/ran-1 --out {out} --detector none --gpus 0 --workspace {ws}",
        "{out}/predictions.csv",
    ),
    "sweep": _stage(
        "sweep ran --data toy --vary crop-regions.ratio_scale=[0.5,1] --epochs 1 --workspace {ws}",
        "{ws}/toy", weight=0.5, more=_CPU,
    ),
}  # fmt: skip


@dataclass
class Tally:
    """What the trials of a stage came to."""

    trials: int = 0
    kills: int = 0
    faults: Counter = field(default_factory=Counter)


# ------------------------------------------------------------------------------------------------------- commands


def _start(words: list[str], log: Path, real: bool) -> int:
    """Start a command in a session of its own; its process id."""
    if real:
        with log.open("ab") as said:
            command = [sys.executable, "-m", "fertool", *words]
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            ).pid
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        with log.open("ab") as said, open(os.devnull) as nothing:
            for fd, to in ((0, nothing), (1, said), (2, said)):
                os.dup2(to.fileno(), fd)
        sys.argv = ["fertool", *words]
        from fertool.cli import main

        try:
            main()
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else bool(e.code)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(pid: int, seconds: float) -> int | None:
    """The exit code of a process, None if it still runs after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def _end(pid: int, alone: bool) -> None:
    if not alone:
        with suppress(ProcessLookupError):  # it has no session of its own yet
            os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


# ---------------------------------------------------------------------------------------------------------- outcome


def _digests(made: list[Path]) -> dict[str, str]:
    """What lies there, by its name: an artefact's digest, or that of a file."""
    from fertool import artefact

    found = {}
    for top in made:
        for path in sorted(p for p in ([top] if top.is_file() else top.rglob("*")) if p.is_file()):
            name = str(path.relative_to(top.parent))
            if path.suffix == ".h5":
                found[name] = artefact.read(path).digest
            elif path.suffix not in (".json", ".pdf") and not path.name.startswith("sweep"):
                found[name] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return found


def _left_over(folder: Path) -> list[str]:
    return [
        p.name
        for p in folder.rglob("*")
        if p.suffix in (".partial", ".tmp", ".part", ".lock") or p.name.startswith(".")
    ]


class Trials:
    """Trials around one prepared workspace."""

    def __init__(self, base: Path, seed: int):
        self.base, self.random = base, random.Random(seed)
        self.expected: dict[str, dict[str, str]] = {}
        self.takes: dict[str, float] = {}
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.number = 0

    def prepare(self) -> None:
        """Render faces, align them, and train a network on them."""
        photos, ws = self.base / "photos", self.base / "ws"
        for line in (
            f"render {photos} --people 6 --per-person 10 --size 96",
            f"detect-align {photos} --name toy {_SHIPPED} --workspace {ws}",
            f"detect-align {photos} --name other {_SHIPPED} --limit 40 --workspace {ws}",
            f"crop-regions --data toy --workspace {ws}",
            f"build-subsets --data toy --workspace {ws}",
            f"train ran --data toy --epochs 1 --workspace {ws} {' '.join(_TINY)}",
        ):
            log = self.base / "prepare.log"
            if _wait(_start(line.split(), log, False), _PATIENCE):
                raise SystemExit(f"failed: fertool {line}\n{log.read_text()}")

    def _place(self, name: str, folder: Path) -> tuple[list[str], list[Path]]:
        shutil.copytree(self.base / "ws", folder / "ws")
        (folder / "out").mkdir()
        words = {"ws": folder / "ws", "out": folder / "out", "photos": self.base / "photos"}
        stage = STAGES[name]
        return [w.format(**words) for w in stage.words], [Path(m.format(**words)) for m in stage.made]

    def reference(self, name: str) -> None:
        """Run a stage undisturbed, for its digest and its time."""
        folder = self.base / "reference" / name.replace(", ", "-")
        words, made = self._place(name, folder)
        began = time.monotonic()
        code = _wait(_start(words, folder / "log", False), _PATIENCE)
        if code != 0:
            raise SystemExit(f"failed: {' '.join(words)}\n{(folder / 'log').read_text()}")
        self.takes[name] = time.monotonic() - began
        self.expected[name] = _digests(made)

    def trial(self, name: str) -> None:
        """Kill a stage, resume it, compare."""
        if name not in self.expected:
            self.reference(name)
        self.number += 1
        tally, rng = self.tallies[name], self.random
        folder, real = self.base / f"trial-{self.number}", rng.random() < _REAL
        words, made = self._place(name, folder)
        log, faults, code, kills = folder / "log", [], None, 0
        while code is None:
            pid = _start(self._resumed(name, words, folder), log, real)
            if not kills or rng.random() < _AGAIN:
                code = _wait(pid, rng.uniform(0, 1.05 * self.takes[name] + 3.0 * real))
                if code is None:
                    _end(pid, rng.random() < _ALONE)
                    kills += 1
                continue
            code = _wait(pid, _PATIENCE + 20 * self.takes[name])
            if code is None:
                faults.append("hang")
                _end(pid, False)
                code = -signal.SIGKILL
        if code == 3 and "is already there" in log.read_text(errors="replace").strip().splitlines()[-2:][0]:
            code = 0  # killed when all was done: predict repeats nothing
        if code:
            faults.append("exit 1" if code == 1 else f"exit {code}")
        if "Traceback" in _ORPHANED.sub("", log.read_text(errors="replace")):
            faults.append("traceback")
        if not code:
            faults += self._compared(name, made)
            # what a killed first process left alone may still be ending
            if left := [n for n in _left_over(folder) if n not in _left_over(self.base / "ws")]:
                faults.append(f"left: {', '.join(sorted(set(left))[:3])}")
        tally.trials += 1
        tally.kills += kills
        tally.faults.update(faults)
        if faults:
            print(
                f"  trial {self.number}, {name}{', real' if real else ''}: {'; '.join(faults)} ({folder})", flush=True
            )
        else:
            shutil.rmtree(folder)

    def _resumed(self, name: str, words: list[str], folder: Path) -> list[str]:
        """The command that goes on: `train` resumes where there is something to resume."""
        return [*words, "--resume"] if name == "train" and (folder / "out/run/run.h5").exists() else words

    def _compared(self, name: str, made: list[Path]) -> list[str]:
        try:
            found, expected = _digests(made), self.expected[name]
        except Exception as e:
            return [f"unreadable: {e}"]
        lost = expected.keys() - found.keys()
        wrong = [n for n in expected.keys() & found.keys() if expected[n] != found[n]]
        more = found.keys() - expected.keys()
        return [
            *([f"lost {sorted(lost)[:3]}"] if lost else []),
            *([f"wrong digest {sorted(wrong)[:3]}"] if wrong else []),
            *([f"more than expected {sorted(more)[:3]}"] if more else []),
        ]

    def report(self) -> bool:
        print(f"\n{'stage':22s} {'trials':>7s} {'kills':>7s}  faults")
        for name, t in self.tallies.items():
            faults = ", ".join(f"{n}x {what}" for what, n in t.faults.items()) or "none"
            print(f"{name:22s} {t.trials:7d} {t.kills:7d}  {faults}")
        every = self.tallies.values()
        faults = sum(t.faults.total() for t in every)
        print(f"{'all':22s} {sum(t.trials for t in every):7d} {sum(t.kills for t in every):7d}  {faults or 'none'}")
        return not faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--keep", type=Path, help="folder to work in; failed trials stay there")
    chosen = parser.parse_args()

    import torch  # noqa: F401  what every forked trial would import again
    import torchvision  # noqa: F401

    import fertool.cli  # noqa: F401
    from fertool.stages import evaluate, predict, render, sweep, train  # noqa: F401

    torch.set_num_threads(1)
    base = chosen.keep or Path(tempfile.mkdtemp(prefix="kills-"))
    base.mkdir(parents=True, exist_ok=True)
    trials = Trials(base, chosen.seed)
    end = time.monotonic() + 60 * chosen.minutes
    trials.prepare()
    weights = [STAGES[name].weight for name in chosen.stages]
    try:
        while time.monotonic() < end:
            trials.trial(trials.random.choices(chosen.stages, weights)[0])
    finally:
        good = trials.report()
    if good and not chosen.keep:
        shutil.rmtree(base)
    sys.exit(not good)


if __name__ == "__main__":
    main()
