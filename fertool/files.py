"""Final files are written beside their place and renamed: a reader sees the old file or the new one, never a part."""

import errno
import os
import re
import socket
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fertool.errors import DataError
from fertool.outputs import Inode, check_output, is_stream

#: what does not depend on the path: to write elsewhere does not help, to make room does
FULL = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))

_HOST = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())[:40]
_TEMPORARY = re.compile(r"\.fertool-(?P<host>[A-Za-z0-9-]*)-(?P<pid>\d+)-[0-9a-f]{12}\.tmp(\.\w+)?")


@contextmanager
def replacing(
    path: Path | str, *, durable: bool = False, sources: Collection[Inode] = (), artefact: bool = False
) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` when the block ends without an error.

    The temporary file lies in the same folder, with the same suffix, under a name that no other process, on whatever
    host, can have. A link stays one: what it leads to is replaced. A device or pipe is yielded itself.

    Args:
        durable: wait until the disk has it, so that it also survives a power cut; that takes a hundredth of a second.
        sources, artefact: see `outputs.check_output`.

    Raises:
        UsageError: the file is there and fertool did not write it, or it is a source.
        DataError: no room, no permission.
    """
    path = Path(path)
    check_output(path, sources=sources, artefact=artefact)
    if is_stream(path):
        with writing(path):
            yield path
        return
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    part = path.with_name(f".fertool-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:12]}.tmp{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            if durable:
                rename(part, path)
            else:
                os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def rename(part: Path, path: Path) -> None:
    """Put a finished file in its place, durably."""
    _sync(part, os.O_RDWR)
    os.replace(part, path)
    with suppress(OSError):  # Windows and some network file systems cannot sync a folder
        _sync(path.parent, os.O_RDONLY)


def write(path: Path | str, content: bytes | str, *, sources: Collection[Inode] = ()) -> Path:
    """Write a whole file; text as UTF-8, its line ends as they are."""
    with replacing(path, sources=sources) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn a full disk, a missing permission and the like into a DataError that names the file."""
    try:
        yield
    except (OSError, RuntimeError) as e:
        # h5py raises either, and may carry HDF5's whole story with the number somewhere inside
        number = getattr(e, "errno", None) or next(map(int, re.findall(r"errno = (\d+)", str(e))), None)
        if number is None:
            raise
        raise DataError(
            f"cannot write {path}: {os.strerror(number)}",
            "make room and run the same command again"
            if number in FULL
            else "choose another place with --workspace or --out",
        ) from e


def is_temporary(name: str) -> bool:
    """Return whether a file name is one that `replacing` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes of this host that were killed."""
    with suppress(OSError):
        for name in os.listdir(folder):
            found = _TEMPORARY.fullmatch(name)
            if found and found["host"] == _HOST and not _runs(int(found["pid"])):
                with suppress(OSError):
                    (folder / name).unlink()


def _runs(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
