"""Too little memory, of the machine or of its GPU: an error with advice, whichever library notices it."""

import errno
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest
import torch
import toy
import typer
from typer.testing import CliRunner

from fertool.cli import command as commands_of_cli
from fertool.errors import ArtefactError, OutOfMemoryError, out_of_memory

HUGE = 2**47


def caught(call) -> Exception:
    with pytest.raises(Exception) as e:  # noqa: PT011 (of every kind)
        call()
    return e.value


@pytest.mark.parametrize(
    "call",
    [
        lambda: np.ones(HUGE),
        lambda: torch.ones(HUGE),
        lambda: cv2.resize(np.zeros((8, 8, 3), np.float64), (2**30, 2**30)),
        lambda: bytearray(HUGE),
        lambda: [0] * HUGE,
    ],
)
def test_every_library_is_understood(call):
    found = out_of_memory(caught(call))
    assert found.exit_code == 5
    assert found.message.startswith("the memory of this machine does not suffice")


def test_what_torch_says_of_a_gpu():
    error = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity")
    assert out_of_memory(error).message.startswith("the memory of the GPU does not suffice: CUDA out of memory. Tried")


def test_other_errors_are_none_of_it():
    for error in (ValueError("out of memory"), RuntimeError("shapes"), OSError(errno.ENOENT, "x"), KeyError("memory")):
        assert out_of_memory(error) is None


def test_what_hides_behind_another_error():
    error = ArtefactError("x.h5 cannot be read")
    error.__cause__ = OSError(errno.ENOMEM, "Cannot allocate memory")
    assert out_of_memory(error).exit_code == 5


@pytest.mark.parametrize(
    ("command", "hint"), [("train", "train.accumulate=4"), ("eval", "--batch"), ("inspect", "close")]
)
def test_each_command_has_its_advice(command, hint):
    other = typer.Typer()

    @commands_of_cli.command(command, "", to=other)
    def work():
        """Fail."""
        raise MemoryError

    result = CliRunner().invoke(other, [])
    error, advice = result.stderr.splitlines()
    assert result.exit_code == 5
    assert error == "error: the memory of this machine does not suffice"
    assert advice.startswith("hint: ")
    assert hint in advice
    assert "bug" not in advice


def test_a_training_that_needs_more_than_there_is(tmp_path):
    toy.write_all(tmp_path / "toy")
    program = f"""
        import resource, sys
        import torch, fertool.stages.train, fertool.stages.train.folds
        from fertool import cli
        limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.argv = ["fertool", "train", "ran", "--workspace", {str(tmp_path)!r}, "--gpus", "0", "--set",
                    "train.model.backbone=tiny", "--set", "train.model.size=4000"]
        cli.main()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith("error: the memory of this machine does not suffice")
    assert "train.accumulate=4" in hint
    assert not list((tmp_path / "toy" / "runs").iterdir())


def test_an_error_of_memory_survives_the_way_home():
    """From a spawned process to its parent."""
    import pickle

    error = pickle.loads(pickle.dumps(OutOfMemoryError("a", "b")))
    assert (error.message, error.hint, error.exit_code) == ("a", "b", 5)
