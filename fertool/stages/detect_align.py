"""detect-align: images → aligned faces."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fertool import artefact, console, executors, locks, plugins, pool
from fertool.artefact import Column, Parent
from fertool.datasets.base import Dataset, Sample, Samples, some
from fertool.detectors import detector_class
from fertool.errors import (
    ArtefactError,
    DataError,
    FertoolError,
    OutOfMemoryError,
    Stopped,
    UsageError,
    out_of_memory,
)
from fertool.executors import Executor
from fertool.faces import align, sdm, source_file, worker
from fertool.faces.status import HAS_IMAGE, NAMES, NO_FACE, PENDING, UNREADABLE
from fertool.landmarks import landmark_class
from fertool.landmarks.sdm import sdm_file
from fertool.settings import DetectAlign

# Images a worker is given at once. Networks see them in batches, and their last bits depend on a batch's other
# images: chunks always begin at a multiple of this, whatever was done before and by however many workers
_CHUNK = 16
_GPU_WORKERS = 4  # processes for each GPU
_NAMED = 20  # files named in the report

_FEWER = "the same command goes on; use fewer --workers, or close other programs"
_WITHOUT = "the same command goes on; if it dies there again, take that image out, or use fewer --workers"

# how long this process worked on a file, in seconds, and on how many images
_worked: dict[Path, tuple[float, int]] = {}


@locks.writes("out")
def run(
    dataset: Dataset,
    *,
    settings: DetectAlign,
    out: Path,
    overwrite: bool = False,
    workers: int | None = None,
    limit: int | None = None,
    executor: Executor | None = None,
) -> Path:
    """Write one row for every image that the dataset lists, found or not.

    Stopped or killed at any moment, the same call resumes.

    Args:
        workers: processes; None takes all cores (or a few for each GPU, where the detector runs on GPUs).
        limit: only so many images, spread evenly over the listing.
        executor: where they run; None: from the environment, else on this machine.

    Raises:
        UsageError: settings that do not fit together, or boxes and landmarks the dataset does not ship.
        DataError: the dataset is empty or incomplete, a file of it cannot be read now, a worker died, or a face was
            missed and `on_no_face` is "fail".
        OutOfMemoryError: what was done is kept.
        ArtefactError: the file holds other work, or images have changed since, and `overwrite` is not set.
        Stopped: Ctrl-C or SIGTERM; what was done is kept.
    """
    out = Path(out)
    samples = dataset.samples()
    for problem in dataset.problems():
        console.say(f"note: {problem}")
    if not len(samples):
        raise DataError(f"{dataset.root} lists no images")
    if limit is not None and limit < len(samples):
        samples = Samples(np.linspace(0, len(samples) - 1, limit).round().astype(int).tolist(), samples.__getitem__)
    listing = _Listing(dataset, samples, settings)
    params = {**_deciding(settings, dataset), "dataset": dataset.name, "limit": limit}
    detector, landmarks = detector_class(settings.detector), landmark_class(settings.landmarks)
    params |= plugins.digests(detector=detector, landmarks=landmarks, dataset=type(dataset))
    parents = [Parent("dataset", dataset.name, dataset.root.resolve().name, "", listing.digest)]
    if settings.landmarks == "sdm":
        parents.append(artefact.read(sdm_file(settings.sdm), "landmarks").as_parent("sdm"))
    if artefact.up_to_date(out, "faces", params, parents, overwrite=overwrite):
        _refuse_changed(artefact.read(out, "faces"), dataset, samples, listing.stats)
        console.say(f"{out} is up to date")
    else:
        classes, columns = dataset.classes, _columns(settings, listing.landmarks)
        made: dict[str, Any] = {
            "params": params,
            "inputs": parents,
            "classes": classes,
            "known": listing.columns,
            "columns": columns,
        }
        with artefact.begin(out, "faces", overwrite=overwrite, **made) as writer:
            begun = artefact.read(writer.partial, "faces", partial=True)
            writer.reopen(_changed_files(begun, samples, listing.stats))
            _fill(writer, dataset, samples, listing, settings, workers, executor or executors.choose())
            if settings.on_no_face == "fail":
                _refuse(writer, samples)
            writer.finish()
    return out


def _deciding(settings: DetectAlign, dataset: Dataset) -> dict:
    """Return the settings that decide the faces, and how the dataset is read, as a file names them.

    What came later is named only where it is used: files made before are still up to date.
    """
    params = settings.as_dict() | {"data": dataset.chosen}
    if not dataset.chosen:
        del params["data"]
    del params["sdm"]  # whatever its name: it is one of the inputs
    if settings.height in (None, settings.size):
        del params["height"]
    if settings.illumination == "none":
        del params["illumination"], params["diffusion"]
    if settings.illumination == "none" or settings.clip_fraction == DetectAlign.clip_fraction:
        del params["clip_fraction"]
    if settings.box is None:
        del params["box"]
    if settings.pose == "landmarks":
        del params["pose"]
    if settings.pose_weights is None:
        del params["pose_weights"]
    else:
        params["pose_weights"] = Path(settings.pose_weights).name
    if settings.align != "none":
        params["template_points"] = [list(p) for p in align.TEMPLATES[settings.template].points]
    return params


def _columns(settings: DetectAlign, points: int) -> dict[str, Column]:
    columns = {
        "images": Column("u1", settings.shape),
        "faces_found": Column("u1"),
        "bbox": Column("f4", (4,)),
        "score": Column("f4"),
        "transform": Column("f8", (2, 3)),
        "pose": Column("f4", (3,)),
        "pose_error": Column("f4"),
        "problem": Column("U96"),
        "source_digest": Column("u1", (source_file.DIGEST,)),
        "source_stat": Column("i8", (3,)),
    }
    return columns | ({"landmarks": Column("f4", (points, 2))} if points else {})


class _Listing:
    """What the dataset holds before any image is read.

    Columns, a digest of it all, the number of landmarks of a face, and size and times of every row's file.
    """

    def __init__(self, dataset: Dataset, samples: Sequence[Sample], settings: DetectAlign):
        index = {name: i for i, name in enumerate(dataset.classes)}
        digest = hashlib.blake2b(digest_size=16)
        dataset_points, dataset_boxes, no_share = set(), 0, (np.nan,) * len(index)
        shares: list[tuple[float, ...]] = []
        rows: dict[str, list] = {n: [] for n in ("id", "split", "label", "subject", "sequence", "frame")}
        extra: dict[str, list] = {name: [] for name in samples[0].extra}
        self.stats = np.empty((len(samples), 3), np.int64)
        path, stat = None, source_file.NO_FILE
        for row, s in enumerate(samples):
            if s.path != path:  # a table that holds many images is asked once
                path, stat = s.path, source_file.listed(s.path)
            self.stats[row] = stat
            label = -1 if s.label is None else index[s.label]
            for name, value in zip(rows, (s.id, s.split, label, s.subject, s.sequence, s.frame), strict=True):
                rows[name].append(value)
            for name, values in extra.items():
                values.append(s.extra[name])
            shares.append(s.distribution or no_share)
            dataset_boxes += s.box is not None
            if s.landmarks is not None:
                dataset_points.add(len(s.landmarks))
            facts = (s.id, s.label, s.split, s.subject, s.sequence, s.frame, s.distribution, s.box, s.extra)
            digest.update(repr(facts).encode())
            if s.landmarks is not None:
                digest.update(np.ascontiguousarray(s.landmarks, dtype=np.float64).tobytes())
        if again := [name for name, n in Counter(rows["id"]).items() if n > 1]:
            raise DataError(f"{dataset.root} lists several images by one id: {some(again)}", "give each its own")
        self.digest = digest.hexdigest()
        self.columns = {
            **{name: np.array(rows[name], dtype=object) for name in ("id", "split", "subject", "sequence")},
            "label": np.array(rows["label"], dtype=np.int16),
            "frame": np.array(rows["frame"], dtype=np.int32),
            **{name: _typed(values) for name, values in extra.items()},
        }
        if any(share is not no_share for share in shares):
            self.columns["label_distribution"] = np.array(shares, dtype=np.float32)
        self.landmarks = _check(dataset, settings, dataset_points, dataset_boxes)


def _typed(values: list) -> np.ndarray:
    if all(isinstance(v, int) for v in values):
        return np.array(values, dtype=np.int64)
    if all(isinstance(v, int | float) for v in values):
        return np.array(values, dtype=np.float64)
    return np.array([str(v) for v in values], dtype=object)


def _check(dataset: Dataset, settings: DetectAlign, dataset_points: set[int], dataset_boxes: int) -> int:
    """Return how many landmarks a face will have, settings and dataset fitting together."""
    if settings.detector == "dataset" and settings.box is None and not dataset_boxes:
        raise UsageError(f"{dataset.root} ships no boxes of faces", "use --detector mtcnn, or none for the whole image")
    if settings.landmarks == "dataset" and not dataset_points:
        raise UsageError(f"{dataset.root} ships no landmarks", "use --landmarks ert68")
    if settings.landmarks == "dataset" and len(dataset_points) > 1:
        raise DataError(f"{dataset.root} ships landmarks of several kinds: {sorted(dataset_points)} points")
    if settings.sdm and settings.landmarks != "sdm":
        raise UsageError(f"--sdm {settings.sdm} is of no use with --landmarks {settings.landmarks}", "--landmarks sdm")
    if settings.landmarks == "dataset":
        points = dataset_points.pop()
    elif settings.landmarks == "sdm":
        points = len(sdm.load(sdm_file(settings.sdm)).mean)
    else:
        points = landmark_class(settings.landmarks).points
    if settings.align != "none":
        if not points:
            raise UsageError(
                f"--align {settings.align} needs landmarks", "use --landmarks ert68, or --align none to crop the box"
            )
        align.check(settings.template, points, settings.align)
    if settings.illumination != "none" and not settings.grey:
        raise UsageError(f"--illumination {settings.illumination} is for grey faces", "add --grey")
    return points


def _other_files(faces: artefact.Artefact, stats: np.ndarray) -> np.ndarray:
    """Return the rows that were made from files of another size or time than are there now."""
    return np.flatnonzero((faces["source_stat"] != stats).any(axis=1) & (np.asarray(faces["status"]) != PENDING))


def _changed_files(begun: artefact.Artefact, samples: Sequence[Sample], stats: np.ndarray) -> np.ndarray:
    """Return the rows of an unfinished file to be made again, because their images may be others now.

    Raises:
        DataError: a file that was read before is missing.
    """
    rows = _other_files(begun, stats)
    gone = [samples[int(row)] for row in rows if tuple(stats[row]) == source_file.MISSING]
    if gone:
        raise DataError(
            f"{len(gone):,} files that were there when {begun.path} was begun are missing: "
            f"{some((str(s.path) for s in gone), 3)}",
            "bring them back and run the same command again, or start again without them: --overwrite",
        )
    return rows


def _refuse_changed(faces: artefact.Artefact, dataset: Dataset, samples: Sequence[Sample], stats: np.ndarray) -> None:
    """Refuse to call faces up to date whose images have changed.

    Raises:
        ArtefactError: they have; the message names some.
    """
    rows = _other_files(faces, stats)
    if not len(rows):
        return
    before, changed = faces["source_digest"], []
    tasks = (worker.Task(int(row), samples[int(row)], tuple(stats[row].tolist())) for row in rows)
    with (
        pool.stoppable(),
        console.progress("compare", len(rows), "image") as advance,
        closing(pool.process(worker.source_digests, (dataset,), tasks, workers=pool.cores(), chunk=_CHUNK)) as results,
    ):
        for task, digest in results:
            if (digest != before[task.row]).any():
                changed.append(task.row)
            advance()
    if changed:
        raise ArtefactError(
            f"{len(changed):,} of the images in {faces.path} have changed since: "
            f"{some((faces.ids[row] for row in sorted(changed)), 5)}",
            "add --overwrite to make it again",
        )
    artefact.note(faces, "source_stat", rows, stats[rows])


def _fill(
    writer: artefact.Writer,
    dataset: Dataset,
    samples: Sequence[Sample],
    listing: _Listing,
    settings: DetectAlign,
    workers: int | None,
    executor: Executor,
) -> None:
    pending = writer.pending
    if done := writer.rows - len(pending):
        console.say(f"going on: {done:,} of {writer.rows:,} images are done")
    gpus = executor.gpus() if settings.needs_torch else []
    most = _GPU_WORKERS * len(gpus) or executor.cores()
    chunks = np.unique(pending // _CHUNK)
    rows = (row for chunk in chunks.tolist() for row in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, writer.rows)))
    tasks = (worker.Task(row, samples[row], tuple(listing.stats[row].tolist())) for row in rows)
    began = time.monotonic()
    done = 0
    with (
        _explained(writer, dataset),
        pool.stoppable(),
        console.progress("detect-align", len(pending), "image") as advance,
        closing(
            executor.process(
                worker.make,
                (dataset, settings, listing.landmarks, "cuda" if gpus else "cpu"),
                tasks,
                workers=min(workers or min(most, executor.cores()), len(chunks)),
                chunk=_CHUNK,
                gpus=gpus,
                paths=[dataset.root, *(Path(p) for p in (settings.sdm, settings.pose_weights) if p)],
            )
        ) as results,
    ):
        for task, columns in results:
            is_new = writer.status[task.row] == PENDING
            writer.write(task.row, columns.pop("status"), **columns)
            done += is_new
            advance(is_new, note=task.sample.id)
    _worked[writer.path] = time.monotonic() - began, done


@contextmanager
def _explained(writer: artefact.Writer, dataset: Dataset) -> Iterator[None]:
    """Turn whatever ends the work early into an error that says how to resume."""
    try:
        yield
    except pool.WorkerDied as e:
        items = some((task.sample.id for task in e.items), 3)
        raise e.named(items, _FEWER if e.out_of_memory else _WITHOUT) from e
    except KeyboardInterrupt as e:
        done = writer.rows - len(writer.pending)
        raise Stopped(f"stopped after {done:,} of {writer.rows:,} images", "the same command goes on") from e
    except FertoolError:
        raise
    except Exception as e:
        if problem := out_of_memory(e):
            raise OutOfMemoryError(problem.message, _FEWER) from e
        if isinstance(e, OSError):
            raise DataError(
                f"{e.filename or dataset.root} cannot be read: {e.strerror or e}",
                "what was done is kept: once it can be read again, the same command goes on",
            ) from e
        raise


def _refuse(writer: artefact.Writer, samples: Sequence[Sample]) -> None:
    rows = np.flatnonzero(np.isin(writer.status, (NO_FACE, UNREADABLE)))
    if len(rows):
        raise DataError(
            f"no face in {len(rows):,} of {writer.rows:,} images: {some((samples[int(r)].id for r in rows), 5)}",
            "take them out, or go on without them: --on-no-face keep (or mark) --overwrite",
        )


# ------------------------------------------------------------------------------------------------------ summary


def summary(path: Path) -> dict:
    """Return facts about a faces file.

    Returns:
        rows, statuses {name: n}, splits {name: {rows, with_face}}, classes {name: n}, unlabelled, several (how many
        had more than one face), size (the width), height, channels, settings, unreadable [{id, problem}] (the first
        20), pose (who estimated it), pose_known, median_pose_error (degrees, or of landmarks a
        fraction), and if this process made the file seconds and images_per_second.
    """
    faces = artefact.read(path, "faces")
    status, split, label = np.asarray(faces["status"]), faces["split"], np.asarray(faces["label"])
    found = np.isin(status, HAS_IMAGE)
    unreadable = np.flatnonzero(status == UNREADABLE)
    error, problems = np.asarray(faces["pose_error"]), faces["problem"]
    facts = {
        "path": str(path),
        "dataset": faces.params["dataset"],
        "rows": faces.rows,
        "statuses": {name: int((status == code).sum()) for code, name in NAMES.items() if code != PENDING},
        "splits": {
            name: {"rows": int((split == name).sum()), "with_picture": int((found & (split == name)).sum())}
            for name in dict.fromkeys(split)
        },
        "classes": {name: int((label == i).sum()) for i, name in enumerate(faces.classes or ())},
        "unlabelled": int((label < 0).sum()),
        "size": faces["images"].shape[2],
        "height": faces["images"].shape[1],
        "channels": faces["images"].shape[3],
        "settings": {
            k: faces.params[k]
            for k in ("detector", "landmarks", "align", "template", "on_no_face", "illumination", "diffusion")
            if k in faces.params
        },
        "unreadable": [{"id": faces.ids[r], "problem": problems[r]} for r in unreadable[:_NAMED]],
        "pose": faces.params.get("pose", "landmarks"),
        "pose_known": int(np.isfinite(faces["pose"]).all(axis=1).sum()),
        "median_pose_error": float(np.nanmedian(error)) if np.isfinite(error).any() else None,
    }
    if Path(path) in _worked:
        seconds, done = _worked[Path(path)]
        facts |= {"seconds": round(seconds, 2), "images_per_second": round(done / max(seconds, 1e-9), 2)}
    return facts


def report(summary: dict) -> None:
    """Print the counts of every status, split and class, and the files that could not be read."""
    how = summary["settings"]
    placed = {"none": "cropped, not turned", "frontal": f"seen from the front, to {how['template']}"}.get(
        how["align"], f"{how['align']} to {how['template']}"
    )
    kind = "grey" if summary["channels"] == 1 else "RGB"
    light = ", illumination normalised" if "illumination" in how else ""
    console.say(
        f"{summary['path']}: {summary['rows']:,} images of {summary['dataset']}, faces {summary['size']} × "
        f"{summary['height']} {kind} ({how['detector']}, {how['landmarks']}, {placed}){light}"
    )
    shares = [(name, f"{n:,}", f"{100 * n / summary['rows']:.1f} %") for name, n in summary["statuses"].items() if n]
    console.show(console.table("images", ("status", "number", "share"), shares))
    if any(summary["splits"]):
        splits = [(n or "(none)", f"{s['rows']:,}", f"{s['with_picture']:,}") for n, s in summary["splits"].items()]
        console.show(console.table("splits", ("split", "images", "with image"), splits))
    if any(summary["classes"].values()):
        classes = [(name, f"{n:,}") for name, n in summary["classes"].items()]
        classes += [("(no label)", f"{summary['unlabelled']:,}")] if summary["unlabelled"] else []
        console.show(console.table("labels", ("class", "images"), classes))
    if summary["pose_known"]:
        far, known = summary["median_pose_error"], f"head pose of {summary['pose_known']:,} faces ({summary['pose']})"
        if summary["pose"] == "learned":
            known += f"; median of the error to expect {far:.1f}°"
        elif far is not None:
            known += f"; median distance of landmarks from the fitted head {100 * far:.1f} % of that between the eyes"
        console.say(known)
    if bad := summary["unreadable"]:
        console.show(console.table("unreadable", ("image", "why"), [(b["id"], b["problem"]) for b in bad]))
        if (more := summary["statuses"][NAMES[UNREADABLE]] - len(bad)) > 0:
            console.say(f"and {more:,} more")
    if "seconds" in summary:
        console.say(f"{summary['seconds']:.0f} s, {summary['images_per_second']:.1f} images per second")
