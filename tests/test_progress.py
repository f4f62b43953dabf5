"""Progress of long work: a bar on a terminal, a line once a minute in a log, nothing where silence was asked for."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import toy

from fertool import console, progress

ROOT = Path(__file__).parents[1]
WORK = """
from fertool import console
with console.progress("render", 3, "face") as advance:
    for name in "abc":
        advance(note=name)
"""
RATE = r"\d+\.\d (step/s|s/step)"


def log(total: int | None, advances: list[tuple[float, int, str]]) -> list[str]:
    """Lines of work whose items come at these seconds."""
    now, lines = [0.0], []
    shown = progress.Lines("epoch 3", total, "step", lines.append, clock=lambda: now[0])
    for now[0], n, note in advances:
        shown.advance(n, note)
    return lines


def test_a_log_gets_at_most_one_line_a_minute():
    lines = log(3600, [(float(second), 2, f"loss {second}") for second in range(1, 301)])
    assert lines[0] == "epoch 3: 120 of 3,600, 2.0 step/s, 0:29:00 left, loss 60"
    assert lines[-1] == "epoch 3: 600 of 3,600, 2.0 step/s, 0:25:00 left, loss 300"
    assert len(lines) == 5


def test_rate_and_time_left_follow_the_last_minute():
    assert log(1000, [(60, 60, ""), (119, 5, ""), (120, 1, "")]) == [
        "epoch 3: 60 of 1,000, 1.0 step/s, 0:15:40 left",
        "epoch 3: 66 of 1,000, 10.0 s/step, 2:35:40 left",
    ]


@pytest.mark.parametrize(
    ("total", "n", "line"),
    [
        (None, 120, "epoch 3: 120, 2.0 step/s"),
        (9, 0, "epoch 3: 0 of 9"),
        (9, 60, "epoch 3: 60 of 9, 1.0 step/s, 0:00:00 left"),
    ],
    ids=["unknown total", "nothing done", "more than expected"],
)
def test_lines_say_no_more_than_is_known(total, n, line):
    assert log(total, [(60, n, "")]) == [line]


def test_training_logs_step_rate_time_left_and_loss(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0)
    faces = toy.write_all(tmp_path / "toy")
    toy.train_toy(faces)
    err = capsys.readouterr().err
    steps = len(re.findall(rf"^epoch [12]: \d+ of \d+, {RATE}, [\d:]+ left, loss \d+\.\d+ ", err, re.MULTILINE))
    assert steps == toy.SMALL["epochs"] * int(re.search(r"epoch 1: 1 of (\d+)", err)[1])
    console.configure(quiet=True)
    toy.train_toy(faces, out=tmp_path / "quiet")
    console.configure(json_output=True)
    toy.train_toy(faces, out=tmp_path / "json")
    assert capsys.readouterr().err == ""


def test_a_log_has_no_control_characters_even_in_colour():
    done = subprocess.run(
        [sys.executable, "-c", WORK],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1"},
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_gets_a_bar():
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", WORK], stderr=theirs, env=env):
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a pseudo-terminal
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert "━" in shown.decode()
    assert "3/3" in shown.decode()
