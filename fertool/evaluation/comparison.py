"""Which number of a paper belongs beside a result, and if none does, what is otherwise than in the paper."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from fertool.evaluation import differences, paper_results
from fertool.evaluation.differences import Difference, near
from fertool.evaluation.paper_results import Reported
from fertool.evaluation.setups import Setup
from fertool.evaluation.units import percent, points
from fertool.models.registry import model_class

#: the subset that is the whole split
_WHOLE = "all"
_SHOWN = 6  # differences in a line
#: differences that are named beside a matrix and do not keep it away
_SAID_ONLY = ("test faces", "subset faces", "subset", "classes")


@dataclass(frozen=True)
class Comparison:
    """The paper's number for a setup, or None, and what else it prints.

    Attributes:
        reported: the number that belongs here; None if the paper has none for these settings.
        others: different numbers for the same settings (papers contradict themselves); where `reported` is None, the
            number for the closest other settings.
        found: what differs from the settings of the others; nothing where there is a number.
        assumed: what has to be believed for the comparison to hold, "" for nothing.
    """

    reported: Reported | None = None
    others: tuple[Reported, ...] = ()
    found: tuple[Difference, ...] = ()
    assumed: str = ""


def compare(setup: Setup, subset: str = _WHOLE, n_total: int | None = None, metric: str = "accuracy") -> Comparison:
    """Return the paper's number for this setup and subset: that of a row from which nothing differs.

    Args:
        n_total: how many faces were scored; None where it is not known.
    """
    rows = [
        r
        for r in paper_results.load(setup.paper).results
        if (r.dataset, r.subset, r.metric) == (setup.dataset, subset, metric)
        and len(r.members) == len(setup.networks)
        and not paper_results.unreachable(r)
    ]
    each = [(r, departs(setup, r, n_total)) for r in rows]
    if not each:
        return Comparison()
    equal = _distinct([r for r, found in each if not found])
    if equal:
        return Comparison(equal[0], equal[1:], assumed=_assumed(setup, equal[0]))
    _, found = min(each, key=lambda one: _distance(one[1]))
    return Comparison(None, _distinct([r for r, f in each if f == found]), found)


def departs(setup: Setup, row: Reported, n_total: int | None = None) -> tuple[Difference, ...]:
    """Return everything in which a setup differs from that of a paper's number, the worst first."""
    found = [*_measured(setup, row, n_total)]
    each = min(_assignments(setup, row), key=lambda ds: _distance(tuple(ds)))
    training = {d.name for d in each}
    scored = [d for d in differences.of_faces(row.members[0], setup.faces) if d.name not in training]
    found += each + [Difference(f"{d.name} of the faces scored", d.paper, d.here) for d in scored]
    return tuple(sorted(dict.fromkeys(found), key=lambda d: d.rank))


def _assignments(setup: Setup, row: Reported) -> Iterator[list[Difference]]:
    """Yield the differences of the networks, for every order in which they may be those of the row."""
    table = [[differences.of_network(m, row, n) for n in setup.networks] for m in row.members]
    for order in permutations(range(len(setup.networks))):
        yield [d for member, place in zip(table, order, strict=True) for d in member[place]]


def _measured(setup: Setup, row: Reported, n_total: int | None) -> Iterator[Difference]:
    """Yield what differs in the faces that are scored, and in how."""
    member, data = row.members[0], row.data
    folds = differences.crossed(member)
    theirs = f"fold {row.fold} of {folds}" if folds and row.fold is not None else folds
    mine = setup.folds if setup.fold is None else f"fold {setup.fold} of {setup.folds}"
    if theirs != mine:
        yield Difference("folds", theirs or "none", mine or "none")
    if not folds and setup.split != differences.test_split(member):
        yield Difference("test split", differences.test_split(member), setup.split)
    classes = {n["classes"] for n in setup.networks}
    if data.classes and classes != {data.classes}:
        yield Difference("classes", str(data.classes), ", ".join(map(str, sorted(classes))))
    if setup.checkpoint != "last":
        yield Difference("checkpoint", "last", setup.checkpoint)
    if row.subset != _WHOLE and data.subset_source:
        source = setup.subset_sources.get(row.subset, "not recorded")
        if source != data.subset_source:
            yield Difference("subset", f"by {_SOURCES[data.subset_source]}", f"by {_SOURCES.get(source, source)}")
    if row.faces and n_total is not None and row.fold is None and not near(n_total, row.faces, data.tolerance):
        name = "test faces" if row.subset == _WHOLE else "subset faces"
        yield Difference(name, f"{row.faces:,}", f"{n_total:,}")
    trained = setup.networks[0]["prepared"].get("regions")
    if setup.regions and trained and setup.regions != trained:
        for k in sorted(k for k in trained if k in setup.regions or k == "mode"):
            if f"crop-regions.{k}" not in differences.NOT_COMPARED and setup.regions.get(k) != trained[k] != "regions":
                yield Difference(f"crop-regions.{k} of the faces scored", str(trained[k]), str(setup.regions.get(k)))


