"""eval, first half: a run and faces → predictions. Scores are a pure function of these, see `evaluation.score`."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fertool import artefact, console, executors, locks, plugins
from fertool.artefact import Artefact, Parent
from fertool.errors import ArtefactError, DataError, UsageError
from fertool.evaluation import summary
from fertool.evaluation.comparison import latency as paper_latency
from fertool.executors import Executor
from fertool.faces.status import HAS_IMAGE
from fertool.models.registry import model_class
from fertool.requirements import subjects
from fertool.requirements.rows import fold_splits
from fertool.run_folders import data_folder
from fertool.settings import Evaluate
from fertool.stages.evaluate.forward import Job, load_network, outputs, region_count
from fertool.training.data import Pixels, random_crops, region_boxes
from fertool.training.devices import Devices, describe
from fertool.training.inference import network_boxes, require_finite_outputs
from fertool.training.transforms import sample_views, view_transforms


def run(
    folder: Path,
    *,
    settings: Evaluate,
    devices: Devices,
    faces: Path | None = None,
    regions: Path | None = None,
    repeat: int = 0,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> Path:
    """Predict the faces of one split with a run's weights.

    Args:
        folder: the run.
        faces: other faces than those the run was trained on; classes are matched by name.
        regions: other regions than those beside the faces, e.g. more random crops.
        repeat: number of the sample of random crops; 0: the crops of the regions file.
        executor: where workers run; None: from the environment, else on this machine.
        overwrite: predict again although it has been done.

    Returns:
        predictions.h5 in the folder; its name also says what is not the default (other faces, split, ...). Rows are
        those of the split that have an image; labels that the run does not know count as unlabelled. Of a network
        that learns subjects: the embeddings (as `logits`) and subjects of people that it was not trained on.
    """
    trained = artefact.read(folder / "run.h5", "run")
    _check_classifies(trained, folder)
    source = _faces(trained, folder, faces)
    boxes_file = regions_of(trained, source, regions)
    inputs = [trained.as_parent(), source.as_parent(), *([boxes_file.as_parent()] if boxes_file else [])]
    subsets = _subsets(trained, source)
    if subsets:
        inputs.append(subsets.as_parent())
    params = {k: v for k, v in settings.as_dict().items() if k in ("split", "weights", "precision")}
    params |= plugins.digests(model=plugins.resolve("models", trained.params["model"]["name"]))
    if repeat:
        params["crop_repeat"] = repeat
    out = folder / _name(settings, faces, regions, repeat)
    where = executor or executors.choose()
    with locks.exclusive(out):
        _predict(trained, folder, source, boxes_file, subsets, inputs, params, out, settings, devices, where, overwrite)
    return out


def run_repeats(
    folder: Path, *, settings: Evaluate, faces: Path | None = None, regions: Path | None = None, **options: Any
) -> list[Path]:
    """Predict `settings.crop_repeats` times, each with newly sampled random crops; once if the crops are not random.

    Returns:
        predictions.h5, and the predictions of every further repeat.
    """
    trained = artefact.read(folder / "run.h5", "run")
    used = regions_of(trained, _faces(trained, folder, faces), regions)
    count = settings.crop_repeats if random_crops(used) else 1
    return [run(folder, settings=settings, faces=faces, regions=regions, repeat=i, **options) for i in range(count)]


def _predict(
    trained: Artefact,
    folder: Path,
    source: Artefact,
    boxes_file: Artefact | None,
    subsets: Artefact | None,
    inputs: list[Parent],
    params: dict,
    out: Path,
    settings: Evaluate,
    devices: Devices,
    executor: Executor,
    overwrite: bool,
) -> None:
    if out.exists() and not overwrite:
        old = artefact.read(out, "predictions")
        if (run := old.parent("run")) and run.digest != trained.digest:
            console.say(f"{folder.name} has been trained on since {out.name} was made: predicting again")
            overwrite = True
        if old.params.get("plugins") != params.get("plugins"):
            console.say(f"the network's source has changed since {out.name} was made: predicting again")
            overwrite = True
    if artefact.up_to_date(out, "predictions", params, inputs, overwrite=overwrite):
        return
    for parent in (source, boxes_file, subsets):
        if parent:
            parent.verify()
    subjects = None
    if model_class(trained.params["model"]["name"]).verifies:
        rows, subjects = _unseen(trained, source, subsets, settings.split)
        labels = np.full(len(rows), -1, np.int16)
    else:
        rows, labels = _rows(trained, source, subsets, settings.split)
    index = rows.numpy()
    job = Job(trained, source, boxes_file, params.get("crop_repeat", 0), settings)
    logits: list[np.ndarray] = []
    attention: dict[str, list[np.ndarray]] = {}
    with (
        console.progress(f"eval {folder.name}", len(rows), "face") as advance,
        closing(outputs(job, index, devices, executor)) as batches,
    ):
        for batch, weights in batches:
            logits.append(batch)
            for name, values in weights.items():
                attention.setdefault(name, []).append(values)
            advance(len(batch))
    columns = {
        "id": source.ids[index],
        "row": index.astype(np.int32),
        "status": np.asarray(source["status"])[index],
        "label": labels,
        **({} if subjects is None else {"subject": subjects}),
        "logits": np.concatenate(logits),
        **{name: np.concatenate(parts) for name, parts in attention.items()},
    }
    require_finite_outputs(
        folder.name, columns["id"], settings.precision, {name: columns[name] for name in ("logits", *attention)}
    )
    info = artefact.make_info()
    if subjects is None:
        info["summary"] = summary.of_predictions(columns["label"], columns["logits"])
    artefact.save(out, "predictions", columns, params=params, inputs=inputs, classes=trained.classes, info=info)


def predictions_of(folder: Path) -> Path | None:
    """Return a run's predictions of its own faces; None if there are none yet.

    They are those of the split "test", else of the one watched in training.
    """
    watched = artefact.read(folder / "run.h5", "run").params["train"]["val_split"]
    paths = (folder / "predictions.h5", folder / f"predictions-{watched}.h5")
    return next((p for p in paths if p.is_file()), None)


def _check_classifies(trained: Artefact, folder: Path) -> None:
    name = trained.params["model"]["name"]
    cls = model_class(name)
    if not (cls.classifies or cls.verifies):
        history = trained.group("history")
        scores, constant = (history.get(f"{k}_{cls.metric}", np.empty(0)) for k in ("val", "constant"))
        beside = f" (a constant output reaches {100 * constant[-1]:.1f} %)" if len(constant) else ""
        raise UsageError(
            f"{folder.name} predicts no expressions, so there is nothing to score; its {cls.metric} in training ended "
            f"at {100 * scores[-1] if len(scores) else float('nan'):.1f} %{beside}",
            f"train the network that requires {name}, and evaluate that",
        )


def _faces(trained: Artefact, folder: Path, faces: Path | None) -> Artefact:
    if faces is not None:
        return artefact.read(faces, "faces")
    beside = data_folder(folder) / "faces.h5"
    if not beside.is_file():
        raise ArtefactError(f"there are no faces beside the run {folder}", "name them: --data FILE")
    source = artefact.read(beside, "faces")
    trained.require_parent(source)
    return source


def regions_of(trained: Artefact, source: Artefact, regions: Path | None = None) -> Artefact | None:
    """Return the regions that a run looks at on these faces; None for networks without.

    By default those it was trained on, if they lie beside the faces (a sweep leaves several there), else regions.h5.
    """
    mine = trained.parent("regions")
    if mine is None:
        return None
    usual = source.path.with_name("regions.h5")
    boxes = None if regions else artefact.find(mine, [usual, *sorted(source.path.parent.glob("regions-*.h5"))])
    if boxes is None:
        path = regions or usual
        if not path.is_file():
            raise ArtefactError(f"there are no regions {path}", f"run: fertool crop-regions --data {source.path}")
        boxes = artefact.read(path, "regions")
    boxes.require_parent(source)
    if regions is None and boxes.digest != mine.digest and trained.parent_digest("faces") == source.digest:
        console.say(f"note: {boxes.path} holds other regions than {trained.path.parent.name} was trained on")
    return boxes


def _subsets(trained: Artefact, source: Artefact) -> Artefact | None:
    """Return the released lists' labels, or the folds, if the run was trained by those of these very faces."""
    mine = trained.parent("subsets")
    if mine is None or trained.parent_digest("faces") != source.digest:
        return None
    subsets = artefact.read(source.path.with_name("subsets.h5"), "subsets")
    subsets.require_parent(source)
    return subsets


