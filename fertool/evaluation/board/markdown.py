"""The board as a Markdown page."""

from collections.abc import Iterator, Mapping
from typing import Any

from fertool.evaluation.board import tables
from fertool.evaluation.markdown import escaped, table
from fertool.evaluation.score import FEW
from fertool.evaluation.units import interval, percent, points
from fertool.outputs import MARK

_GAPS = ("subset", "system", "baseline", "difference", "interval", "p", "p (Holm)", "gained", "lost", "claim")
_COSTS = ("system", "seed", "run", "digest", "minutes", "precision", "machine")


def page(board: Mapping[str, Any], figures: Mapping[int, str] | None = None) -> str:
    """Return the page.

    Args:
        board: see `stages.board.run`.
        figures: number of a table -> file name of its figure, beside the page.
    """
    lines = ["# Results", "", _legend(board["confidence"]), ""]
    for number, block in enumerate(board["blocks"]):
        lines += [f"## {escaped(block['data'])}, split {escaped(block['split'])}", ""]
        lines += [f"{escaped(tables.title(block))}.", ""]
        lines += [*_accuracies(block), ""]
        if figures and number in figures:
            lines += [f"![Accuracy of every system with its interval]({figures[number]})", ""]
        if rows := list(_gap_rows(block)):
            head = (
                "subset",
                "system",
                "baseline",
                "difference",
                "interval",
                "p",
                "p (Holm)",
                "gained",
                "lost",
                "claim",
            )
            lines += ["### Differences", "", *table(head, rows, text=3), ""]
        lines += ["### Trainings", "", *_costs(block), ""]
        if notes := tables.notes(block):
            lines += [*(f"- {escaped(line)}" for line in notes), ""]
    if board["left_out"]:
        lines += ["## Runs that are not counted", ""]
        lines += [f"- `{r['run']}`: {escaped(r['reason'])}" for r in board["left_out"]] + [""]
    return "\n".join([*lines, f"<!-- {MARK} -->", ""])


def _legend(confidence: float) -> str:
    return (
        f"Accuracies in percent: mean over seeds ± standard deviation, in brackets the {100 * confidence:g} % interval "
        "over seeds and faces. Differences are in percentage points, bold where p, corrected by Holm for the systems "
        "of the subset, is below 0.05. Gained and lost: faces that only the system or only its baseline gets right, "
        "mean over pairs of their runs. Claim: the paper's difference, in brackets where it is of other settings."
    )


def _accuracies(block: Mapping[str, Any]) -> list[str]:
    names = tables.subsets(block)
    sizes = block["systems"][0]["subsets"]
    head = ["system", "seeds", *(f"{tables.heading(n)} ({sizes[n]['n_total']:,})" for n in names)]
    rows = [
        [escaped(s["name"]), str(len(s["seeds"])), *(_accuracy(s["subsets"][n]) for n in names)]
        for s in block["systems"]
    ]
    return table(head, rows, text=1)


def _accuracy(scored: Mapping[str, Any]) -> str:
    if scored["accuracy"] is None:
        return "–"
    sd = "" if scored["sd"] is None else f" ± {percent(scored['sd'])}"
    few = " \\*" if scored["n_total"] < FEW else ""
    return f"{percent(scored['accuracy'])}{sd} ({interval(scored['low'], scored['high'])}){few}"


def _gap_rows(block: Mapping[str, Any]) -> Iterator[list[str]]:
    for subset in tables.subsets(block):
        for system in block["systems"]:
            scored = system["subsets"][subset]
            if gap := scored["gap"]:
                value = points(gap["difference"])
                bold = tables.is_significant(gap, scored["n_total"])
                yield [
                    tables.heading(subset),
                    escaped(system["name"]),
                    escaped(system["baseline"]),
                    f"**{value}**" if bold else value,
                    tables.signed_interval(gap),
                    tables.p_value(gap["p"]),
                    tables.p_value(gap["p_holm"]),
                    f"{gap['gained']:.1f}",
                    f"{gap['lost']:.1f}",
                    tables.claimed(gap) + (f" {gap['claim']['source']}" if gap["claim"] else ""),
                ]


def _costs(block: Mapping[str, Any]) -> list[str]:
    rows = []
    for system in block["systems"]:
        for run in system["runs"]:
            cost = [f"{run['seconds'] / 60:.1f}", system["precision"], run["device"]]
            rows.append([escaped(system["name"]), str(run["seed"]), escaped(run["name"]), run["digest"][:12], *cost])
    return table(_COSTS, rows, text=7)
