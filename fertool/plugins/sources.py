"""Code that comes from the user's own files and modules: which of it may run, how it is found, and its digest.

A file `nets/mynet.py` becomes the module `fertool.plugins.mynet_1a2b3c4d`. Importing that name works in every process
of a command, so that objects of its classes can be pickled: what is allowed stands in the environment, which child
processes inherit.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

from fertool.errors import FertoolError, UsageError, nearest, out_of_memory

#: what the user allows for every command; and what this command's arguments name, for its child processes
VARIABLE, _MENTIONED = VARIABLES = "FERTOOL_PLUGINS", "FERTOOL_PLUGINS_MENTIONED"

_REFERENCE = r"(?:[A-Za-z_]\w*(?:\.\w+)*|[^\n]+?\.py):[A-Za-z_]\w*"
_PREFIX = "fertool.plugins."


def is_foreign(reference: str) -> bool:
    """Return whether a reference is FILE.py:NAME or MODULE:NAME."""
    return re.fullmatch(_REFERENCE, reference) is not None


def stored(reference: str) -> str:
    """Return a reference as artefacts store it: of a file without its folder."""
    where, _, name = reference.rpartition(":")
    return f"{Path(where).name}:{name}" if where.endswith(".py") else reference


def listed(variable: str = VARIABLE) -> dict[str, str]:
    """Return the references in an environment variable: as artefacts store them -> with the absolute path of a file."""
    entries = re.findall(rf"\s*({_REFERENCE})\s*(?:,|$)", os.environ.get(variable, ""))
    return {stored(entry): _absolute(entry) for entry in entries}


def allowed() -> dict[str, str]:
    """Return all that may be loaded, as `listed` does."""
    return listed() | listed(_MENTIONED)


def allow(reference: str) -> None:
    """Allow this process and its children to load a file (relative to the working folder) or an import path."""
    mentioned = listed(_MENTIONED) | {stored(reference): _absolute(reference)}
    os.environ[_MENTIONED] = ",".join(mentioned.values())


def allow_mentioned(values: Iterable[Any]) -> None:
    """Allow the references among values that the user has typed: arguments, options, `section.key=value` entries."""
    for value in values:
        if isinstance(value, Mapping):
            allow_mentioned(value.values())
        elif isinstance(value, list | tuple):
            allow_mentioned(value)
        elif isinstance(value, str):
            _, _, after = value.partition("=")
            reference = after if after and not os.path.isfile(value.rpartition(":")[0]) else value
            if is_foreign(reference):
                allow(reference)


def _absolute(reference: str) -> str:
    where, _, name = reference.rpartition(":")
    return f"{os.path.abspath(os.path.expanduser(where))}:{name}" if where.endswith(".py") else reference


def load(reference: str, noun: str) -> Any:
    """Return the object that a file or an import path names.

    Raises:
        UsageError: the user has not named it, or it is not there or cannot be imported.
    """
    path = allowed().get(stored(reference))
    if path is None:
        raise UsageError(
            f"{noun} {reference} is code outside fertool, which runs only if you name it",
            f"if you trust it: export {VARIABLE}={'FOLDER/' if '.py:' in reference else ''}{stored(reference)}",
        )
    where, _, name = path.rpartition(":")
    if where.endswith(".py") and not os.path.isfile(where):
        raise UsageError(f"there is no file {where}, which defines the {noun} {name}", "correct its path")
    with import_errors(where, f"python {where} shows where" if where.endswith(".py") else "see --debug"):
        module = import_module(_module_name(where) if where.endswith(".py") else where)
    if not hasattr(module, name):
        own = [n for n, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise UsageError(f"{where} defines no {name}", nearest(name, own))
    return getattr(module, name)


@contextmanager
def import_errors(where: str, hint: str) -> Iterator[None]:
    """Turn what the code of a plugin raises into an error of one line."""
    try:
        yield
    except FertoolError:
        raise
    except Exception as error:
        if problem := out_of_memory(error):
            raise problem from error
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        said = " ".join(str(error).split())
        raise UsageError(f"{where} cannot be imported: {type(error).__name__}: {said}{line}", hint) from error


def digest_of(plugin: Any) -> str:
    """Return the digest of the file that defines a class or function, as it was when imported; "" for fertool's own."""
    module = str(plugin.__module__)
    if module.startswith("fertool.") and not module.startswith(_PREFIX):
        return ""
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None:
        return ""
    if path not in _digests:
        _digests[path] = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
    return _digests[path]


_digests: dict[str, str] = {}


def _module_name(path: str) -> str:
    stem = re.sub(r"\W", "_", Path(path).stem)
    return f"{_PREFIX}{stem}_{hashlib.blake2b(path.encode(), digest_size=4).hexdigest()}"


class _Loader(SourceFileLoader):
    """Loads a file without leaving bytecode beside it."""

    def set_data(self, *_: Any, **__: Any) -> None:
        """Write nothing."""


class _Finder:
    """Finds the modules of allowed files."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.startswith(_PREFIX):
            for reference in allowed().values():
                file = reference.rpartition(":")[0]
                if file.endswith(".py") and _module_name(file) == name:
                    return spec_from_file_location(name, file, loader=_Loader(name, file))
        return None


sys.meta_path.append(_Finder)
