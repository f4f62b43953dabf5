"""render: no input → a folder of labelled rendered faces, the embedded dataset."""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fertool import console, files, locks, pool
from fertool.datasets.rendered import COLUMNS, LANDMARKS, TABLE
from fertool.datasets.tabular import header
from fertool.errors import DataError, UsageError

if TYPE_CHECKING:
    from fertool.rendering.plan import Planned

SETTINGS = "rendered.json"

_RENDERER = 1  # raised whenever the same settings give other pictures

_LATER = {
    "mixed": 0,
    "occluded": 0.25,
    "turned": 0.2,
    "varied": False,
}  # defaults of settings that are recorded only where they differ

_README = """\
Rendered faces
==============

These faces are computed, not photographed: they belong to nobody. fertool made them by casting rays at the MakeHuman
head (base mesh, shape targets and Face Units, CC0 1.0), so the pictures may be used for anything.

They show that a pipeline works and let a method be tried without a download. They are no benchmark: an accuracy on
them says nothing about images and must not be compared with published numbers.

rendered.csv    id, path, label (none where eyes and mouth show two expressions), split, subject; head pose in degrees
                (yaw > 0 looks to the picture's right, pitch > 0 up, roll > 0 turned clockwise as seen); what covers the
                face; intensity of the expression (0 to 1); attr_...: 1 where the face shows the attribute, -1 where not
                or where that part is covered. People are disjoint between train, val and test.
landmarks.npy   (N, 68, 2) float32: the iBUG landmarks in pixels, in the order of the rows of rendered.csv; the centre
                of the top-left pixel is (0, 0). Points of the jaw are points of the skin: on a turned head they do not
                slide to the visible outline.
rendered.json   the settings they were rendered with.
"""


@locks.writes("out_dir")
def run(
    out_dir: Path,
    *,
    people: int = 40,
    per_person: int = 21,
    mixed: int = 0,
    size: int = 160,
    seed: int = 0,
    occluded: float = 0.25,
    turned: float = 0.2,
    varied: bool = False,
    overwrite: bool = False,
) -> Path:
    """Render a dataset into a folder, on all cores. What an interrupted call finished is kept.

    Args:
        out_dir: the folder; made if need be.
        people: number of subjects, at least 3 (one for each split).
        per_person: images of each. size: side in pixels. seed: the same seed gives the same pixels.
        mixed: further images of each, without a label, whose eyes and mouth show two different expressions.
        occluded, turned: shares of the images, 0 to 1, that have an occluder and that come from the wide range of
            poses (up to 75° of yaw).
        varied: show expressions in further ways too: speaking, shouting, crying, see `rendering.expressions.VARIED`.
        overwrite: replace rendered faces of other settings.

    Returns:
        out_dir.

    Raises:
        DataError: a package of the `demo` extra is missing, or the folder holds other files, or other faces.
        UsageError: a number that makes no dataset.
    """
    from fertool.rendering.head import data_folder
    from fertool.rendering.plan import Variety, plan

    variety = Variety(occluded, turned, varied)
    if people < 3 or per_person < 1 or mixed < 0 or size < 32 or seed < 0:
        raise UsageError(
            f"people={people}, per_person={per_person}, mixed={mixed}, size={size}, seed={seed} make no dataset",
            "at least 3 people, 1 image of each, 32 pixels, and nothing below 0",
        )
    if not (0 <= occluded <= 1 and 0 <= turned <= 1):
        raise UsageError(f"occluded={occluded}, turned={turned} are no shares", "both from 0 to 1")
    out_dir = Path(out_dir)
    settings: dict[str, float] = {"people": people, "per_person": per_person, "size": size}
    settings |= {"seed": seed, "renderer": _RENDERER}
    # what came later is named only where it is used: faces rendered before are still up to date
    later = {"mixed": mixed, "occluded": occluded, "turned": turned, "varied": varied}
    settings |= {name: value for name, value in later.items() if value != _LATER[name]}
    _claim(out_dir, settings, overwrite)
    planned = plan(people, per_person, size, seed, mixed, variety)
    if _complete(out_dir, planned):
        console.say(f"{out_dir} is up to date")
        return out_dir

    data_folder()  # says what is missing before any process starts
    _render_people(out_dir, planned)
    rows = [face for faces in planned for face in faces]
    _write(out_dir / LANDMARKS, _npy(np.concatenate([np.load(_marks(out_dir, faces)) for faces in planned])))
    _write(out_dir / "README.txt", _README)
    _write(out_dir / TABLE, _table(rows))  # last: where it is, all is there
    return out_dir