def _rows(trained: Artefact, source: Artefact, subsets: Artefact | None, split: str) -> tuple[torch.Tensor, np.ndarray]:
    """Return rows of the split that have an image, and their labels as the run's class indices (-1: none of them)."""
    label, names, classes = np.asarray(source["label"], dtype=np.int64), source["split"], source.classes
    fold = trained.params["train"].get("fold")
    if subsets is not None and trained.params["train"]["labels"] == "list":
        label, names = np.asarray(subsets["list_label"], dtype=np.int64), subsets["list_split"]
    if subsets is not None and fold is not None:
        names = fold_splits(subsets, fold)
    ours = trained.classes or ()
    place = np.array([*(ours.index(c) if c in ours else -1 for c in classes or ()), -1])
    index = np.flatnonzero((names == split) & np.isin(np.asarray(source["status"]), HAS_IMAGE))
    if not len(index):
        there = ", ".join(sorted({n for n in names if n})) or "none"
        raise DataError(f"{source.path} has no faces with a picture in split {split!r}", f"it has: {there}")
    return torch.from_numpy(index), place[label[index]].astype(np.int16)


def _unseen(
    trained: Artefact, source: Artefact, subsets: Artefact | None, split: str
) -> tuple[torch.Tensor, np.ndarray]:
    """Return the rows of the split that show people whom the run was not trained on, and their subjects.

    Raises:
        DataError: there are none.
    """
    if trained.parent_digest("faces") == source.digest:
        s = trained.params["train"]
        found = subjects.people(source, s, trained.params["model"]["held_out"], split, subsets)
        rows, known = found.test.index, found.known
    else:
        names, known = np.asarray(source["split"]), 0
        keep = np.isin(np.asarray(source["status"]), HAS_IMAGE) & (subjects.subjects(source) != "")
        keep &= (names == split) | (names == "").all()  # a dataset without splits is verified whole
        rows = torch.from_numpy(np.flatnonzero(keep))
    if not len(rows):
        why = f": its {known:,} people are trained on" if known else ""
        raise DataError(f"{source.path} has no faces of unseen people in split {split!r}{why}", "see: fertool inspect")
    return rows, np.asarray(source["subject"])[rows.numpy()]


