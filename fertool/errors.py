"""What fertool raises when a user can do something about it.

Every error carries one line that says what is wrong and, where there is one, a second line with the way out. The
command line prints both without a traceback and ends with the class's exit code.
"""

import difflib
import errno
from collections.abc import Iterable


class FertoolError(Exception):
    """A problem with a message for the user, a hint that names the way out, and facts to print beside it as JSON."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None, *, facts: dict | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts or {}


class UsageError(FertoolError):
    """An option, name or combination that cannot be meant."""

    exit_code = 2


class DataError(FertoolError):
    """A data set that is missing, incomplete or unreadable."""

    exit_code = 3


class ArtefactError(FertoolError):
    """An artefact of the wrong kind, of other parents, damaged, newer or foreign."""

    exit_code = 3


class RecipeError(FertoolError):
    """A recipe or setting that is unknown or out of range."""

    exit_code = 4


class DeviceError(FertoolError):
    """A GPU that is not there, or weights that do not fit."""

    exit_code = 5


class NotFiniteError(FertoolError):
    """A loss, weights or logits that are NaN or infinite."""

    exit_code = 5


class OutOfMemoryError(FertoolError):
    """Work for which the memory of the machine or of its GPU does not suffice."""

    exit_code = 5


class Stopped(FertoolError):
    """Work that was interrupted after its state had been saved."""

    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint for an unknown name: the closest known one if there is one, else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)


_NO_MEMORY = ("not enough memory", "out of memory", "bad allocation", "bad_alloc", "insufficient memory")


def is_out_of_memory(e: BaseException) -> bool:
    """Whether an exception of Python, numpy, OpenCV, dlib or torch (on a CPU) says that memory ran out."""
    if isinstance(e, OSError) and e.errno is not None:
        return e.errno == errno.ENOMEM
    return isinstance(e, MemoryError) or any(words in str(e).lower() for words in _NO_MEMORY)