_SOURCES = {
    "list": "the authors' lists",
    "estimate": "the estimated head pose",
    "truth": "what rendered faces know",
    "table": "a table of your own",
    "not recorded": "an unknown source",
}


def _distance(found: tuple[Difference, ...]) -> tuple[int, int, int]:
    """Return how far settings are away: another network is further than any other setting of the same one."""
    return sum(d.name == "network" for d in found), sum(d.is_worst for d in found), len(found)


def _assumed(setup: Setup, row: Reported) -> str:
    names = {name for m in row.members if (name := differences.wanted_weights(m))}
    files = dict.fromkeys(n["lineage"]["init"]["name"] for n in setup.networks if names)
    return f"provided that {', '.join(files)} holds weights of {' and '.join(sorted(names))}" if names else ""


def _distinct(rows: list[Reported]) -> tuple[Reported, ...]:
    """Return the first row of every value."""
    seen: dict[float, Reported] = {}
    for row in rows:
        seen.setdefault(row.value, row)
    return tuple(seen.values())


# ------------------------------------------------------------------------------------------------ beside results


def beside(result: dict, setup: Setup | None) -> dict:
    """Return the result of `score.score` with the paper's numbers in it.

    Adds `paper` {name, title, venue, says: lines for a reader, confusions: see `confusions`} and, to every subset,
    `paper`: {value, system, source, note, assumed, difference (accuracy above the paper's), others
    [{value, source, note}], differs {name: {paper, here}} the worst first, says (the differences in words)}, or None.
    Without a setup the result comes back as it is.
    """
    if setup is None:
        return result
    paper = paper_results.load(setup.paper)
    found = {name: compare(setup, name, s["n_total"]) for name, s in result["subsets"].items()}
    subsets = {name: {**s, "paper": _entry(found[name], s["accuracy"])} for name, s in result["subsets"].items()}
    says = [*_lines(found), *_recalls(setup, result)]
    about = {"name": paper.name, "title": paper.title, "venue": paper.venue, "says": says}
    matrices = confusions([setup], result["classes"], result["subsets"][_WHOLE]["n_total"])
    return {**result, "paper": {**about, "confusions": matrices}, "subsets": subsets}


def beside_folds(result: dict, folds: list[Setup | None]) -> dict:
    """Return the result of `folds.score` with the paper's number in it, if it belongs beside every fold.

    Adds `paper`: {name, title, venue, says, confusions, value, sd, aggregation (which of ours it is compared with), and
    what `beside` gives a subset}, or None.
    """
    known = [s for s in folds if s is not None]
    if len(known) < len(folds):
        return {**result, "paper": None}
    each = [compare(s, n_total=result["pooled"]["n_total"]) for s in known]
    found = max(each, key=lambda c: len(c.found))
    row = found.reported or next(iter(found.others), None)
    if row is None:
        return {**result, "paper": None}
    pooled = row.aggregation == "pooled"
    entry = _entry(found, result["pooled" if pooled else "fold_mean"]["accuracy"]) or {}
    paper = paper_results.load(known[0].paper)
    says = _lines({_WHOLE: found})
    if row.why:
        says.append(f"compared with the {'pooled' if pooled else 'mean'} accuracy: {row.why}")
    entry |= {"name": paper.name, "title": paper.title, "venue": paper.venue, "says": says}
    entry["confusions"] = confusions(known, result["classes"], result["pooled"]["n_total"])
    return {
        **result,
        "paper": entry | {"sd": row.sd and row.sd / 100, "aggregation": "pooled" if pooled else "fold mean"},
    }


def beside_matrix(
    setup: Setup, n_total: int | None = None, subset: str = _WHOLE
) -> dict[str, tuple[tuple[str, ...], np.ndarray, tuple[Difference, ...]]]:
    """Return the matrices that the paper prints for this network, dataset, subset and fold.

    By name: class names, fractions (C, C) with NaN where a row is not known, and what else differs.
    """
    paper, found = paper_results.load(setup.paper), {}
    for name, row in paper.matrices.items():
        if (row.dataset, row.subset) != (setup.dataset, subset) or len(setup.networks) != 1 or not row.members:
            continue
        departing = departs(setup, row, n_total)
        identity = ("detect-align.data.views", "detect-align.data.frames", "detect-align.data.contempt")
        if not any((d.is_worst and d.name not in _SAID_ONLY) or d.name in identity for d in departing):
            classes, matrix = paper.confusion(name)
            found[f"{row.table}, {name}"] = (classes, matrix / 100, departing)
    return found


