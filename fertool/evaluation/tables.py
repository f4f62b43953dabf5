"""Scores as tables for the terminal and as rows for CSV."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.table import Table

from fertool import console, files
from fertool.datasets.tabular import escape_formula
from fertool.evaluation.comparison import called
from fertool.evaluation.score import ALL, FEW
from fertool.evaluation.units import interval, percent, points

#: what the star behind a name means
FEW_NOTE = f"* fewer than {FEW} faces: an accuracy on them says little"

Results = Mapping[str, Mapping]  # run name -> result of `score.score`, with the paper's numbers if they are in it


def scores(results: Results, title: str) -> Table:
    """Return one line per subset, under the name of its run if there are several, with the paper's numbers."""
    confidence = next(iter(results.values()))["confidence"]
    columns = ["subset", "faces", "right", "accuracy", f"{100 * confidence:g} % interval", "macro"]
    subsets = [s for r in results.values() for s in r["subsets"].values()]
    with_paper = any(s.get("paper") and s["paper"]["value"] is not None for s in subsets)
    if with_paper:
        columns += ["paper", "diff."]
    several, rows = len(results) > 1, []
    for run, result in results.items():
        if several:
            rows.append([run, *[""] * (len(columns) - 1)])
        for name, s in result["subsets"].items():
            row = [
                "  " * several + marked(name, s["n_total"]),
                s["n_total"],
                s["n_correct"],
                percent(s["accuracy"]),
                interval(s["low"], s["high"]),
                percent(s["macro_accuracy"]),
            ]
            if with_paper:
                paper = s.get("paper") or {"value": None, "difference": None}
                row += [percent(paper["value"]), points(paper["difference"])]
            rows.append(row)
    return _numbers_right(console.table(title, columns, rows))


def notes(results: Results) -> list[str]:
    """Return what has to be said below the table of scores, one line each; what holds for all runs is said once."""
    runs_of: dict[str, list[str]] = {}
    for run, result in results.items():
        says = result["paper"]["says"] if result.get("paper") else ()
        for line in [*_counts(result, rates=len(results) == 1), *says]:
            runs_of.setdefault(line, []).append(run)
    compared = [r["paper"] for r in results.values() if r.get("paper") and r["paper"]["says"]]
    papers = dict.fromkeys(f"{p['title']} ({p['venue']})" for p in compared)
    lines = [line if len(runs) == len(results) else f"{', '.join(runs)}: {line}" for line, runs in runs_of.items()]
    return [*lines, *(f"paper: {p}" for p in papers)]


def _counts(result: Mapping, rates: bool) -> list[str]:
    lines = [f"{name}: no face of this split is in it" for name, s in result["subsets"].items() if not s["n_rows"]]
    if any(0 < s["n_total"] < FEW for s in result["subsets"].values()):
        lines.append(FEW_NOTE)
    whole = result["subsets"][ALL]
    if whole["n_unlabelled"]:
        lines.append(f"left out for want of a label: {whole['n_unlabelled']:,} of {whole['n_rows']:,}")
    if whole["n_missed"]:
        line = f"no face found and the whole image taken: {whole['n_missed']:,} of {whole['n_total']:,}"
        if rates:
            line += f", {percent(whole['missed']['accuracy'])} % right"
            line += f" ({percent(whole['found']['accuracy'])} % of the others)" if whole["found"]["n_total"] else ""
        lines.append(line)
    return lines


def marked(name: str, n_total: int) -> str:
    """Return a subset's name for a reader, with a star if it has few faces."""
    return called(name) + (" *" if 0 < n_total < FEW else "")


def classes(result: Mapping, subset: str = ALL, run: str = "") -> Table:
    """Return a line per class; the title names the run, if one is given."""
    columns = ["class", "faces", "predicted", "recall", "precision", "F1"]
    rows = [
        [name, c["support"], c["n_predicted"], *(percent(c[k]) for k in ("recall", "precision", "f1"))]
        for name, c in result["subsets"][subset]["classes"].items()
    ]
    return _numbers_right(console.table(f"Classes, {_of(run, subset)}", columns, rows))


def _of(run: str, subset: str) -> str:
    return f"{run}, {called(subset)}" if run else called(subset)


