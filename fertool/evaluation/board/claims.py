"""The difference that a paper prints between two systems, and in what these were run otherwise."""

from collections.abc import Iterator
from dataclasses import dataclass

from fertool.errors import RecipeError
from fertool.evaluation import comparison, paper_results
from fertool.evaluation.differences import Difference, cached_recipe
from fertool.evaluation.paper_results import Reported
from fertool.evaluation.score import ALL
from fertool.evaluation.setups import Setup


@dataclass(frozen=True)
class Claim:
    """Accuracy of a paper's system above that of its baseline, both from one table.

    Attributes:
        value: difference, a fraction.
        system, baseline: accuracies, fractions.
        source: table of the paper.
        found: in what our two systems were run or scored otherwise than the paper's, the worst first; nothing where
            the two differences may be compared.
    """

    value: float
    system: float
    baseline: float
    source: str
    found: tuple[Difference, ...]


def claim(system: Setup, baseline: Setup, subset: str, n_total: int) -> Claim | None:
    """Return what the paper claims for a pair of systems on this dataset's subset; None if it prints no such pair.

    Of several tables that hold the pair the one counts from which our two differ in the fewest settings.

    Args:
        n_total: number of faces that were scored.
    """
    if system.paper != baseline.paper or system.dataset != baseline.dataset:
        return None
    pairs = [(m, t) for m, t in _pairs(system, baseline) if (m.dataset, m.subset) == (system.dataset, subset)]
    if not pairs:
        return None
    departing = [
        tuple(dict.fromkeys((*comparison.departs(system, m, n_total), *comparison.departs(baseline, t, n_total))))
        for m, t in pairs
    ]
    (mine, theirs), found = min(zip(pairs, departing, strict=True), key=lambda one: len(one[1]))
    value = mine.fraction - theirs.fraction
    return Claim(value, mine.fraction, theirs.fraction, mine.source, tuple(sorted(found, key=lambda d: d.rank)))


def elsewhere(system: Setup, baseline: Setup) -> list[tuple[str, str, float]]:
    """Return what the paper claims for a pair of systems on other datasets: (dataset, table, difference) each."""
    if system.paper != baseline.paper:
        return []
    pairs = _pairs(system, baseline)
    kept = [(m, t) for m, t in pairs if m.dataset != system.dataset and m.subset == ALL]
    return [(m.dataset, m.source, m.fraction - t.fraction) for m, t in kept]


def _pairs(system: Setup, baseline: Setup) -> Iterator[tuple[Reported, Reported]]:
    """Yield the pairs of numbers that a paper prints for two systems under otherwise equal settings."""
    theirs = list(_rows(baseline))
    for mine in _rows(system):
        for other in theirs:
            if all(_of(mine, key) == _of(other, key) for key in ("table", "dataset", "subset", "settings", "recipe")):
                yield mine, other


def _of(row: Reported, key: str) -> object:
    return row.members[0].recipe if key == "recipe" else getattr(row, key)


def _rows(setup: Setup) -> Iterator[Reported]:
    """Yield the accuracies that the paper prints for this network and variant, whatever else was otherwise."""
    if len(setup.networks) != 1:
        return
    for row in paper_results.load(setup.paper).results:
        if (row.metric, len(row.members)) != ("accuracy", 1) or paper_results.unreachable(row):
            continue
        member = row.members[0]
        if setup.variant in member.variants and _network(member.recipe) == setup.networks[0]["model"]["name"]:
            yield row


def _network(recipe: str) -> str:
    try:
        return str(cached_recipe(recipe).sections["train"]["model"]["name"])
    except (KeyError, RecipeError):
        return ""
