"""papers: every number that the papers print of their own systems, and the commands that put ours beside it."""

from fertool import console
from fertool.evaluation import paper_results
from fertool.evaluation.cells import Cell, cells
from fertool.evaluation.units import percent


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


def _number(cell: dict) -> str:
    faces = f" ({cell['faces']:,} faces)" if cell["faces"] and cell["subset"] != "all" else ""
    of = [cell["system"], cell["table"], cell["subset"] + faces, cell["metric"]]
    return f"{percent(cell['value'])}  " + ", ".join(s for s in of if s not in ("all", "accuracy"))
