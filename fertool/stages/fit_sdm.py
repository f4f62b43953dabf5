"""fit-sdm: images or faces with landmarks → the steps of a supervised descent (landmarks.h5)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fertool import artefact, console, locks
from fertool.artefact import Artefact, Parent
from fertool.datasets import pts
from fertool.datasets.base import some
from fertool.errors import DataError, FertoolError, UsageError
from fertool.faces import sdm
from fertool.faces.images import read_image
from fertool.faces.status import OK, SEVERAL
from fertool.regions.points import KNOWN_SETS, usable
from fertool.settings import FitSdm

_FEW = 10  # faces: fewer teach nothing


@dataclass(frozen=True)
class _Landmarked:
    """A face to learn from: its name, its (K, 2) landmarks, and how to get at its pixels."""

    name: str
    points: np.ndarray
    read: Callable[[], np.ndarray]


@locks.writes("out")
def run(paths: Sequence[Path], *, settings: FitSdm, out: Path, overwrite: bool = False) -> Path:
    """Learn from everything named, together.

    Args:
        paths: faces files, and folders of images that have `.pts` files beside them.

    Raises:
        UsageError: nothing is named, or mirror images are asked for of landmarks whose mirror is not known.
        DataError: an image or `.pts` file cannot be read, faces differ in their number of landmarks, or are few.
        ArtefactError: a named file holds no faces with landmarks, or `out` holds other work.
    """
    if not paths:
        raise UsageError("nothing to learn from is named", "name faces.h5 files, or folders of images with .pts")
    faces: list[_Landmarked] = []
    inputs: list[Parent] = []
    for path in map(Path, paths):
        more, parent = _of_folder(path) if path.is_dir() else _of_file(path, settings.splits)
        faces += more
        inputs.append(Parent(f"faces-{len(inputs) + 1}", *parent))
    points = _check(faces, settings)
    params = {**settings.as_dict(), "points": points, "size": sdm.SIZE, "eyes": sdm.EYES}
    out = Path(out)
    if artefact.up_to_date(out, "landmarks", params, inputs, overwrite=overwrite):
        console.say(f"{out} is up to date")
        return out
    cascade, errors, count = _fit(faces, settings)
    arrays = {
        "mean": cascade.mean,
        "cells": np.array(settings.cells),
        "error": np.array(errors),
        "faces": np.array(count),
    }
    for i, step in enumerate(cascade.steps):
        arrays |= {f"steps/{i}/weights": step.weights, f"steps/{i}/bias": step.bias}
    info = artefact.make_info(settings.seed)
    artefact.save(out, "landmarks", arrays, params=params, inputs=inputs, info=info)
    return out


def _of_folder(root: Path) -> tuple[list[_Landmarked], tuple[str, str, str, str]]:
    """Return the landmarked images below a folder, and what tells them from others."""
    faces, digest, broken = [], hashlib.blake2b(digest_size=16), []
    for picture, marks in pts.landmarked(root):
        try:
            points = pts.read_points(marks)
            if not usable(points):
                raise DataError(f"{marks}: all landmarks lie in one place")
        except DataError as e:
            broken.append(e)
            continue
        name = str(picture.relative_to(root))
        with open(picture, "rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
        digest.update(repr(name).encode() + content + points.tobytes())
        faces.append(_Landmarked(str(picture), points, partial(read_image, picture)))
    _refuse(broken, "landmark files")
    return faces, ("images", root.resolve().name, "", digest.hexdigest())


def _of_file(path: Path, splits: Sequence[str]) -> tuple[list[_Landmarked], tuple[str, str, str, str]]:
    """Return the faces of a file that have landmarks and belong to the splits."""
    stored = artefact.read(path, "faces")
    stored.verify()
    if "landmarks" not in stored:
        raise UsageError(f"{path} has no landmarks", "make it with: fertool detect-align ... --landmarks dataset")
    placed_by = stored.params.get("landmarks")
    if placed_by in ("ert68", "mtcnn5", "sdm"):
        console.say(f"note: the landmarks of {path} were placed by {placed_by}; the model can only imitate it")
    images, marks, split = stored["images"], np.asarray(stored["landmarks"], dtype=np.float64), stored["split"]
    marked = usable(marks)
    chosen = marked & np.isin(stored["status"], (OK, SEVERAL)) & np.isin(split, ("", *splits))
    if not chosen.any():
        raise DataError(
            f"{path} has no face with landmarks in {some(splits)}",
            f"it has: {some(dict.fromkeys(split[marked])) or 'none at all'}; see --set fit-sdm.splits",
        )
    faces = [
        _Landmarked(stored.ids[r], marks[r], partial(_picture, images, r)) for r in np.flatnonzero(chosen).tolist()
    ]
    parent = stored.as_parent()
    return faces, (parent.kind, parent.name, parent.uid, parent.digest)


def _picture(images: np.ndarray, row: int) -> np.ndarray:
    image = images[row]
    return np.asarray(image[..., 0] if image.shape[2] == 1 else image)


def _check(faces: Sequence[_Landmarked], settings: FitSdm) -> int:
    """Return how many landmarks each of the faces has, the same for all of them."""
    counts: dict[int, str] = {}
    for face in faces:
        counts.setdefault(len(face.points), face.name)
    if len(counts) > 1:
        named = ", ".join(f"{n} in {name}" for n, name in sorted(counts.items()))
        raise DataError(f"faces have different numbers of landmarks: {named}", "learn from those of one kind")
    count = next(iter(counts))
    if count not in KNOWN_SETS:
        raise DataError(
            f"{count} landmarks are no known set ({counts[count]})", f"known: {some(map(str, KNOWN_SETS))} landmarks"
        )
    if settings.mirror and count not in sdm.MIRRORED:
        raise UsageError(f"how {count} landmarks lie in the mirror is not known", "add --set fit-sdm.mirror=false")
    if len(faces) < _FEW:
        raise DataError(f"{len(faces)} faces are too few to learn from", f"at least {_FEW}")
    return count


def _fit(faces: Sequence[_Landmarked], settings: FitSdm) -> tuple[sdm.Cascade, list[float], int]:
    """Return the cascade, its errors, and how many faces it was learned from."""
    images = 2 if settings.mirror else 1
    most = max(_FEW, settings.max_samples // (images * settings.perturbations))
    if len(faces) > most:
        drawn = np.random.default_rng(settings.seed).choice(len(faces), most, replace=False)
        faces = [faces[i] for i in sorted(drawn)]
    mean = sdm.mean_shape([face.points for face in faces])
    if settings.mirror:
        across = mean[sdm.MIRRORED[len(mean)]] * (-1, 1) + (sdm.SIZE - 1, 0)
        mean = sdm.mean_shape([(mean + across) / 2])
    ready, broken = [], []
    with console.progress("read", len(faces), "face") as advance:
        for face in faces:
            try:
                ready.append(sdm.close_up(face.read(), face.points, mean))
            except DataError as e:
                broken.append(e)
            advance()
    _refuse(broken, "images")
    if settings.mirror:
        ready += [face.mirrored() for face in ready]
    how = ("cells", "perturbations", "rotation", "scale", "shift", "ridge", "seed")
    with console.progress("fit-sdm", len(settings.cells), "step") as advance:
        cascade, errors = sdm.fit(ready, mean, **{name: getattr(settings, name) for name in how}, advance=advance)
    return cascade, errors, len(faces)


def _refuse(broken: Sequence[FertoolError], what: str) -> None:
    if broken:
        others = f", and {len(broken) - 1:,} other {what}" if len(broken) > 1 else ""
        raise DataError(f"{broken[0].message}{others}", "take them out, or mend them")


def summary(path: Path) -> dict:
    """Return points, faces (how many trained it), steps [{cell, error}], start (error before the first step)."""
    stored: Artefact = artefact.read(path, "landmarks")
    errors = np.asarray(stored["error"]).tolist()
    return {
        "path": str(path),
        "points": stored.params["points"],
        "faces": int(stored["faces"]),
        "mirror": stored.params["mirror"],
        "start": errors[0],
        "steps": [
            {"cell": cell, "error": e} for cell, e in zip(np.asarray(stored["cells"]).tolist(), errors[1:], strict=True)
        ],
    }


def report(summary: dict) -> None:
    """Print the training error at the start and after every step."""
    mirror = " and their mirror images" if summary["mirror"] else ""
    console.say(f"{summary['path']}: {summary['points']} landmarks, trained on {summary['faces']:,} faces{mirror}")
    rows: list[tuple[str, str | None, str]] = [("start", None, f"{100 * summary['start']:.2f} %")]
    rows += [(f"{i}", f"{s['cell']:g}", f"{100 * s['error']:.2f} %") for i, s in enumerate(summary["steps"], 1)]
    console.show(console.table("error on the training faces", ("step", "cell", "mean error"), rows))
    console.say("mean error relative to the distance between the eyes; on other faces it is larger")
