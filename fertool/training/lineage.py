"""What a run was made from, kept in the run: starting weights, pretrained part, training faces, folds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fertool import artefact
from fertool.artefact import Artefact
from fertool.errors import FertoolError
from fertool.pretrained.initialise import read_metadata
from fertool.requirements.rows import fold_count
from fertool.settings import Train


def record(
    settings: Train,
    faces: Artefact,
    rows: np.ndarray,
    used: Mapping[str, Artefact],
    pretrained_part: Path | None,
    init: Mapping | None,
) -> dict[str, Any]:
    """Return what a run keeps of its origin.

    Args:
        settings: of the training.
        faces: faces file, and the `rows` of it that are trained on.
        used: regions, subsets and masks that the run reads.
        pretrained_part: the run.h5 of its pretrained part.
        init: the starting weights as an earlier record has them, for a run that goes on; None to read them.

    Returns:
        {"faces": how many, "datasets": they come from, "folds": {"number", "scheme"} or None, "masks": settings of
        make-masks or None, "init": {"name", "run": see `describe`, or None}, "pretrained_part": see `describe`,
        or None}
    """
    crossed = used["subsets"] if settings.fold is not None and "subsets" in used else None
    return {
        "faces": len(rows),
        "datasets": _datasets(faces, rows),
        "folds": crossed and {"number": fold_count(crossed), "scheme": crossed.params.get("fold_scheme")},
        "masks": used["masks"].params if "masks" in used else None,
        "init": init or starting_weights(settings.init or "none"),
        "pretrained_part": describe(artefact.read(pretrained_part, "run")) if pretrained_part else None,
    }


def _datasets(faces: Artefact, rows: np.ndarray) -> list[str]:
    """Return the datasets of some rows; `combine` joins several, and puts their names before the ids."""
    extra = str(faces.params.get("extra_data", ""))
    datasets = [str(faces.params.get("dataset", "")), *(extra.split("+") if extra else ())]
    if len(datasets) == 1:
        return datasets
    parts = [str(part["name"]) for part in faces.params["combined"]]
    trained_on = {str(name).partition("/")[0] for name in faces.ids[rows]}
    return sorted({d for part, d in zip(parts, datasets, strict=True) if part in trained_on})


def describe(run: Artefact) -> dict[str, Any]:
    """Return the settings of a run and what it was made from.

    Returns:
        {"model", "train": settings, "classes": how many, "finished", "epochs": done, "prepared": settings of its faces
        and regions, "lineage": see `record`, empty where the run did not keep it}
    """
    state = "state/finished" in run
    return {
        **{k: run.params[k] for k in ("model", "train")},
        "classes": len(run.classes or ()),
        "finished": not state or bool(run["state/finished"]),
        "epochs": int(run["state/epoch"]) if state else None,
        "prepared": run.info.get("prepared") or {},
        "lineage": run.info.get("lineage") or {},
    }


def starting_weights(init: str) -> dict[str, Any]:
    """Return the name of starting weights, and of a run of fertool's, or a file exported from one, what it was."""
    path, run = Path(init), None
    try:
        if path.suffix == ".h5" and path.is_file():
            run = describe(artefact.read(path, "run"))
        elif path.suffix == ".safetensors" and path.is_file() and "prepared" in (kept := read_metadata(path)):
            run = {k: json.loads(kept[k]) for k in ("model", "train", "prepared")}
            run |= {"classes": len(json.loads(kept["classes"])), "finished": True, "epochs": None, "lineage": {}}
    except (FertoolError, KeyError, ValueError):
        pass  # whoever reads the weights says what is wrong with the file
    return {"name": path.name, "run": run}
