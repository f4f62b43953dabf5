"""All runs of a workspace, from the attributes of their files alone."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fertool import artefact, locks, run_folders
from fertool.artefact.schema import Header
from fertool.errors import ArtefactError, FertoolError, nearest
from fertool.evaluation import summary
from fertool.stages.runs.kept import Kept, Stamp
from fertool.workspace import Workspace

Sort = Literal["date", "name", "network", "epochs", "accuracy", "size"]

#: settings that change how fast a run goes, not where
_SPEED = {"train.cache", "train.checkpoint_minutes", "train.compile"}
_COLUMN = {"date": "created", "size": "bytes"}
_UPWARDS = ("name", "network")
_PREDICTIONS = re.compile(r"predictions(-.*)?\.h5")
_FACTS = (
    *("network", "variant", "recipe", "fold", "seed", "epochs", "epochs_planned", "iterations", "iterations_planned"),
    *("finished", "problem", "metric", "accuracy", "split", "role", "faces", "created"),
)

#: keys of an entry, in this order
COLUMNS = ("name", "data", "sweep", *_FACTS, "state", "bytes", "path", "latest", "settings")

Entry = dict[str, Any]


def entries(
    workspace: Workspace,
    *,
    data: str | None = None,
    network: str | None = None,
    variant: str | None = None,
    sweep: str | None = None,
    finished: bool | None = None,
    sort: Sort = "date",
    reverse: bool = False,
) -> list[Entry]:
    """Return what there is to say of every run; one that cannot be read has a `problem`.

    Args:
        data, network, variant, sweep: names; only runs of these. The network's own name is the variant without changes.
        finished: only runs that are, or are not.
        sort: by date (the newest first), name, network, or epochs, accuracy or size (the largest first).
        reverse: the other way round; what has no value stays last.

    Returns:
        per run {"name", "data", "sweep", "path", "network", "variant", "recipe", "fold", "seed", "settings" (those that
        differ among runs of its network and variant in its dataset, or in its sweep), "epochs", "epochs_planned" (None
        where iterations are planned), "iterations", "iterations_planned", "finished", "state" (finished, unfinished,
        training, unreadable or empty), "problem", "metric", "accuracy" (or another metric; a fraction), "split" (where
        it was measured), "role" (of that split: test or validation), "faces" (how many; None if it was measured in
        training), "created", "bytes", "latest" (whether commands take it where no run is named)}

    Raises:
        ArtefactError: there is no such dataset.
    """
    if data is not None and data not in (known := workspace.folders()):
        raise ArtefactError(f"there is no dataset {data!r} in {workspace.root}", nearest(data, known))
    latest = next(reversed(workspace.runs()), None)
    kept = Kept(workspace.root)
    found = []
    for folder in workspace.run_folders(sweeps=True):
        entry, params = _entry(folder, kept)
        if data in (None, entry["data"]):
            found.append((entry | {"latest": folder == latest}, params))
    kept.save()
    _add_settings(found)
    chosen = [
        e
        for e, _ in found
        if network in (None, e["network"])
        and sweep in (None, e["sweep"])
        and (variant is None or variant == (e["variant"] or e["network"]))
        and finished in (None, e["finished"])
    ]
    return _sorted(chosen, sort, reverse)


def _entry(folder: Path, kept: Kept) -> tuple[Entry, dict[str, Any]]:
    """Return what there is to say of a run, and its settings by dotted key."""
    total, stamp = _survey(folder)
    facts = dict.fromkeys(_FACTS)
    params: dict[str, Any] = {}
    is_written = _is_written(folder)
    try:
        found = kept.get(folder, stamp)
        if found is None:
            header = _header(folder)
            settings = artefact.flatten({k: header.params[k] for k in ("model", "train")})
            found = [_facts(folder, header), settings]
            kept.put(folder, stamp, found)
        read, params = found
        facts |= read
        state = "finished" if facts["finished"] else "unfinished"
    except FertoolError as e:
        facts["problem"], state = e.message, "unreadable"
    except FileNotFoundError:
        facts["problem"] = "nothing is saved yet" if is_written else "its training ended before anything was saved"
        state = "empty"
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as e:  # of a file that others wrote
        facts["problem"], state = f"{folder / 'run.h5'}: {artefact.one_line(e)}", "unreadable"
    entry = {
        "name": run_folders.name_of(folder),
        "data": run_folders.data_folder(folder).name,
        "sweep": run_folders.sweep_of(folder),
        **facts,
        "state": "training" if is_written else state,
        "bytes": total,
        "path": str(folder),
    }
    return entry, params


def _header(folder: Path) -> Header:
    """Read the attributes of a run.

    Raises:
        FileNotFoundError: nothing is saved.
        ArtefactError: it cannot be read.
    """
    path = folder / "run.h5"
    try:
        path.stat()
    except FileNotFoundError:
        raise
    except OSError as e:
        raise ArtefactError(f"cannot read {path}: {e.strerror}") from e
    return artefact.peek(path, "run")


def _facts(folder: Path, header: Header) -> Entry:
    train, model = header.params["train"], header.params["model"]
    done = header.info.get("summary") or summary.of_run_file(artefact.read(folder / "run.h5", "run"))
    by_iterations = train.get("iterations") is not None
    return {
        "network": str(model["name"]),
        "variant": header.params["variant"],
        "recipe": header.params["recipe"],
        "fold": train.get("fold"),
        "seed": train.get("seed"),
        "epochs": int(done["epochs"]),
        "epochs_planned": None if by_iterations else train.get("epochs"),
        "iterations": int(done["iterations"]),
        "iterations_planned": train.get("iterations"),
        "finished": bool(done["finished"]),
        "created": header.info.get("created"),
        **_accuracy(folder, header, done),
    }


def _accuracy(folder: Path, header: Header, done: Mapping) -> Entry:
    """Return the accuracy of the run's predictions, else that of the validation split in training."""
    train = header.params["train"]
    watched = str(train["val_split"])
    for split in dict.fromkeys(("test", watched)):
        path = folder / ("predictions.h5" if split == "test" else f"predictions-{split}.h5")
        try:
            predictions = artefact.peek(path, "predictions")
            kept = predictions.info.get("summary")
            if kept is None:
                opened = artefact.read(path, "predictions")
                kept = summary.of_predictions(opened["label"], opened["logits"]) if opened.classes else {}
            own = {p.role: p.digest for p in predictions.inputs}.get("run") == header.digest
        except (FertoolError, OSError, KeyError, TypeError, ValueError):
            continue  # eval says what is wrong with it
        if own and kept.get("accuracy") is not None:
            return _measured("accuracy", float(kept["accuracy"]), split, train, int(kept["faces"]))
    if (score := done.get("score")) is not None:
        return _measured(str(done["metric"]), float(score), watched, train, None)
    return {}


