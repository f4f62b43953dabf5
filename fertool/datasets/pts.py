"""Landmarks in `.pts` files beside their images, as iBUG distributes 300-W, HELEN, AFW, LFPW and others."""

import os
from pathlib import Path

import numpy as np

from fertool.datasets.disk import PICTURES, ignored
from fertool.errors import DataError


def landmarked(root: Path) -> list[tuple[Path, Path]]:
    """Return the images below a folder that have a `.pts` file of the same name beside them, with it, sorted.

    Raises:
        DataError: there is no folder or no such pair, or a `.pts` file lies without its image.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    found, alone = [], []
    for folder, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not ignored(name))
        pictures = {os.path.splitext(n)[0]: n for n in sorted(files) if os.path.splitext(n)[1].lower() in PICTURES}
        for name in sorted(files):
            stem, ending = os.path.splitext(name)
            if ending.lower() != ".pts" or ignored(name):
                continue
            if stem in pictures:
                found.append((Path(folder, pictures[stem]), Path(folder, name)))
            else:
                alone.append(Path(folder, name))
    if alone:
        raise DataError(f"{len(alone):,} .pts files without an image of the same name beside them: {alone[0]}")
    if not found:
        raise DataError(
            f"there are no .pts files in {root} or below", "landmarks belong into photo.pts beside photo.jpg"
        )
    return found


def read_points(path: Path) -> np.ndarray:
    """Return (K, 2) x, y in pixels, the centre of the top-left one being (0, 0).

    A file in iBUG's format says `version: 1`, `n_points: K`, and counts pixels from one between its braces. Lines of
    numbers without all that are taken to count from zero.

    Raises:
        DataError: unreadable, not of this format, or not as many points as it says; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not a .pts file: it holds no text") from e
    points, said = [], None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or line.startswith(("version", "{", "}", "//", "#")):
            continue
        try:
            if line.startswith("n_points"):
                said = int(line.partition(":")[2])
                continue
            x, y = map(float, words)
            if not (abs(x) < 1e6 and abs(y) < 1e6):  # nor NaN
                raise ValueError
        except ValueError:
            raise DataError(f"{path}, line {number}: two numbers are expected, not {line.strip()[:40]!r}") from None
        points.append((x, y))
    if said is not None and said != len(points):
        raise DataError(f"{path} holds {len(points)} points and says {said}")
    if not points:
        raise DataError(f"{path} holds no points")
    return np.array(points) - (said is not None)
