"""stdin, stdout and stderr as callers leave them: closed, full, unread, or of an encoding that lacks letters."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

from fertool.errors import DataError

#: exit code of a command whose output nobody reads any more, as of one ended by SIGPIPE
UNREAD = 141


def prepare() -> None:
    """Make the streams of this process usable, whatever they are.

    A closed one leads nowhere; its number is taken, lest a file that is opened later gets it and is printed into.
    Characters that an encoding lacks are written as escapes. A stdout that nobody reads ends the process quietly, one
    that cannot be written is a DataError; what cannot be written to stderr is dropped, as it is no result.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number
    sys.stdin = sys.stdin or open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 (these last as long as the process)
    if sys.stdout is sys.__stdout__:
        sys.stdout = sys.__stdout__ = _wrapped(sys.stdout, 1, _Stdout)  # type: ignore[misc]  # Final for others
    if sys.stderr is sys.__stderr__:
        sys.stderr = sys.__stderr__ = _wrapped(sys.stderr, 2, _Stderr)  # type: ignore[misc]


def _wrapped(stream: io.TextIOWrapper | None, number: int, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    if isinstance(stream, kind):
        return stream
    if stream is None:
        return kind(open(number, "wb", closefd=False), "utf-8", "backslashreplace")
    encoding, lines = stream.encoding, stream.line_buffering
    return kind(stream.detach(), encoding, "backslashreplace", line_buffering=lines)


class _Stdout(io.TextIOWrapper):
    def write(self, text: str) -> int:
        with self._written():
            return super().write(text)

    def flush(self) -> None:
        with self._written():
            super().flush()

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            _to_nowhere(1)
            raise SystemExit(UNREAD) from None
        except OSError as e:
            _to_nowhere(1)
            raise DataError(f"cannot write to standard output: {e.strerror}") from e


class _Stderr(io.TextIOWrapper):
    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        _to_nowhere(2)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _to_nowhere(2)


def _to_nowhere(number: int) -> None:
    """Let what is left in a stream's buffer go where it harms nobody."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