def confusions(setups: Sequence[Setup], classes: Sequence[str], n_total: int) -> dict[str, list[list[float] | None]]:
    """Return the matrices of the paper from whose settings nothing differs, in the order of these classes.

    Args:
        setups: a run, or all folds of a system.
        n_total: how many faces were scored, over all of them.

    Returns:
        name -> rows of true classes, fractions; None for a row that is not known.
    """
    each = [beside_matrix(s, n_total) for s in setups]
    found = {}
    for name, (theirs, matrix, _) in each[0].items():
        if set(theirs) == set(classes) and all(name in m and not m[name][2] for m in each):
            order = [theirs.index(c) for c in classes]
            rows = matrix[np.ix_(order, order)]
            found[name] = [None if np.isnan(row).any() else row.tolist() for row in rows]
    return found


def reason(entry: Mapping | None) -> str:
    """Return in words why a result has no number of the paper beside it, though there is one; "" where it has.

    Args:
        entry: `paper` of a subset or a cross-validation.
    """
    if entry is None or entry["value"] is not None:
        return ""
    return in_words(tuple(Difference(name, **d) for name, d in entry["differs"].items()))


def latency(network: str, variant: str) -> str:
    """Return in words what the paper of a network says of its time per face, "" for nothing."""
    paper = paper_results.of_network(model_class(network))
    if not paper:
        return ""
    told = paper_results.load(paper).latency
    time = told.get("milliseconds", {}).get(variant or network)
    return f"the paper: {time:g} ms on a {told['device']}" if time else ""


def in_words(found: tuple[Difference, ...]) -> str:
    """Return differences as one line."""
    said = "; ".join(str(d) for d in found[:_SHOWN])
    return said + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _entry(found: Comparison, accuracy: float | None) -> dict | None:
    r = found.reported
    if r is None and not found.others:
        return None
    entry: dict[str, Any] = dict.fromkeys(("value", "system", "source", "note", "difference"))
    if r is not None:
        entry |= {"value": r.fraction, "system": r.system, "source": r.source, "note": r.note}
        entry["difference"] = None if accuracy is None else accuracy - r.fraction
    return entry | {
        "assumed": found.assumed,
        "others": [{"value": o.fraction, "source": o.source, "note": o.note} for o in found.others],
        "differs": differences.as_json(found.found),
        "says": in_words(found.found),
    }


def _lines(each: Mapping[str, Comparison]) -> list[str]:
    """Return what a reader has to know of the numbers, one line each. What holds for several subsets is said once."""
    lines: dict[str, list[str]] = {}
    for name, c in each.items():
        if c.reported:
            notes = ", ".join(filter(None, (c.reported.note, c.assumed)))
            lines.setdefault(f"compared with {c.reported.source}" + (f"; {notes}" if notes else ""), []).append(name)
    said = [f"{', '.join(map(called, names))}: {line}" for line, names in lines.items()]
    said += [
        f"{called(name)}: the paper also has {_numbers(c.others)}"
        for name, c in each.items()
        if c.reported and c.others
    ]
    missing = {name: c for name, c in each.items() if not c.reported and c.others}
    if not missing:
        return said
    shared = [d for d in next(iter(missing.values())).found if all(d in c.found for c in missing.values())]
    numbers = "; ".join(f"{called(name)} {_numbers(c.others)}" for name, c in missing.items())
    said.append(f"not compared with the paper: {numbers}")
    if shared:
        said.append(f"because here: {in_words(tuple(shared))}")
    for name, c in missing.items():
        if own := tuple(d for d in c.found if d not in shared):
            said.append(f"{called(name)}, here: {in_words(own)}")
    return said


def _recalls(setup: Setup, result: Mapping) -> Iterator[str]:
    """Yield the paper's recall of single classes beside ours."""
    whole = result["subsets"][_WHOLE]
    for name, scores in whole.get("classes", {}).items():
        r = compare(setup, n_total=whole["n_total"], metric=f"recall of {name}").reported
        if r and scores["recall"] is not None:
            here, gap = percent(scores["recall"]), points(scores["recall"] - r.fraction)
            yield f"recall of {name}: {here} here, {r.value:.2f} in {r.source} ({gap})"


def _numbers(rows: tuple[Reported, ...]) -> str:
    return ", ".join(f"{r.value:.2f} in {r.source}" for r in rows)


def called(subset: str) -> str:
    """Return a subset's name for a reader."""
    return "whole split" if subset == _WHOLE else subset
