"""The facts about runs as one HTML page that needs nothing beside it: no network, no fonts, no other file.

The template escapes whatever comes from data, and the page forbids itself, by its Content-Security-Policy, to fetch
anything or to run any script but its own.
"""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fertool import __version__
from fertool.evaluation import charts
from fertool.evaluation.board import tables
from fertool.evaluation.score import ALL, FEW
from fertool.evaluation.units import is_missing, percent, points

#: by which a page is known to be one of these
MARK = '<meta name="generator" content="fertool">'

_SHOWN_OF_BLOCK = {"title": tables.title, "notes": tables.notes, "rows": tables.rows}
COLOURS = 6  # of runs, in the style sheet
_EPOCHS = 50  # lines of the table of a training; of longer ones every n-th epoch is shown


def render(facts: Mapping) -> str:
    """Return the page.

    Args:
        facts: {"runs": [see `stages.report.measured.facts`], "comparison": see `score.compare`, or {"refused"}, or
            None, "cross_validations": list, "board": tables of systems with several seeds, see
            `evaluation.board.results.of_block`, "confidence", "nodes": all artefacts they come from, "commands",
            "versions": see `stages.report.origin`}.
    """
    runs = [{**r, "colour": i % COLOURS} for i, r in enumerate(facts["runs"])]
    scored = [r for r in runs if r["scores"]]
    for i, r in enumerate(scored):
        r["column"] = i
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html")
        .render(
            version=__version__,
            mark=Markup(MARK),
            style=Markup(_file("report.css")),
            script=Markup(script),
            script_hash=digest,
            runs=runs,
            scored=scored,
            percent=f"{100 * facts['confidence']:g} %",
            comparison=facts["comparison"],
            cross_validations=facts["cross_validations"],
            board=[
                {"title": tables.title(b), "notes": tables.notes(b), "rows": tables.rows(b)} for b in facts["board"]
            ],
            **{k: facts[k] for k in ("nodes", "commands", "versions")},
            subsets=_subsets(scored, _best(facts["comparison"])) if scored else None,
            classes=_classes(scored),
            confusions=[_confusion(r) for r in scored],
            curves=_curves([r for r in runs if r["training"]["epochs"]]),
            reliability=_reliability([r for r in scored if r["calibration"]]),
            differing=_differing(runs),
            traces=[{"name": r["name"], "faces": _traces(r["trace"])} for r in scored if r["trace"]],
            numbers=_numbers(runs, facts),
        )
    )


@cache
def _file(name: str) -> str:
    return (resources.files("fertool") / "evaluation" / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("fertool.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "rate": percent,
        "decimal": _decimal,
        "count": lambda n: "–" if n is None else f"{n:,}",
        "signed": lambda v: points(v).replace("-", "−"),
        "p": lambda v: f"{v:.3f}" if v >= 0.001 else "< 0.001",
        "value": lambda v: "–" if v is None else (str(v).lower() if isinstance(v, bool) else str(v)),
        "duration": _duration,
        "metric": lambda name: {"iou": "IoU"}.get(name, name),
    }
    made.globals |= {"ALL": ALL, "FEW": FEW}
    return made


def _decimal(value: float | None, digits: int = 2) -> str:
    return "–" if is_missing(value) else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


# ------------------------------------------------------------------------------------------------------ on whom


def _best(comparison: Mapping | None) -> dict[str, str | None]:
    """Return the significantly best run of each subset."""
    return {name: s["best"] for name, s in (comparison or {}).get("subsets", {}).items()}


def _subsets(runs: Sequence[Mapping], best: Mapping[str, str | None]) -> dict:
    """Return the rows of the table over subsets: one per subset, and for each run what stands in it."""
    rows: dict[str, list[dict | None]] = {}
    for i, run in enumerate(runs):
        parts = run["scores"]["subsets"]
        whole = parts[ALL]
        kept = {"no face found": whole["missed"], "face found": whole["found"]} if whole["n_missed"] else {}
        for name, scores in {**parts, **kept}.items():
            cell = {"macro_accuracy": None, "paper": None, "chance": run["scores"]["chance"], **scores}
            cell |= {"best": best.get(name) == run["name"], "few": scores["n_total"] < FEW}
            rows.setdefault(name, [None] * len(runs))[i] = cell
    cells = [cell for row in rows.values() for cell in row if cell]
    return {
        "scale": _place([cell for cell in cells if cell["accuracy"] is not None]),
        "same_faces": all(len({cell["n_total"] for cell in row if cell}) == 1 for row in rows.values()),
        "papers": any(_paper_value(cell) is not None for cell in cells),
        "few": any(cell["few"] for cell in cells),
        "rows": [{"name": _called(name), "cells": row} for name, row in rows.items() if any(row)],
    }


def _called(subset: str) -> str:
    return "all faces" if subset == ALL else subset


def _paper_value(cell: Mapping) -> float | None:
    return cell["paper"]["value"] if cell["paper"] else None


def _place(cells: Sequence[dict]) -> tuple[float, float]:
    """Add to each cell where its numbers lie on one scale, and return the ends of that."""
    marks = [
        {"low": c["low"], "high": c["high"], "value": c["accuracy"], "chance": c["chance"], "paper": _paper_value(c)}
        for c in cells
    ]
    values = [v for mark in marks for v in mark.values() if v is not None] or [0.0, 1.0]
    low, high = charts.rounded(100 * min(values), 100 * max(values), 10)
    scale = low / 100, high / 100
    for cell, mark in zip(cells, marks, strict=True):
        cell["at"] = {name: None if v is None else _share(v, scale) for name, v in mark.items()}
    return scale


def _share(value: float, scale: tuple[float, float]) -> float:
    """Return where a value lies on a scale, in percent of it."""
    return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)


