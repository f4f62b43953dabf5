"""What decides an artefact: settings and parents, and whether a file already holds this work."""

import json
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from fertool import __version__
from fertool.artefact.layout import Parent
from fertool.artefact.reading import Artefact, read
from fertool.errors import ArtefactError
from fertool.outputs import check_output


def make_info(seed: int | None = None) -> dict:
    """Return what is recorded beside the settings: versions, command line, seed, time."""
    versions = {"fertool": __version__, "python": platform.python_version(), "numpy": np.__version__}
    versions["h5py"] = h5py.__version__
    for name in ("torch", "torchvision", "lightning", "cv2", "dlib", "timm"):
        if name in sys.modules:
            versions[name] = str(getattr(sys.modules[name], "__version__", "?"))
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {"versions": versions, "command": command, "seed": seed, "created": created}


def up_to_date(path: Path, kind: str, params: Mapping, inputs: Iterable[Parent], *, overwrite: bool = False) -> bool:
    """Return whether `path` already holds exactly this work, so that the stage has nothing to do.

    Raises:
        UsageError: fertool did not write the file.
        ArtefactError: the file holds other work and `overwrite` is not set; the message lists what differs. Or it holds
            work of another kind, or is one of the inputs, which `overwrite` does not replace either.
    """
    path, inputs = Path(path), tuple(inputs)
    if not path.exists():
        return False
    check_output(path, artefact=True)
    try:
        old = read(path)
    except ArtefactError:
        if overwrite:
            return False
        raise
    if old.kind != kind:
        raise ArtefactError(f"{path} already exists and holds {old.kind!r}, not {kind!r}", "choose another --out")
    if old.uid in {parent.uid for parent in inputs}:
        raise ArtefactError(f"{path} is what it would be made from", "choose another --out")
    if overwrite:
        return False
    different = differences(old, params, inputs)
    if not different:
        return True
    raise ArtefactError(
        f"{path} was made with other settings: " + "; ".join(different), "add --overwrite to make it again"
    )


def differences(old: Artefact, params: Mapping, inputs: Iterable[Parent], ignore: Iterable[str] = ()) -> list[str]:
    """Return how settings (dotted keys) and parents (roles) differ from those of a file, ignored ones left out."""
    new = json.loads(json.dumps(params, sort_keys=True, default=str))
    before, now = flatten(old.params), flatten(new)
    keys = sorted((before.keys() | now.keys()) - set(ignore))
    out = [f"{k} {_show(before.get(k, '-'))} → {_show(now.get(k, '-'))}" for k in keys if before.get(k) != now.get(k)]
    a, b = {p.role: p for p in old.inputs}, {p.role: p for p in inputs}
    for role in sorted((a.keys() | b.keys()) - set(ignore)):
        if role not in a or role not in b:
            out.append(f"{role} {'added' if role in b else 'no longer given'}")
        elif a[role].digest != b[role].digest:
            names = dict.fromkeys((a[role].name, b[role].name))
            out.append(f"another {role}{' of the same name' if len(names) == 1 else ''} ({' → '.join(names)})")
    return out


def flatten(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """Return nested settings by dotted key."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _show(value: object) -> str:
    shown = json.dumps(value, default=str)
    return shown if len(shown) <= 60 else shown[:57] + "..."
