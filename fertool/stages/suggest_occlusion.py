"""suggest-occlusion: faces → suggested occlusion types, to be reviewed.

A small network, the one of the package or one trained in some minutes on other faces with occluders drawn over them,
classifies the faces. Its suggestions are a table with an empty column for the reviewer's decision, and a page to fill
it. Nothing else reads the suggestions; build-subsets reads the decisions.
"""

import csv
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fertool import artefact, console, executors, files, locks
from fertool.artefact import Artefact
from fertool.datasets.tabular import escape_formula
from fertool.errors import DataError, UsageError
from fertool.evaluation import review
from fertool.executors import Executor
from fertool.faces.status import HAS_IMAGE
from fertool.regions.points import has_landmarks, landmarks_of, usable
from fertool.settings import SuggestOcclusion
from fertool.stages.synthesise_occlusion import blur_of, enlargement
from fertool.subsets import OCCLUSIONS
from fertool.subsets.occlusion_table import SUGGESTED

if TYPE_CHECKING:
    from fertool.occlusion.classifier import Guesser

_FEWEST = 30  # faces that must be there to draw on
_CHUNK = 32
_FEW = 400  # samples for which starting processes takes longer
_BATCH = 256  # faces that the network sees at once
_MANY = 2048  # faces for which starting processes pays


