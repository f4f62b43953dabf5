"""predict: images, videos or a camera → the expression of every face in them."""

import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from fertool import console, executors, pool
from fertool.artefact import partial_path
from fertool.datasets.base import some
from fertool.errors import ArtefactError, DataError, Stopped, UsageError
from fertool.executors import Executor
from fertool.faces.media import Sampling, count, named, pictures
from fertool.models.registry import model_class
from fertool.outputs import check_output, inodes
from fertool.settings import Predict
from fertool.stages.predict.annotate import Drawings
from fertool.stages.predict.detection import FaceSearch, Seen, default_workers, in_workers, one_by_one
from fertool.stages.predict.inference import Looker
from fertool.stages.predict.output import Columns, Table, Tally, landmark_count, many, parts_of, rows_of
from fertool.stages.predict.parquet import ParquetTable, require_pyarrow
from fertool.stages.predict.tracks import smoothed, tracked
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
    parquet: bool = False,
    collect: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Find every face and say its expression.

    Rows go to `out`/predictions.csv; without `out` they go to stdout as CSV, or under --json only into what is
    returned. Images come and go in batches: however many there are, a few are in memory.

    Args:
        words: files, folders, numbers of cameras.
        out: folder for predictions.csv and the drawn images.
        draw: also write the images and videos with faces framed and labelled into `out`.
        parquet: also write predictions.parquet into `out`.
        collect: return a table, instead of writing rows to stdout.
        workers: processes that find faces; None: all cores, or four for each GPU, for 32 images or more, else none; a
            camera has none.
        executor: where they run; None: from the environment, else on this machine. The network runs here.

    Returns:
        run, classes, pictures, faces (how many), expressions {class: n}, people {video: n}, without_face [names],
        unreadable [{file, problem}], seconds, images_per_second; under --json also `rows`, one dict per face, and one
        with face 0 for every image or frame without a face; with `collect` the same as `table`, a pandas DataFrame.
        Boxes are those of the detector and may reach beyond the image.

    Raises:
        UsageError: a network that predicts no expressions; `draw` without `out`; a file to be written that is one of
            the sources, or that fertool did not write.
        ArtefactError: a file of an earlier call that is there already, or one that another process is writing.
        DataError: nothing can be read, or there is no face in anything.
        Stopped: Ctrl-C; rows so far are kept in predictions.csv.partial. A camera is ended by it. The same call, after
            this or a kill, begins again and ends as if nothing had happened.
    """
    _check(trained, settings, out, draw, parquet)
    sources = named(words, lambda message: console.say(f"note: {message}"))
    if not sources:
        raise DataError(f"there is no image or video in {', '.join(words)} or below", "name images, folders or videos")
    own = inodes(s.path for s in sources if s.path)
    if out:
        tables = [out / Table.NAME, *([out / ParquetTable.NAME] if parquet else [])]
        for place in (*tables, partial_path(out / Table.NAME)):
            check_output(place, sources=own)
        if not overwrite and (there := [place for place in tables if place.exists()]):
            raise ArtefactError(f"{there[0]} is already there", "add --overwrite, or choose another --out")
    stopped = out is not None and partial_path(out / Table.NAME).exists()  # an earlier call; it may have drawn some
    drawings = Drawings(out, trained, sources, overwrite or stopped) if draw and out else None
    sampling = Sampling(settings.frame_step, settings.time_step)
    live = any(s.is_camera for s in sources)
    total = count(sources, sampling)
    executor = executor or executors.choose()
    gpus = [] if devices.kind == "cpu" or live else executor.gpus()
    processes = 1 if live else min(workers or default_workers(total, gpus, executor), total or 1)
    looker = Looker(trained, settings, devices, live)
    search = FaceSearch(looker.faces, settings, drawings is not None, devices.kind)
    columns = Columns(
        trained.classes,
        looker.attention_shapes(search.blank()),
        parts_of(looker.net, trained.region_names),
        settings.pose,
        landmark_count(looker.faces) if settings.landmarks else 0,
    )
    tally = Tally(trained)
    rows: list[dict] | None = [] if collect or console.is_json() else None
    with ExitStack() as stack:
        stack.enter_context(pool.stoppable())
        writers: list[Table | ParquetTable] = []
        if out or rows is None:
            writers.append(stack.enter_context(Table(out, columns)))
        if out and parquet:
            writers.append(stack.enter_context(ParquetTable(out, columns, own)))
        if drawings:
            stack.enter_context(drawings)
        silent = out is None and sys.stdout.isatty()  # the rows are seen
        advance = stack.enter_context(console.progress("predict", total, "image")) if not silent else _nothing
        stream = pictures(sources, sampling)
        found = (
            in_workers(search, stream, processes, gpus, executor) if processes > 1 else one_by_one(search, stream, live)
        )
        results = _results(found, looker, settings, live)
        try:
            for seen in stack.enter_context(closing(results)):
                tally.add(seen)
                made = rows_of(seen, trained.classes, settings)
                for writer in writers:
                    writer.write(made)
                if rows is not None:
                    rows += made
                if drawings:
                    drawings.add(seen.picture, seen.faces)
                advance(note=seen.picture.source.name)
        except KeyboardInterrupt:
            if not live:
                kept = f"; their rows are in {partial_path(out / Table.NAME)}" if out else ""
                raise Stopped(f"stopped after {tally.pictures:,} pictures{kept}") from None
    facts = tally.facts()
    if not tally.faces:
        tally.refuse()
    if drawings:
        facts["drawn"] = [str(path) for path in drawings.written]
    if rows is not None:
        facts["table" if collect else "rows"] = columns.frame(rows) if collect else rows
    if out:
        facts["out"] = str(out / Table.NAME)
        facts |= {"parquet": str(out / ParquetTable.NAME)} if parquet else {}
    return facts


def _results(
    found: Generator[Seen, None, None], looker: Looker, settings: Predict, live: bool
) -> Generator[Seen, None, None]:
    with closing(found):
        results = looker(tracked(found) if settings.track else found)
        yield from smoothed(results, settings.smooth, live) if settings.smooth else results


_NAMED = 20  # videos whose people are counted on the terminal


def report(facts: dict) -> None:
    """Print how many faces there were, and of which expressions."""
    found = ", ".join(f"{name} {n:,}" for name, n in facts["expressions"].items() if n)
    console.say(f"{many(facts['faces'], 'face')} in {many(facts['pictures'], 'picture')}: {found}")
    if facts["faceless"]:
        console.say(f"no face in {facts['faceless']:,} of them")
    console.say(f"{facts['seconds']:.1f} s, {facts['images_per_second']:.1f} images per second")
    for video, people in list(facts["people"].items())[:_NAMED]:
        console.say(f"{video}: {people:,} {'person' if people == 1 else 'people'}")
    for name in ("out", "parquet"):
        if name in facts:
            console.say(f"→ {facts[name]}")
    if facts.get("drawn"):
        console.say(f"→ {some(facts['drawn'], 3)}")


def _nothing(n: int = 1, note: str = "") -> None:
    pass


def _check(trained: Trained, settings: Predict, out: Path | None, draw: bool, parquet: bool) -> None:
    if not trained.classes or not model_class(trained.model.name).classifies:
        raise UsageError(
            f"{trained.name} predicts no expressions", f"name a run of the network that requires {trained.model.name}"
        )
    if (draw or parquet) and out is None:
        raise UsageError(f"--{'draw' if draw else 'parquet'} needs a folder to write to", "add --out FOLDER")
    if parquet:
        require_pyarrow()
    if settings.smooth and not settings.track:
        raise UsageError("--smooth averages over tracks, and --no-track makes none", "leave out --no-track")
    if settings.time_step and settings.frame_step > 1:
        raise UsageError("--frame-step and --time-step exclude one another", "leave one of them out")