def summary(path: Path) -> dict:
    """Return what a rendered dataset holds."""
    with open(Path(path) / TABLE, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return {
        "path": str(path),
        "settings": json.loads((Path(path) / SETTINGS).read_text(encoding="utf-8")),
        "faces": len(rows),
        "splits": {
            split: {
                "faces": sum(r["split"] == split for r in rows),
                "people": len({r["subject"] for r in rows if r["split"] == split}),
            }
            for split in ("train", "val", "test")
        },
        "labels": dict(sorted(Counter(r["label"] or "mixed" for r in rows).items())),
        "occlusion": dict(sorted(Counter(r["occlusion"] or "none" for r in rows).items())),
        "turned_over_30": sum(max(abs(float(r["yaw"])), abs(float(r["pitch"]))) > 30 for r in rows),
    }


def report(summary: dict) -> None:
    """Print what `summary` says."""
    console.show(
        console.table(
            f"Rendered faces in {summary['path']}",
            ("split", "people", "faces"),
            [(name, s["people"], s["faces"]) for name, s in summary["splits"].items()],
        )
    )
    covered = ", ".join(f"{n} {kind}" for kind, n in summary["occlusion"].items() if kind != "none")
    console.say(f"covered: {covered or 'none'}; turned by more than 30°: {summary['turned_over_30']}")
    console.say("computed pictures of a CC0 head; accuracies on them are no benchmark")


def _claim(out_dir: Path, settings: dict, overwrite: bool) -> None:
    """Make the folder ours, or refuse it."""
    kept = out_dir / SETTINGS
    if kept.is_file():
        before = _settings_of(kept)
        if before == settings:
            return
        if not overwrite:
            pairs = {k: (before.get(k, _LATER.get(k)), settings.get(k, _LATER.get(k))) for k in {**before, **settings}}
            differing = ", ".join(f"{k} {a} → {b}" for k, (a, b) in pairs.items() if a != b)
            raise DataError(
                f"{out_dir} holds faces rendered with other settings ({differing})",
                "name another folder, or --overwrite",
            )
        for name in (TABLE, LANDMARKS, "README.txt"):
            (out_dir / name).unlink(missing_ok=True)
        shutil.rmtree(out_dir / "images", ignore_errors=True)
    elif out_dir.exists() and not (
        out_dir.is_dir() and all(files.is_temporary(p.name) for p in out_dir.iterdir())  # of a call that was killed
    ):
        raise DataError(f"{out_dir} holds something else than rendered faces", "name a new or empty folder")
    _write(kept, json.dumps(settings))  # last: a call that is killed before finds the old ones


def _settings_of(path: Path) -> dict:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged", f"remove {path.parent}, and render again")
    return found


def _complete(out_dir: Path, planned: list) -> bool:
    return (
        header(out_dir / TABLE) == list(COLUMNS)  # a table of an earlier version is written again
        and (out_dir / LANDMARKS).is_file()
        and all((out_dir / _path(face)).is_file() for faces in planned for face in faces)
    )


def _path(face: "Planned") -> str:
    return f"images/{face.subject}/{face.id}.png"


def _marks(out_dir: Path, faces: list) -> Path:
    """Return the landmarks of a person's faces; written last, it tells that the person is done."""
    return out_dir / "images" / faces[0].subject / LANDMARKS


def _render_people(out_dir: Path, planned: list) -> None:
    todo = [faces for faces in planned if not _is_done(out_dir, faces)]
    with console.progress("render", sum(map(len, todo)), "face") as advance:
        try:
            for _, count in pool.process(_renderer, (out_dir,), todo, workers=pool.cores(), chunk=1):
                advance(count)
        except pool.WorkerDied as e:
            raise e.named(e.items[0][0].subject, "the same command resumes") from None


def _is_done(out_dir: Path, faces: list) -> bool:
    files.sweep(_marks(out_dir, faces).parent)
    try:
        marks = np.load(_marks(out_dir, faces))
    except (OSError, ValueError):
        return False
    return marks.shape == (len(faces), 68, 2) and all((out_dir / _path(face)).is_file() for face in faces)


def _renderer(out_dir: Path) -> Callable[[Sequence[list]], Iterator[int]]:
    """Return what a worker does with the people it is given."""
    import cv2

    cv2.setNumThreads(1)  # the other cores have workers of their own
    return lambda people: (_render_person(out_dir, faces) for faces in people)


def _render_person(out_dir: Path, faces: list) -> int:
    """Render all images of one person; returns how many."""
    import cv2

    from fertool.rendering.render import render_face

    folder = out_dir / "images" / faces[0].subject
    folder.mkdir(parents=True, exist_ok=True)
    marks = []
    for face in faces:
        made = render_face(face.spec)
        _write(out_dir / _path(face), cv2.imencode(".png", made.pixels[..., ::-1])[1].tobytes())
        marks.append(made.landmarks)
    _write(_marks(out_dir, faces), _npy(np.stack(marks)))
    return len(faces)


def _write(path: Path, content: bytes | str) -> None:
    """Write a file of a claimed folder, also where a killed call or other settings left one."""
    path.unlink(missing_ok=True)
    files.write(path, content)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _table(faces: list) -> str:
    from fertool.rendering.attributes import attributes
    from fertool.rendering.expressions import parts

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for face in faces:
        s = face.spec
        truth = (s.pitch, s.yaw, s.roll, s.occlusion, s.intensity)
        shown = attributes(s).values()
        label = s.expression if len(parts(s.expression)) == 1 else ""
        rows.writerow((face.id, _path(face), label, face.split, face.subject, *truth, *shown))
    return text.getvalue()
