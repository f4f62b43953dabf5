"""What fertool raises when a user can do something about it.

Every error carries one line that says what is wrong and, where there is one, a second line with the way out. The
command line prints both without a traceback and ends with the class's exit code.
"""

import difflib
import errno
import re
from collections.abc import Iterable

#: what libraries say that can get no more memory: numpy, torch on CPU and GPU, OpenCV, HDF5, onnxruntime, the loader of
#: shared libraries, and Python itself for a thread
_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|insufficient memory|(can.?t|cannot|unable to|failed to) allocate|bad.?alloc"
    r"|memory allocation failed|ALLOC_FAILED|failed to map segment|can't start new thread",
    re.I,
)
_OF_GPU = re.compile(r"CUDA|CUBLAS|CUDNN|HIP|GPU")


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
    """A dataset that is missing, incomplete or unreadable."""

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


def out_of_memory(error: BaseException | None) -> OutOfMemoryError | None:
    """Tell whether an error, or what it was raised from, is a lack of memory, whichever library noticed it."""
    while error is not None:
        said = " ".join(str(error).split())
        of_library = isinstance(error, RuntimeError | OSError | ImportError) or type(error).__module__ == "cv2"
        if isinstance(error, OutOfMemoryError):
            return error
        if (
            isinstance(error, MemoryError)
            or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
            or (of_library and _NO_MEMORY.search(said))
        ):
            whose = "the GPU" if _OF_GPU.search(said) else "this machine"
            return OutOfMemoryError(f"the memory of {whose} does not suffice" + (f": {said[:150]}" if said else ""))
        error = error.__cause__
    return None


class Stopped(FertoolError):
    """Work that was interrupted after its state had been saved."""

    exit_code = 130


def nearest(name: str, known: Iterable[str], *, listed: Iterable[str] | None = None) -> str:
    """Return the hint for an unknown name: the closest known one if there is one, else all, or those `listed`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(sorted(listed or known))
