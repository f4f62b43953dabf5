"""predict: images, videos or a camera → the expression of every face in them."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fertool import console, pool
from fertool.artefact import partial_path
from fertool.datasets.base import some
from fertool.errors import ArtefactError, DataError, Stopped, UsageError
from fertool.faces.media import Sampling, count, named, pictures
from fertool.models.registry import model_class
from fertool.outputs import check_output, inodes
from fertool.settings import Predict
from fertool.stages.predict.annotate import Drawings
from fertool.stages.predict.inference import Looker
from fertool.stages.predict.output import Table, Tally, many, parts_of, rows_of
from fertool.training.checkpoint import Trained
from fertool.training.devices import Devices


def run(
    words: Sequence[str],
    trained: Trained,
    *,
    settings: Predict,
    devices: Devices,
    out: Path | None = None,
    draw: bool = False,
    collect: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Find every face and say its expression.

    Rows go to `out`/predictions.csv; without `out` they go to stdout as CSV, or under --json only into what is
    returned. Pictures come and go in batches: however many there are, a few are in memory.

    Args:
        words: files, folders, numbers of cameras.
        out: folder for predictions.csv and the drawn pictures.
        collect: return the rows, instead of writing them to stdout.
        draw: also write the pictures and videos with faces framed and labelled into `out`.

    Returns:
        run, classes, pictures, faces (how many), expressions {class: n}, without_face [names], unreadable [{file,
        problem}], seconds, images_per_second; under --json also `rows`, one dict per face, and one with face 0 for
        every image or frame without a face. Boxes are those of the detector and may reach beyond the image.

    Raises:
        UsageError: a network that predicts no expressions; `draw` without `out`; a file to be written that is one of
            the sources, or that fertool did not write.
        ArtefactError: a file of an earlier call that is there already, or one that another process is writing.
        DataError: nothing can be read, or there is no face in anything.
        Stopped: Ctrl-C; rows so far are kept in predictions.csv.partial. A camera is ended by it. The same call, after
            this or a kill, begins again and ends as if nothing had happened.
    """
    _check(trained, settings, out, draw)
    sources = named(words, lambda message: console.say(f"note: {message}"))
    if not sources:
        raise DataError(f"there is no image or video in {', '.join(words)} or below", "name images, folders or videos")
    if out:
        files = inodes(s.path for s in sources if s.path)
        for place in (out / Table.NAME, partial_path(out / Table.NAME)):
            check_output(place, sources=files)
        if (out / Table.NAME).exists() and not overwrite:
            raise ArtefactError(f"{out / Table.NAME} is already there", "add --overwrite, or choose another --out")
    stopped = out is not None and partial_path(out / Table.NAME).exists()  # an earlier call; it may have drawn some
    drawings = Drawings(out, trained, sources, overwrite or stopped) if draw and out else None
    sampling = Sampling(settings.frame_step, settings.time_step)
    live = any(s.is_camera for s in sources)
    looker = Looker(trained, settings, devices, live)
    tally = Tally(trained)
    rows: list[dict] | None = [] if collect or console.is_json() else None
    with ExitStack() as stack:
        stack.enter_context(pool.stoppable())
        table: Table | None = None
        if out or rows is None:
            parts = parts_of(looker.net, trained.region_names)
            table = stack.enter_context(Table(out, trained, looker.attention_shapes(), parts))
        if drawings:
            stack.enter_context(drawings)
        total = count(sources, sampling)
        silent = out is None and sys.stdout.isatty()  # the rows are seen
        advance = stack.enter_context(console.progress("predict", total, "image")) if not silent else _nothing
        try:
            for seen in looker(pictures(sources, sampling)):
                tally.add(seen)
                made = rows_of(seen, trained.classes)
                if table:
                    table.write(made)
                if rows is not None:
                    rows += made
                if drawings:
                    drawings.add(seen.picture, seen.faces)
                advance(note=seen.picture.source.name)
        except KeyboardInterrupt:
            if not live:
                kept = f"; their rows are in {table.partial}" if table and table.path else ""
                raise Stopped(f"stopped after {tally.pictures:,} pictures{kept}") from None
    facts = tally.facts()
    if not tally.faces:
        tally.refuse()
    if drawings:
        facts["drawn"] = [str(path) for path in drawings.written]
    return facts | ({"rows": rows} if rows is not None else {}) | ({"out": str(table.path)} if table and out else {})


def report(facts: dict) -> None:
    """Print how many faces there were, and of which expressions."""
    found = ", ".join(f"{name} {n:,}" for name, n in facts["expressions"].items() if n)
    console.say(f"{many(facts['faces'], 'face')} in {many(facts['pictures'], 'picture')}: {found}")
    if facts["faceless"]:
        console.say(f"no face in {facts['faceless']:,} of them")
    console.say(f"{facts['seconds']:.1f} s, {facts['images_per_second']:.1f} images per second")
    if "out" in facts:
        console.say(f"→ {facts['out']}")
    if facts.get("drawn"):
        console.say(f"→ {some(facts['drawn'], 3)}")


def _nothing(n: int = 1, note: str = "") -> None:
    pass


def _check(trained: Trained, settings: Predict, out: Path | None, draw: bool) -> None:
    if not trained.classes or not model_class(trained.model.name).classifies:
        raise UsageError(
            f"{trained.name} predicts no expressions", f"name a run of the network that requires {trained.model.name}"
        )
    if draw and out is None:
        raise UsageError("--draw needs a folder to write to", "add --out FOLDER")
    if settings.time_step and settings.frame_step > 1:
        raise UsageError("--frame-step and --time-step exclude one another", "leave one of them out")
