"""Imported by every Python process with this folder on its path: takes away what Windows lacks, and what it forbids.

Modules and functions that only POSIX systems have are gone, an open or mapped file cannot be replaced or removed, and
text that is opened without an encoding is an error inside fertool.
"""

import os
import signal
import sys
import warnings
from pathlib import Path

import filelock  # noqa: F401 (chooses its way by what it finds: the one for Windows cannot be tried here)

MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty")
FUNCTIONS = (
    *("fork", "pread", "preadv", "pwrite", "pwritev", "sched_getaffinity", "posix_fallocate", "posix_fadvise"),
    *("getuid", "geteuid", "getpgid", "killpg", "sync", "fchmod", "chown", "mkfifo", "sendfile", "nice", "statvfs"),
)


class _Gone:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in MODULES:
            raise ImportError(f"no module named {name!r} on this system")


for name in MODULES:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, _Gone)
for name in FUNCTIONS:
    delattr(os, name)
for name in ("pthread_sigmask", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "setitimer", "alarm"):
    delattr(signal, name)


def _kill(pid, number, kill=os.kill):
    assert number, "on Windows this kills the process"
    kill(pid, number)


def _refusing(change):
    def changed(*places, **options):
        for place in map(os.path.realpath, places):
            held = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
            maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
            mapped = {line.split(maxsplit=5)[-1].strip() for line in maps}
            if place in held | mapped:
                raise PermissionError(13, f"open or mapped by this process, in {change.__name__}", place)
        return change(*places, **options)

    return changed


os.kill = _kill
os.replace, os.rename, os.unlink, os.remove = map(_refusing, (os.replace, os.rename, os.unlink, os.remove))
warnings.filterwarnings("error", category=EncodingWarning, module=r"fertool\b")
