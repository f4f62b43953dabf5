"""Blocks of systems → the numbers of the board."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fertool.errors import UsageError
from fertool.evaluation import differences
from fertool.evaluation.board import effects
from fertool.evaluation.board.claims import claim, elsewhere
from fertool.evaluation.board.systems import Block, Entry, System
from fertool.evaluation.comparison import in_words
from fertool.evaluation.setups import Setup
from fertool.models.registry import model_class
from fertool.run_folders import short_name


def of_block(block: Block, *, confidence: float, baseline: str = "", paper: str = "") -> dict[str, Any]:
    """Return the numbers of one table.

    Args:
        baseline: label of the system, or name of a run of it, that all others are compared with; where none is called
            so, those of a network are compared with its own baseline, of several with that which differs in the fewest
            settings.
        paper: whose claims stand beside the differences, see `settings.Evaluate`.

    Returns:
        what the systems share (see `systems.Block`), and "systems": [{"name", "network", "variant", "baseline" (name or
        None), "seeds", "runs": [{"name", "seed", "fold", "digest", "seconds", "device"}], "differs", "seconds" (mean of
        a seed's training), "devices", "precision", "claims_elsewhere": [{"dataset", "source", "difference"}],
        "departs" (from the paper's settings, in words), "subsets": {name: {"n_total", "accuracy", "sd", "low", "high",
        "each", "gap": see `_gap`, or None}}}]. Rates are fractions, None where there is nothing to say.
    """
    compared = _baselines(block.systems, baseline)
    setups = {s.label: s.setup(paper) for s in block.systems}
    systems = [_system(block, s, compared[s.label], setups, confidence) for s in block.systems]
    for subset in block.members:
        _correct([s["subsets"][subset] for s in systems])
    return {**block.about, "systems": systems}


def _baselines(systems: Sequence[System], name: str) -> dict[str, System | None]:
    """Return the system that each is compared with, by label.

    Raises:
        UsageError: no system is meant by that name, or several.
    """
    if named := [s for s in systems if is_called(s, name)]:
        if len(named) > 1:
            labels = "; ".join(s.label for s in named)
            raise UsageError(f"several systems are {name!r}: {labels}", "name one by its whole label")
        return {s.label: None if s is named[0] else named[0] for s in systems}
    compared: dict[str, System | None] = {}
    for system in systems:
        network = system.first.network
        wanted = network, model_class(network).baseline
        candidates = [s for s in systems if wanted[1] and (s.first.network, s.first.variant) == wanted]
        nearest = min(candidates, key=lambda s: _distance(s, system), default=None)
        compared[system.label] = None if system in candidates else nearest
    return compared


def is_called(system: System, name: str) -> bool:
    """Return whether a name is a system's label or that of one of its runs."""
    return name == system.label or any(name in (e.name, short_name(e.run.path.parent)) for e in system.runs)


def _distance(one: System, other: System) -> int:
    """Return in how many settings two systems differ."""
    mine, theirs = one.first.settings(), other.first.settings()
    return sum(mine.get(k) != theirs.get(k) for k in {*mine, *theirs})


def _system(
    block: Block, system: System, base: System | None, setups: Mapping[str, Setup | None], confidence: float
) -> dict[str, Any]:
    setup, theirs = setups[system.label], setups[base.label] if base else None
    cost = [sum(e.seconds for e in entries) for entries in system.entries.values()]
    departs: dict[str, Any] = {}
    subsets = {}
    for name, inside in block.members.items():
        right = system.right[:, inside]
        scored: dict[str, Any] = {"n_total": int(inside.sum()), "gap": None}
        scored |= dict.fromkeys(("accuracy", "sd", "low", "high")) | {"each": []}
        if inside.any():
            m = effects.mean(right, confidence)
            scored |= {"accuracy": m.value, "sd": _number(m.sd), "low": m.low, "high": m.high, "each": list(m.each)}
            if base is not None:
                scored["gap"] = _gap(right, base.right[:, inside], confidence)
                if setup and theirs and (found := claim(setup, theirs, name, scored["n_total"])):
                    scored["gap"]["claim"] = {
                        "difference": found.value,
                        "system": found.system,
                        "baseline": found.baseline,
                        "source": found.source,
                        "comparable": not found.found,
                        "differs": differences.as_json(found.found),
                    }
                    departs.setdefault(in_words(found.found), []).append(name)
        subsets[name] = scored
    other = elsewhere(setup, theirs) if setup and theirs and not departs else []
    return {
        "name": system.label,
        "network": system.first.network,
        "variant": system.first.variant,
        "baseline": base and base.label,
        "seeds": list(system.entries),
        "runs": [_run(e) for e in system.runs],
        "differs": system.differs,
        "seconds": float(np.mean(cost)),
        "devices": list(dict.fromkeys(e.run.info.get("device", "") or "not recorded" for e in system.runs)),
        "precision": system.first.run.params["train"].get("precision", ""),
        "claims_elsewhere": [{"dataset": d, "source": s, "difference": v} for d, s, v in other],
        "departs": {words: names for words, names in departs.items() if words},
        "subsets": subsets,
    }


def _run(entry: Entry) -> dict[str, Any]:
    about = {"name": entry.name, "seed": entry.seed, "fold": entry.fold, "digest": entry.run.digest}
    return about | {"seconds": entry.seconds, "device": entry.run.info.get("device", "")}


def _gap(right: effects.Right, base: effects.Right, confidence: float) -> dict[str, Any]:
    """Return {"difference", "low", "high", "p", "p_holm" (set by `_correct`), "gained", "lost", "claim"}."""
    g = effects.gap(right, base, confidence)
    numbers = {"difference": g.value, "low": _number(g.low), "high": _number(g.high), "p": g.p, "p_holm": g.p}
    return numbers | {"gained": g.gained, "lost": g.lost, "claim": None}


def _correct(scored: Sequence[dict[str, Any]]) -> None:
    """Correct the p-values of a subset for the number of differences tested in it."""
    gaps = [s["gap"] for s in scored if s["gap"]]
    for gap, p in zip(gaps, effects.holm([g["p"] for g in gaps]), strict=True):
        gap["p_holm"] = p


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