def confusion(result: Mapping, subset: str = ALL, run: str = "") -> Table:
    """Return counts: a line for each true class, a column for each predicted one (first letters of its name)."""
    names = result["classes"]
    rows = [[n, *counts] for n, counts in zip(names, result["subsets"][subset]["confusion"], strict=True)]
    return console.table(
        f"True class (lines) and predicted class (columns), {_of(run, subset)}", ["", *_short(names)], rows
    )


def groups(grouped: Mapping, column: str, confidence: float, run: str = "") -> Table:
    """Return a line per group of faces, from `groups.score_groups`."""
    columns = [column, "faces", "right", "accuracy", f"{100 * confidence:g} % interval", "macro"]
    rows = [
        [
            name + " *" * s["few"],
            s["n_total"],
            s["n_correct"],
            percent(s["accuracy"]),
            interval(s["low"], s["high"]),
            percent(s["macro_accuracy"]),
        ]
        for name, s in grouped["groups"].items()
    ]
    return _numbers_right(console.table(f"{run + ', by' if run else 'By'} {column}", columns, rows))


def gap(grouped: Mapping) -> str:
    """Return in words the largest gap between groups, and whether it is more than chance."""
    few = f"; {FEW_NOTE}" if any(s["few"] for s in grouped["groups"].values()) else ""
    if not (found := grouped["gap"]):
        return f"fewer than two groups have {FEW} labelled faces: no gap is tested{few}"
    significance = "significant" if found["significant"] else "not significant"
    return (
        f"largest gap: {points(found['difference'])} points between {found['highest']} and {found['lowest']}, "
        f"p {_p_words(found['p'])} (permutation test, {significance}){few}"
    )


def _p_words(p: float) -> str:
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"


def group_rows(result: Mapping, run: str) -> list[dict]:
    """Return a flat row per column and group, for CSV; the gap of a column stands in each of its rows."""
    return [
        {"run": run, "subset": ALL, "by": column, "group": name, **scores}
        | {f"gap_{k}": (grouped["gap"] or {}).get(k) for k in ("difference", "p", "highest", "lowest")}
        for column, grouped in result["groups"].items()
        for name, scores in grouped["groups"].items()
    ]


def comparison(result: Mapping) -> Table:
    """Return runs against the first of them, from `score.compare`: a block per subset, one line per run.

    "gained" and "lost" are the faces that only this run, or only the first, got right; p is McNemar's exact one.
    """
    reference = result["reference"]
    rows = []
    for subset, s in result["subsets"].items():
        if not s["n_total"]:
            continue
        rows.append([f"{marked(subset, s['n_total'])}, {s['n_total']:,} faces", *[""] * 5])
        for name, r in s["runs"].items():
            compared = [""] * 4
            if name != reference:
                compared = [points(r["difference"]), r["only_this"], r["only_reference"], _p(r["p_exact"])]
            rows.append([f"  {name}", percent(r["accuracy"]), *compared])
    columns = ["run", "accuracy", "diff.", "gained", "lost", "p"]
    return _numbers_right(console.table(f"Face by face against {reference} (p: McNemar, exact)", columns, rows))


def folds(result: Mapping, name: str) -> Table:
    """Return a cross-validation: every fold, then all of them pooled and averaged, beside the paper's number."""
    columns = ["fold", "faces", "right", "accuracy", f"{100 * result['confidence']:g} % interval or sd", "macro"]
    rows = [
        [f["fold"], f["n_total"], f["n_correct"], percent(f["accuracy"]), "", percent(f["macro_accuracy"])]
        for f in result["folds"]
    ]
    p, m = result["pooled"], result["fold_mean"]
    pooled = (percent(p["accuracy"]), interval(p["low"], p["high"]), percent(p["macro_accuracy"]))
    rows.append(["pooled", p["n_total"], p["n_correct"], *pooled])
    rows.append(["fold mean", "", "", percent(m["accuracy"]), f"± {percent(m['sd_sample'])}", ""])
    if (paper := result["paper"]) and paper["value"] is not None:
        columns += ["paper", "diff."]
        shown = percent(paper["value"]) + (f" ± {100 * paper['sd']:g}" if paper["sd"] else "")
        for row in rows:
            row.extend([shown, points(paper["difference"])] if row[0] == paper["aggregation"] else ["", ""])
    return _numbers_right(console.table(name, columns, rows))


