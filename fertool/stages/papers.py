"""papers: the numbers that the papers print of their own systems, and the commands that evaluate the same here.

Or, with --check, whether the papers' confusion matrices agree with their tables.
"""

from fertool import console
from fertool.evaluation import paper_check, paper_results
from fertool.evaluation.cells import Cell, cells
from fertool.evaluation.units import interval, percent, points


def summary(name: str | None = None) -> dict:
    """Return the numbers of one paper, or of all.

    Returns:
        {paper: {"title", "venue", "cells": [{"table", "dataset", "subset", "system", "metric", "value", "faces" (how
        many are scored), "commands", "needs", "reason" (why there are no commands)}]}}
    """
    return {n: _paper(n) for n in ([name] if name else paper_results.names())}


def _paper(name: str) -> dict:
    paper = paper_results.load(name)
    return {"title": paper.title, "venue": paper.venue, "cells": [_facts(c) for c in cells(name)]}


def _facts(cell: Cell) -> dict:
    row = cell.row
    return {
        "table": row.source,
        **{k: getattr(row, k) for k in ("dataset", "subset", "system", "metric")},
        "value": row.fraction,
        "faces": row.faces,
        "commands": list(cell.commands),
        "needs": cell.needs,
        "reason": cell.reason,
    }


def report(facts: dict) -> None:
    """Print the numbers below what they rest on and the commands that lead to them."""
    for name, paper in facts.items():
        console.say(f"\n{name}: {paper['title']} ({paper['venue']})")
        groups: dict[str, dict[tuple, list[dict]]] = {}
        for cell in paper["cells"]:
            below = groups.setdefault(cell["needs"] or f"no command: {cell['reason']}", {})
            below.setdefault(tuple(cell["commands"]), []).append(cell)
        for needs, below in groups.items():
            console.say(f"\n{needs}")
            for commands, together in below.items():
                for command in commands:
                    console.say(f"  {command}")
                for cell in together:
                    console.say(f"      {_number(cell)}")


def report_list(facts: dict) -> None:
    """Print a table of the papers, and how to see the numbers of one."""
    rows = []
    for name, paper in facts.items():
        datasets = ", ".join(dict.fromkeys(cell["dataset"] for cell in paper["cells"]))
        rows.append([name, f"{paper['title']} ({paper['venue']})", datasets, len(paper["cells"])])
    console.show(console.table("Papers", ["name", "paper", "datasets", "numbers"], rows))
    console.say("fertool papers NAME shows a paper's numbers and the commands that make yours comparable")


def _number(cell: dict) -> str:
    faces = f" ({cell['faces']:,} faces)" if cell["faces"] and cell["subset"] != "all" else ""
    of = [cell["system"], cell["table"], cell["subset"] + faces, cell["metric"]]
    return f"{percent(cell['value'])}  " + ", ".join(s for s in of if s not in ("all", "accuracy"))


def consistency(name: str | None = None) -> dict:
    """Return whether the confusion matrices of one paper, or of all, agree with its tables.

    Returns:
        {paper: {"title", "venue", "contradictions": how many, "matrices": [{"matrix", "table", "dataset", "subset",
        "faces", "faces_in_paper", "accuracy", "low", "high", "impossible_rows", "claims": [{"value", "tables",
        "system", "difference" (of the matrix from it), "contradicts"}]}], "unchecked": {matrix: reason}}}; rates are
        fractions, see `paper_check`.
    """
    return {n: _consistency(n) for n in ([name] if name else paper_results.names())}


def _consistency(name: str) -> dict:
    paper, checks, unchecked = paper_check.of(name)
    return {
        "title": paper.title,
        "venue": paper.venue,
        "contradictions": sum(claim.contradicts for c in checks for claim in c.claims),
        "matrices": [_matrix(c) for c in checks],
        "unchecked": unchecked,
    }


def _matrix(check: paper_check.MatrixCheck) -> dict:
    claims = [
        {
            "value": c.value,
            "tables": list(c.tables),
            "system": c.system,
            "difference": check.accuracy - c.value,
            "contradicts": c.contradicts,
        }
        for c in check.claims
    ]
    return {
        "matrix": check.name,
        **{k: getattr(check.row, k) for k in ("table", "dataset", "subset")},
        "faces": check.faces,
        "faces_in_paper": check.row.faces,
        **{k: getattr(check, k) for k in ("accuracy", "low", "high")},
        "impossible_rows": list(check.impossible),
        "claims": claims,
    }


def report_consistency(facts: dict) -> None:
    """Print a table of matrices and the numbers they should give, and the contradictions in one line."""
    columns = ["matrix", "faces", "matrix %", "possible %", "table %", "diff.", "stands in", ""]
    for name, paper in facts.items():
        console.say(f"\n{name}: {paper['title']} ({paper['venue']})")
        if not paper["matrices"]:
            console.say("no confusion matrix with class counts: nothing to check")
            continue
        lines = [line for matrix in paper["matrices"] for line in _consistency_rows(matrix)]
        console.show(console.table("Confusion matrices against tables", columns, lines))
        for matrix in paper["matrices"]:
            if rows := matrix["impossible_rows"]:
                console.say(
                    f"{matrix['matrix']}: not of these class counts, no whole faces give the row of {', '.join(rows)}"
                )
        for matrix, reason in paper["unchecked"].items():
            console.say(f"{matrix}: not checked, {reason}")
        numbers = sum(len(m["claims"]) for m in paper["matrices"])
        console.say(f"{paper['contradictions']} of {numbers} numbers contradict their matrix beyond rounding")


def _consistency_rows(matrix: dict) -> list[list[str]]:
    theirs = matrix["faces_in_paper"]
    faces = f"{matrix['faces']:,}" + (f" (paper: {theirs:,})" if theirs not in (None, matrix["faces"]) else "")
    known = [f"{matrix['table']}, {matrix['matrix']}", faces, percent(matrix["accuracy"])]
    known.append(interval(matrix["low"], matrix["high"]))
    if not matrix["claims"]:
        return [[*known, "–", "–", "", "no number to compare"]]
    return [
        [*known, percent(c["value"]), points(c["difference"]), ", ".join(c["tables"]),
         "contradicts" if c["contradicts"] else "agrees"]
        for c in matrix["claims"]
    ]  # fmt: skip