def _measured(metric: str, value: float, split: str, train: Mapping, faces: int | None) -> Entry:
    """Return a result with the role of its split: validation, if it is watched in training and not only reported."""
    decides = train["select_on"] != "last" or split != "test"
    role = "validation" if split == train["val_split"] and decides else "test"
    return {"metric": metric, "accuracy": value, "split": split, "role": role, "faces": faces}


def _is_written(folder: Path) -> bool:
    """Return whether a training is writing to a run: its lock is there, and somebody holds it."""
    return (folder.parent / f".{folder.name}.lock").exists() and not locks.is_free(folder)


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder and those below; what may not be read is left out."""
    return _survey(folder)[0]


def _survey(folder: Path) -> tuple[int, Stamp]:
    """Return the bytes of a folder's files, and the stamp of those that are read for the list."""
    total, stamp = 0, []
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            with suppress(OSError):
                found = os.lstat(os.path.join(parent, name))
                total += found.st_size
                if parent == str(folder) and (name == "run.h5" or _PREDICTIONS.fullmatch(name)):
                    stamp.append([name, found.st_ino, found.st_size, found.st_mtime_ns])
    return total, stamp


def _add_settings(found: Sequence[tuple[Entry, dict[str, Any]]]) -> None:
    """Add to every run those of its settings that are not the same in all runs of its kind."""
    groups: dict[tuple, list[tuple[Entry, dict[str, Any]]]] = {}
    for entry, params in found:
        kind = tuple(entry[key] for key in ("data", "sweep", "network", "variant"))
        groups.setdefault(kind, []).append((entry, params))
    for group in groups.values():
        values: dict[str, set[str]] = {}
        for _, params in group:
            for key, value in params.items():
                values.setdefault(key, set()).add(repr(value))
        differing = [k for k in sorted(values) if len(values[k]) > 1 and k not in _SPEED]
        for entry, params in group:
            entry["settings"] = {key: params[key] for key in differing if key in params}


def _sorted(found: list[Entry], sort: Sort, reverse: bool) -> list[Entry]:
    column = _COLUMN.get(sort, sort)
    found = sorted(found, key=lambda e: e["name"])
    without = [e for e in found if e[column] is None]
    found = [e for e in found if e[column] is not None]
    return sorted(found, key=lambda e: e[column], reverse=reverse != (sort not in _UPWARDS)) + without


def local_time(created: str | None) -> str | None:
    """Return a time of a file's attributes as the clock here shows it."""
    try:
        moment = datetime.strptime(created or "", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return created
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