def fold_notes(result: Mapping) -> list[str]:
    """Return what has to be said below it."""
    m = result["fold_mean"]
    lines = [f"sd over folds: {percent(m['sd_sample'])} (n - 1), {percent(m['sd_population'])} (n)"]
    if lasts := result["last_epochs"]:
        lines.append(f"over the last {lasts['epochs']} epochs {percent(lasts['mean'])} % on average, mean of the folds")
    if paper := result["paper"]:
        lines += [*paper["says"], f"paper: {paper['title']} ({paper['venue']})"]
    return lines


def fold_confusion(result: Mapping) -> Table:
    """Return a line, in percent, for each true class, averaged over folds; a fold without the class counts as zeros."""
    names = result["classes"]
    rows = [[n, *(percent(v, 1) for v in line)] for n, line in zip(names, result["confusion_mean"], strict=True)]
    return console.table(
        "True class (lines) and predicted class (columns), mean over folds", ["", *_short(names)], rows
    )


def paper_confusion(name: str, rows: list[list[float] | None], classes: list[str]) -> Table:
    """Return percent, as the paper prints them; a row that is not known is left blank."""
    blank = ["–"] * len(classes)
    shown = [[c, *([percent(v, 1) for v in row] if row else blank)] for c, row in zip(classes, rows, strict=True)]
    return console.table(f"The paper's, in % ({name})", ["", *_short(classes)], shown)


def fold_rows(result: Mapping, name: str) -> list[dict]:
    """Return one flat row per fold, and one each for all pooled and averaged, for CSV."""
    rows = [{"system": name, **fold} for fold in result["folds"]]
    p = {k: result["pooled"][k] for k in ("n_total", "n_correct", "accuracy", "macro_accuracy")}
    mean = {"n_total": None, "n_correct": None, "accuracy": result["fold_mean"]["accuracy"], "macro_accuracy": None}
    return [*rows, {"system": name, "fold": "pooled", **p}, {"system": name, "fold": "fold mean", **mean}]


def score_rows(result: Mapping, run: str) -> list[dict]:
    """Return one flat row per subset, for CSV."""
    rows = []
    for name, s in result["subsets"].items():
        row = {"run": run, "subset": name}
        row |= {
            k: s[k] for k in ("n_rows", "n_unlabelled", "n_missed", "n_total", "n_correct", "accuracy", "low", "high")
        }
        row["macro_accuracy"] = s["macro_accuracy"]
        row |= {f"recall_{c}": v["recall"] for c, v in s["classes"].items()}
        paper = s.get("paper") or {}
        rows.append(row | {f"paper_{k}": paper.get(k) for k in ("value", "difference", "source")})
    return rows


def class_rows(result: Mapping, run: str) -> list[dict]:
    """Return one flat row per subset and class, with that class's line of the confusion matrix, for CSV."""
    return [
        {"run": run, "subset": name, "class": c, **values}
        | {f"predicted_{p}": n for p, n in zip(result["classes"], counts, strict=True)}
        for name, s in result["subsets"].items()
        for (c, values), counts in zip(s["classes"].items(), s["confusion"], strict=True)
    ]


def write_csv(path: Path, rows: Iterable[Mapping]) -> Path:
    """Write rows with the keys of the first as header; None becomes an empty cell, and no text a formula.

    Raises:
        DataError: the file cannot be written.
    """
    rows = list(rows)
    with files.replacing(path) as part, open(part, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, fieldnames=list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows({k: escape_formula(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
    return path


def _numbers_right(table: Table) -> Table:
    """Right-align all columns but the first, also where a number is a dash, a blank or has a sign."""
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _short(names: Iterable[str]) -> list[str]:
    """Return names cut to as few letters as tell them apart, at least four."""
    names = list(names)
    for n in range(4, max(map(len, names), default=4) + 1):
        short = [name[:n] for name in names]
        if len(set(short)) == len(names):
            return short
    return names