def _name(settings: Evaluate, faces: Path | None, regions: Path | None, repeat: int) -> str:
    parts = ["predictions"]
    parts += [faces.parent.name] if faces else []
    parts += [settings.split] if settings.split != "test" else []
    parts += [settings.weights] if settings.weights != "selected" else []
    parts += [settings.precision] if settings.precision != "32" else []
    parts += [regions.stem] if regions else []
    parts += [f"crops-{repeat + 1}"] if repeat else []
    return "-".join(parts) + ".h5"


def latency(
    folder: Path,
    *,
    settings: Evaluate,
    devices: Devices,
    faces: Path | None = None,
    regions: Path | None = None,
    measured: int = 50,
    warm_up: int = 10,
) -> dict:
    """Time per face at batch 1, from stored pixels to logits, after a warm-up.

    Args:
        folder, faces, regions: as for `run`.
        measured, warm_up: how many faces are timed, and how many go before them.

    Returns:
        {"median_ms", "p90_ms", "faces", "device", "paper": what the network's paper says, or ""}.
    """
    trained = artefact.read(folder / "run.h5", "run")
    source = _faces(trained, folder, faces)
    boxes_file = regions_of(trained, source, regions)
    net, forward, device = load_network(trained, settings, devices, region_count(boxes_file))
    boxes = region_boxes(source, boxes_file)
    rows = torch.from_numpy(np.flatnonzero(np.isin(np.asarray(source["status"]), HAS_IMAGE)))
    rows = rows[torch.arange(measured + warm_up) % len(rows)]
    pixels = Pixels(source["images"], rows.unique(), device, "device")
    times = []
    with torch.inference_mode():
        for row in rows.split(1):
            started = time.perf_counter()
            transforms = view_transforms(network_boxes(net, boxes[row], pixels.size), None).to(device)
            forward(sample_views(pixels.gather(row), transforms, net.input)).logits.cpu()
            times.append(1000 * (time.perf_counter() - started))
    counted = times[warm_up:]
    return {
        "median_ms": float(np.median(counted)),
        "p90_ms": float(np.percentile(counted, 90)),
        "faces": measured,
        "device": describe(device),
        "paper": paper_latency(trained.params["model"]["name"], trained.params["variant"]),
    }
