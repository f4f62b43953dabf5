"""One lock for each output: who writes it is alone, on this host and on every other that shares the folder."""

import errno
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fertool import files
from fertool.errors import ArtefactError

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, *files.FULL)
_AT_ONCE = 0.2  # seconds: a lock that is being given back may be seen for a moment


@contextmanager
def exclusive(output: Path | str, *, wait: float = _AT_ONCE) -> Iterator[None]:
    """Hold the lock of an output, a file or a folder, while it is written.

    The lock is the file `.NAME.lock` beside the output, which goes when the lock is given back; after a kill it may
    stay, and holds nobody up. In one thread locks of one output may be nested. Where nothing can be written there is
    nothing to lock. Temporary files that killed processes left in the folder are removed.

    Args:
        wait: seconds to wait for another process.

    Raises:
        ArtefactError: another process holds it.
    """
    folder = Path(output).parent.resolve()
    place = folder / f".{Path(output).name or 'output'}.lock"
    lock = FileLock(place, poll_interval=0.02, is_singleton=True)
    made = _make(folder)
    held = _acquire(lock, wait, output)
    files.sweep(folder)
    try:
        yield
    finally:
        if held:
            if lock.lock_counter == 1:
                with suppress(PermissionError):  # Windows removes no open file, and filelock the released one there
                    place.unlink(missing_ok=True)  # while it is held: whoever waits for it sees that it has gone
            lock.release()
        for empty in made:
            with suppress(OSError):
                empty.rmdir()  # only works if nothing was written


def is_free(output: Path | str) -> bool:
    """Return whether nobody writes an output at this moment."""
    try:
        with exclusive(output, wait=0):
            return True
    except ArtefactError:
        return False


def _acquire(lock: FileLock, wait: float, output: Path | str) -> bool:
    try:
        os.close(os.open(lock.lock_file, os.O_RDWR | os.O_CREAT, 0o644))  # for what cannot be, filelock waits
        lock.acquire(timeout=wait)
    except Timeout:
        raise ArtefactError(f"another fertool is writing {output}", "wait for it, or choose another --out") from None
    except OSError as e:
        if e.errno not in _UNWRITABLE:
            raise
        return False  # whatever cannot be written will say so
    return True


def writes(name: str) -> Callable[[Callable], Callable]:
    """Decorate a stage that holds the lock of its output, the argument of this name, while it runs."""

    def decorate(stage: Callable) -> Callable:
        signature = inspect.signature(stage)

        @functools.wraps(stage)
        def locked(*args: Any, **kwargs: Any) -> Any:
            output = signature.bind(*args, **kwargs).arguments.get(name)
            if output is None:
                return stage(*args, **kwargs)
            with exclusive(output):
                return stage(*args, **kwargs)

        return locked

    return decorate


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns those that were not there, the innermost first."""
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    if missing:
        with suppress(OSError):
            missing[0].mkdir(parents=True, exist_ok=True)
    return missing
