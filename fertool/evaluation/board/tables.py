"""The board on a terminal, and as rows for CSV."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from fertool import console
from fertool.evaluation.comparison import called
from fertool.evaluation.score import ALL, FEW, SIGNIFICANT
from fertool.evaluation.tables import FEW_NOTE, marked
from fertool.evaluation.units import interval, percent, points


def title(block: Mapping[str, Any]) -> str:
    """Return what the systems of a table share, as one line."""
    parts = [
        f"{block['data']}, split {block['split']}" + (", all folds" if block["folds"] else ""),
        f"{block['n_total']:,} faces, {len(block['classes'])} classes"
        + (", labels of the released lists" if block["labels"] == "list" else ""),
        f"{block['checkpoint']} checkpoint",
        f"faces {block['faces'][:12]}" + (f", subsets {block['subsets'][:12]}" if block["subsets"] else ""),
    ]
    return "; ".join(parts)


def accuracies(block: Mapping[str, Any], confidence: float) -> Table:
    """Return one line per subset and system: mean over seeds, standard deviation, interval."""
    columns = ["subset", "system", "faces", "seeds", "accuracy", "sd", f"{100 * confidence:g} % interval"]
    rows = []
    for subset in subsets(block):
        for number, system in enumerate(block["systems"]):
            s = system["subsets"][subset]
            rows.append(
                [
                    "" if number else marked(subset, s["n_total"]),
                    system["name"],
                    f"{s['n_total']:,}",
                    str(len(system["seeds"])),
                    percent(s["accuracy"]),
                    percent(s["sd"]),
                    interval(s["low"], s["high"]),
                ]
            )
    return right_aligned(console.table(title(block), columns, rows), 2)


def gaps(block: Mapping[str, Any], confidence: float) -> list[Table]:
    """Return a table per baseline: one line per subset and system that is compared with it."""
    columns = ["subset", "system", "diff.", f"{100 * confidence:g} % interval", "p", "gained", "lost", "claim"]
    made = []
    for baseline in dict.fromkeys(s["baseline"] for s in block["systems"] if s["baseline"]):
        compared = [s for s in block["systems"] if s["baseline"] == baseline]
        rows = []
        for subset in subsets(block):
            for number, system in enumerate(compared):
                scored = system["subsets"][subset]
                if gap := scored["gap"]:
                    few = "" if number else marked(subset, scored["n_total"])
                    numbers = (points(gap["difference"]), signed_interval(gap), p_value(gap["p_holm"]))
                    counts = (f"{gap['gained']:.1f}", f"{gap['lost']:.1f}", claimed(gap))
                    rows.append([few, system["name"], *numbers, *counts])
        if rows:
            made.append(right_aligned(console.table(f"Differences from {baseline}", columns, rows), 2))
    return made


def costs(block: Mapping[str, Any]) -> Table:
    """Return one line per system: its runs, the time of a training and the machine."""
    rows = [
        [
            s["name"],
            ", ".join(map(str, s["seeds"])),
            f"{s['seconds'] / 60:.1f} min",
            s["precision"],
            "; ".join(s["devices"]),
            ", ".join(r["digest"][:8] for r in s["runs"]),
        ]
        for s in block["systems"]
    ]
    return console.table("Trainings", ["system", "seeds", "time", "precision", "machine", "digests of the runs"], rows)


def notes(block: Mapping[str, Any]) -> list[str]:
    """Return what has to be known of a table's numbers, one line each."""
    systems = block["systems"]
    lines = []
    if len([s for s in systems if s["baseline"]]) > 1:
        lines.append("p is corrected for the number of differences of a subset (Holm)")
    if any(s["subsets"][n]["n_total"] < FEW for s in systems for n in s["subsets"]):
        lines.append(FEW_NOTE)
    if single := [s["name"] for s in systems if len(s["seeds"]) == 1]:
        lines.append(f"{', '.join(single)}: one seed, so the interval covers the choice of faces only")
    words: dict[str, list[str]] = {}
    for system in systems:
        for departs in system["departs"]:
            words.setdefault(departs, []).append(system["name"])
    lines += [f"the claim for {', '.join(names)} is of other settings; here: {said}" for said, names in words.items()]
    for system in systems:
        tables: dict[str, list[str]] = {}
        for c in system["claims_elsewhere"]:
            tables.setdefault(f"{c['dataset']} ({c['source']})", []).append(points(c["difference"]))
        if tables:
            said = "; ".join(f"{', '.join(values)} on {where}" for where, values in tables.items())
            lines.append(f"{system['name']}: no claim for these faces; the paper's for others: {said}")
    return lines


def rows(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per subset and system, with what a page shows of its difference."""
    made = []
    for subset in subsets(block):
        for system in block["systems"]:
            s = system["subsets"][subset]
            about = {"subset": heading(subset), "system": system["name"], "seeds": len(system["seeds"])}
            gap = s["gap"]
            if gap:
                about |= {"gap_interval": signed_interval(gap), "claim": claimed(gap)}
                about["significant"] = is_significant(gap, s["n_total"])
            made.append({**s, **about, "few": s["n_total"] < FEW})
    return made


def csv_rows(board: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """Yield a row per table, system and subset."""
    for block in board["blocks"]:
        for system in block["systems"]:
            for subset, s in system["subsets"].items():
                gap = s["gap"] or {}
                claim = gap.get("claim") or {}
                yield {
                    **{k: block[k] for k in ("data", "dataset", "split", "checkpoint", "faces", "subsets")},
                    "system": system["name"],
                    "network": system["network"],
                    "variant": system["variant"],
                    "subset": subset,
                    "seeds": len(system["seeds"]),
                    **{k: s[k] for k in ("n_total", "accuracy", "sd", "low", "high")},
                    "baseline": system["baseline"] if gap else None,
                    **{k: gap.get(k) for k in ("difference", "p", "p_holm", "gained", "lost")},
                    "difference_low": gap.get("low"),
                    "difference_high": gap.get("high"),
                    "claim": claim.get("difference"),
                    "claim_source": claim.get("source"),
                    "claim_comparable": claim.get("comparable"),
                    "seconds": system["seconds"],
                    "devices": "; ".join(system["devices"]),
                    "runs": " ".join(r["digest"] for r in system["runs"]),
                }


def subsets(block: Mapping[str, Any]) -> list[str]:
    """Return the subsets of a table, the whole split first."""
    return list(block["systems"][0]["subsets"])


def is_significant(gap: Mapping[str, Any], n_total: int) -> bool:
    """Return whether a difference may be set in bold."""
    return n_total >= FEW and gap["p_holm"] < SIGNIFICANT


def signed_interval(gap: Mapping[str, Any]) -> str:
    """Return the interval of a difference in percentage points."""
    return "–" if gap["low"] is None else f"{points(gap['low'])}…{points(gap['high'])}"


def p_value(p: float) -> str:
    """Return a p-value as it is printed."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def claimed(gap: Mapping[str, Any]) -> str:
    """Return the paper's difference, in brackets where the two may not be compared."""
    claim = gap["claim"]
    if claim is None:
        return "–"
    value = points(claim["difference"])
    return value if claim["comparable"] else f"[{value}]"


def heading(subset: str) -> str:
    """Return a subset's name for a reader."""
    return called(subset) if subset == ALL else subset


def right_aligned(table: Table, first: int) -> Table:
    """Right-align the columns from one on."""
    for column in table.columns[first:]:
        column.justify = "right"
    return table