def _classes(runs: Sequence[Mapping]) -> list[dict]:
    """Return tables over classes: one for all runs where they share classes and faces, else one for each."""
    support = [[(n, c["support"]) for n, c in r["scores"]["subsets"][ALL]["classes"].items()] for r in runs]
    together = [list(runs)] if all(s == support[0] for s in support) else [[r] for r in runs]
    tables = []
    for group in together if runs else ():
        each = [r["scores"]["subsets"][ALL]["classes"] for r in group]
        rows = [
            {"name": name, "support": c["support"], "cells": [e[name] for e in each]} for name, c in each[0].items()
        ]
        tables.append({"runs": group, "rows": rows})
    return tables


def _confusion(run: Mapping) -> dict:
    whole = run["scores"]["subsets"][ALL]
    rows = []
    for name, counts in zip(run["classes"], whole["confusion"], strict=True):
        n = sum(counts)
        cells = [{"count": c, "share": c / n if n else None} for c in counts]
        rows.append({"name": name, "n": n, "cells": cells})
    return {"name": run["name"], "colour": run["colour"], "classes": run["classes"], "rows": rows, "whole": whole}


# ------------------------------------------------------------------------------------------- training, confidence


def _curves(runs: Sequence[Mapping]) -> list[dict]:
    """Return charts and a table of the training, one set for each thing that networks are scored by."""
    metrics = dict.fromkeys(r["training"]["metric"] for r in runs)
    return [_curve(metric, [r for r in runs if r["training"]["metric"] == metric]) for metric in metrics]