@locks.writes("out")
def run(
    faces: Path,
    *,
    settings: SuggestOcclusion,
    out: Path,
    learn_from: Path | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the suggestions: a CSV with the columns id, suggested, confidence, type, and an HTML page beside it.

    Only faces that the network takes for covered are listed, by the likeliest type and by confidence, which is the
    network's probability that anything covers the face. `type` is empty: it is the person's.

    Args:
        learn_from: faces to draw on and learn from, instead of taking the network that comes with fertool. Of `faces`
            itself the other splits are taken (all, if the others hold too few).
        out: the CSV file.
        executor: where workers run; None: from the environment, else on this machine.
        overwrite: replace the file, and its reviews.

    Raises:
        UsageError: the file is there and may hold reviews, and `overwrite` is not set.
        DataError: no faces in the split, or too few to draw on.
        ArtefactError: no landmarks in the faces that are drawn on.
    """
    page = out.with_suffix(".html")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is there already and may hold reviews", "name another with --out, or --overwrite it")
    source = artefact.read(faces, "faces")
    rows = np.flatnonzero((source["split"] == settings.split) & np.isin(source["status"], HAS_IMAGE))
    if not len(rows):
        there = ", ".join(sorted({s for s in source["split"] if s})) or "none"
        raise DataError(f"{faces} has no faces with a picture in split {settings.split!r}", f"its splits are: {there}")
    source.verify()
    executor = executor or executors.choose()
    if learn_from is None:
        net = _shipped()
    else:
        teacher = artefact.read(learn_from, "faces")
        teacher.verify()
        net = train_classifier(teacher, settings, executor, spared=rows if teacher.digest == source.digest else None)
    entries = _entries(source, rows, guesses(net, source, rows, executor), settings.min_probability)
    files.write(page, review.render(f"{source.path.parent.name}, split {settings.split}", out.name, entries, len(rows)))
    with files.replacing(out) as part, open(part, "w", newline="", encoding="utf-8") as f:
        table = csv.writer(f)
        table.writerow(SUGGESTED)
        table.writerows((escape_formula(e["id"]), e["type"], f"{e['confidence']:.3f}", "") for e in entries)
    return out


def summary(path: Path) -> dict:
    """Return how many faces are suggested for each type."""
    with open(path, newline="", encoding="utf-8") as f:
        kinds = [row["suggested"] for row in csv.DictReader(f)]
    counts = {kind: kinds.count(kind) for kind in OCCLUSIONS}
    return {"path": str(path), "page": str(path.with_suffix(".html")), "suggested": len(kinds), "types": counts}


def report(summary: dict) -> None:
    """Print it."""
    told = ", ".join(f"{n:,} {kind}" for kind, n in summary["types"].items())
    console.say(f"{summary['suggested']:,} faces look covered: {told}")
    console.say(f"these are guesses. Look at them in {summary['page']}, save the table, then:")
    console.say(f"fertool build-subsets --occlusion-table {summary['path']}")


def _shipped() -> "Guesser":
    from fertool.occlusion import classifier

    return classifier.shipped()


def train_classifier(
    teacher: Artefact, settings: SuggestOcclusion, executor: Executor, *, spared: np.ndarray | None = None
) -> "Guesser":
    """Return a network that has learned from drawings on the teacher's faces, on one thread.

    Args:
        spared: rows not to draw on, if the others are enough.
    """
    from fertool.occlusion import classifier

    images, types = lessons(teacher, _to_draw_on(teacher, spared), settings, executor)
    with _one_thread(), console.progress("learn", settings.epochs, "epoch") as advance:
        return classifier.learn(images, types, epochs=settings.epochs, seed=settings.seed, advance=advance)


def guesses(net: "Guesser", source: Artefact, rows: np.ndarray, executor: Executor) -> np.ndarray:
    """Return (rows, 5) probabilities: nothing, then `OCCLUSIONS`."""
    workers = min(executor.cores(), -(-len(rows) // _BATCH))
    results: Generator[tuple[Any, Any], None, None]
    if len(rows) > _MANY and workers > 1:
        work = (net, source)
        results = executor.process(classify, work, rows.tolist(), workers=workers, chunk=_BATCH, paths=[source.path])
    else:
        results = (pair for pair in zip(rows.tolist(), classify(net, source)(rows.tolist()), strict=True))
    with closing(results):
        probabilities = dict(results)
    return np.stack([probabilities[row] for row in rows.tolist()])


def classify(net: "Guesser", source: Artefact) -> Callable[[Sequence[int]], Iterator[np.ndarray]]:
    """Return what a worker does: rows of a faces file -> (5,) probabilities of each."""
    from fertool.occlusion import classifier
    from fertool.occlusion.training_samples import small

    images = source["images"]
    landmarks = source["landmarks"] if has_landmarks(source) else np.full((source.rows, 5, 2), np.nan)

    def work(rows: Sequence[int]) -> Iterator[np.ndarray]:
        for first in range(0, len(rows), _BATCH):
            part = rows[first : first + _BATCH]
            with _one_thread():
                yield from classifier.guess(net, np.stack([small(np.asarray(images[r]), landmarks[r]) for r in part]))

    return work


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread: sums depend on the number of threads in their last bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _to_draw_on(teacher: Artefact, spared: np.ndarray | None) -> np.ndarray:
    """Return rows with landmarks; without the spared ones, if the others are enough."""
    good = usable(landmarks_of(teacher, "drawn occluders"))
    good &= np.isin(teacher["status"], HAS_IMAGE)
    others = good.copy()
    if spared is not None:
        others[spared] = False
    rows = np.flatnonzero(others if others.sum() >= _FEWEST else good)
    if len(rows) < _FEWEST:
        raise DataError(
            f"{teacher.path} has only {len(rows)} faces with landmarks to draw on, and {_FEWEST} are needed",
            "name faces to learn from: --learn-from DATA, e.g. rendered ones",
        )
    return rows


def lessons(
    teacher: Artefact, rows: np.ndarray, settings: SuggestOcclusion, executor: Executor
) -> tuple[np.ndarray, np.ndarray]:
    """Return (samples, SIDE, SIDE) images and what covers them; the same whatever the number of processes."""
    rng = np.random.default_rng(settings.seed)
    order = np.concatenate([rng.permutation(rows) for _ in range(-(-settings.samples // len(rows)))])
    items = [(int(row), i) for i, row in enumerate(order[: settings.samples])]
    pairs: list[tuple[np.ndarray, int] | None] = [None] * len(items)
    drawn: Generator[tuple[Any, Any], None, None]
    if len(items) > _FEW and executor.cores() > 1:
        work, count = (teacher, settings.seed), executor.cores()
        drawn = executor.process(make, work, iter(items), workers=count, chunk=_CHUNK, paths=[teacher.path])
    else:
        drawn = (pair for pair in zip(items, make(teacher, settings.seed)(items), strict=True))
    with console.progress("draw", len(items), "face") as advance, closing(drawn):
        for (_, i), pair in drawn:
            pairs[i] = pair
            advance()
    images, types = zip(*pairs, strict=True)
    return np.stack(images), np.array(types)


def make(teacher: Artefact, seed: int) -> Callable[[Iterable[tuple[int, int]]], Iterator[tuple[np.ndarray, int]]]:
    """Yield what a process of its own does: (row, number of the drawing) -> image and what covers it.

    Faces that know what covers them, as rendered ones do, are shown as they are.
    """
    import cv2

    from fertool.occlusion.training_samples import lesson, small

    cv2.setNumThreads(1)
    images, landmarks, enlarged = teacher["images"], teacher["landmarks"], enlargement(teacher)
    known = teacher["true_occlusion"] if "true_occlusion" in teacher else [""] * teacher.rows

    def work(items: Iterable[tuple[int, int]]) -> Iterator[tuple[np.ndarray, int]]:
        for row, i in items:
            image, kind = np.asarray(images[row]), 1 + OCCLUSIONS.index(known[row]) if known[row] else 0
            if not kind:
                key = f"{seed}/{i}/{teacher.ids[row]}"
                image, kind = lesson(image, landmarks[row], key=key, blur=blur_of(enlarged[row]))
            yield small(image, landmarks[row]), kind

    return work


def _entries(source: Artefact, rows: np.ndarray, probabilities: np.ndarray, min_probability: float) -> list[dict]:
    """Return the faces that look covered, by type and falling confidence: id, type, confidence, image."""
    best, sure = 1 + probabilities[:, 1:].argmax(axis=1), 1 - probabilities[:, 0]
    entries = []
    for place, kind in enumerate(OCCLUSIONS, 1):
        mine = np.flatnonzero((best == place) & (sure >= min_probability))
        for i in mine[np.argsort(-sure[mine], kind="stable")]:
            image = np.asarray(source["images"][rows[i]])
            entries.append({"id": source.ids[rows[i]], "type": kind, "confidence": float(sure[i]), "image": image})
    return entries