def _curve(metric: str, runs: Sequence[Mapping]) -> dict:
    only = len(runs) == 1
    epochs = max(r["training"]["epochs"] for r in runs)
    loss, score, columns, marks = [], [], [], []
    for r in runs:
        h, colour, tag = r["training"]["history"], r["colour"], "" if only else f"{r['name']} "
        at = np.arange(1, len(h["loss"]) + 1)
        of_loss = {"training": (h["loss"], True), "validation": (h.get("val_loss", np.full(len(at), np.nan)), False)}
        for split, (values, dashed) in of_loss.items():
            if not np.isnan(values).all():
                loss.append(charts.Line(f"{tag}{split}", at, values, colour, dashed))
                columns.append((f"{tag}{split} loss", values))
        terms = [k for k in h if k.startswith("loss_")] if only else []
        terms = terms if len(terms) > 1 else []
        columns += [(f"training loss, {k.removeprefix('loss_')}", h[k]) for k in terms]
        loss += [charts.Line(k.removeprefix("loss_"), at, h[k], i, True) for i, k in enumerate(terms, 1)]
        for split, dashed in (("val", False), ("train", True)):
            values = 100 * h.get(f"{split}_{metric}", np.full(len(at), np.nan))
            if not np.isnan(values).all():
                name = {"val": r["settings"].get("train.val_split", "val"), "train": "training"}[split]
                score.append(charts.Line(f"{tag}{name}", at, values, colour, dashed))
                columns.append((f"{tag}{metric}, {name} (%)", values))
        if only and f"constant_{metric}" in h:
            columns.append((f"{metric} of the best constant output (%)", 100 * h[f"constant_{metric}"]))
        if only:
            marks = (np.flatnonzero(np.diff(h["lr"]) < 0) + 1.5).tolist()
            columns.append(("learning rate", h["lr"]))
    ranges: dict[str, Any] = {"x_range": (0, max(epochs, 1)), "x_step": 1, "marks": marks}
    every = -(-epochs // _EPOCHS)
    shown = [e for e in range(epochs) if (e + 1) % every == 0 or e == epochs - 1]
    top = max((float(np.nanmax(line.y)) for line in loss if not np.isnan(line.y).all()), default=1.0)
    return {
        "metric": metric,
        "only": only,
        "names": [r["name"] for r in runs],
        "loss": charts.plot(loss, "epoch", "loss", y_range=(0, max(1.05 * top, 1e-6)), **ranges),
        "score": charts.plot(score, "epoch", f"{metric} (%)", y_range=_score_range(score), **ranges),
        "drops": bool(marks),
        "every": every,
        "columns": [name for name, _ in columns],
        "rows": [[e + 1, *(float(v[e]) if e < len(v) else None for _, v in columns)] for e in shown],
    }


def _score_range(lines: Iterable[charts.Line]) -> tuple[float, float]:
    values = np.concatenate([np.asarray(line.y) for line in lines] or [np.array([0.0, 100.0])])
    return charts.rounded(float(np.nanmin(values)), float(np.nanmax(values)), 10)


def _reliability(runs: Sequence[Mapping]) -> dict | None:
    if not runs:
        return None
    lines = []
    for r in runs:
        bins = [b for b in r["calibration"]["bins"] if b["n"]]
        x, y = ([100 * b[k] for b in bins] for k in ("confidence", "accuracy"))
        lines.append(charts.Line(r["name"], x, y, r["colour"], dots=True))
    plot = charts.plot(lines, "confidence (%)", "of these right (%)", x_range=(0, 100), y_range=(0, 100), diagonal=True)
    rows = [
        {"low": b["low"], "high": b["high"], "cells": [r["calibration"]["bins"][i] for r in runs]}
        for i, b in enumerate(runs[0]["calibration"]["bins"])
    ]
    return {"plot": plot, "runs": list(runs), "rows": [row for row in rows if any(c["n"] for c in row["cells"])]}


def _traces(faces: Sequence[Mapping]) -> list[dict]:
    """Return a chart for each tracked face, a line for each of its regions, too many for a legend."""
    top = max(float(f["weights"].max()) for f in faces)
    made = []
    for face in faces:
        t, weights = face["iterations"], face["weights"]
        lines = [charts.Line("", t, weights[:, k], k % COLOURS) for k in range(weights.shape[1])]
        plot = charts.plot(
            lines, "iteration", f"{face['name']} weight", x_range=(0, max(int(t[-1]), 1)), y_range=(0, max(top, 1e-6))
        )
        order = np.argsort(-weights[-1], kind="stable")[:5]
        said = ", ".join(f"{k + 1} ({weights[-1, k]:.3f})" for k in order)
        made.append({"id": face["id"], "plot": plot, "last": said})
    return made


# ----------------------------------------------------------------------------------------------------- how made


def _differing(runs: Sequence[Mapping]) -> list[dict]:
    """Return settings that all runs have, but not with the same value: {key, values}, a value for each run."""
    keys = [k for k in runs[0]["settings"] if all(k in r["settings"] for r in runs)]
    rows = [{"key": k, "values": [r["settings"][k] for r in runs]} for k in keys]
    return [row for row in rows if any(v != row["values"][0] for v in row["values"])]


def _numbers(runs: Sequence[Mapping], facts: Mapping) -> dict:
    """Return what the page says, for programs."""
    each = {
        r["name"]: {k: r.get(k) for k in ("data", "model", "variant", "recipe", "fold", "scores", "calibration")}
        for r in runs
    }
    return _plain({"runs": each, **{k: facts[k] for k in ("comparison", "cross_validations", "board")}})


def _plain(value: Any) -> Any:
    """Return a value without what JSON cannot express."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
