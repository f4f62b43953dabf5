"""What was run and on which faces it was scored, in the terms in which papers state their numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fertool import artefact
from fertool.artefact import Artefact
from fertool.errors import RecipeError
from fertool.evaluation import paper_results
from fertool.evaluation.differences import cached_recipe
from fertool.models.registry import model_class
from fertool.run_folders import data_folder
from fertool.training import lineage


@dataclass(frozen=True)
class Setup:
    """What was run and scored.

    Attributes:
        paper: name or .yaml file.
        dataset: as in the paper's file.
        variant: as the run has it, for messages.
        networks: the runs, see `training.lineage.describe`; several where their scores are fused.
        split: the split that was scored.
        faces: settings of detect-align of the faces that were scored.
        regions: settings of crop-regions of the regions they were scored with; None without.
        folds: "10 folds (subjects)", and `fold` the one that was scored, None for all of them; "" without.
        checkpoint: which one was scored.
        subset_sources: subset -> who says which faces are in it.
    """

    paper: str
    dataset: str
    variant: str
    networks: tuple[Mapping[str, Any], ...]
    split: str
    faces: Mapping[str, Any]
    regions: Mapping[str, Any] | None = None
    folds: str = ""
    fold: int | None = None
    checkpoint: str = "last"
    subset_sources: Mapping[str, str] = field(default_factory=dict)


def setup_of(
    run: Artefact,
    predictions: Artefact,
    faces: Artefact | None,
    subsets: Artefact | None = None,
    *,
    crossed: bool = False,
    paper: str = "",
) -> Setup | None:
    """Return what a run and its predictions are in the terms of a paper; None if no number of a paper belongs to them.

    That is so where there is no paper, the dataset is not known, or the split that is scored was trained on.

    Args:
        faces: those that were predicted; None if they are gone.
        subsets: subsets of these faces.
        crossed: the predictions of all folds are scored together.
        paper: name or .yaml file; by default that of the run's recipe or network.
    """
    train, split = run.params["train"], predictions.params.get("split", "test")
    paper = paper or paper_of(run)
    if split in train["train_splits"] or not paper:
        return None
    network = lineage.describe(run)
    same = run.parent_digest("faces") == predictions.parent_digest("faces")
    prepared = network["prepared"]
    if not prepared and same and faces is not None:
        network["prepared"] = prepared = {"faces": faces.params, "regions": None}
    tested = faces.params if faces is not None else prepared.get("faces") if same else None
    if not tested or "dataset" not in tested:
        return None
    folds = network["lineage"].get("folds")
    if train.get("fold") is not None and folds is None:
        folds = {"number": "?", "scheme": "not recorded"}
    return Setup(
        paper=paper,
        dataset=tested["dataset"],
        variant=run.params["variant"] or run.params["model"]["name"],
        networks=(network,),
        split=split,
        faces=tested,
        regions=_regions(run, predictions, prepared),
        folds=f"{folds['number']} folds ({folds['scheme']})" if folds else "",
        fold=None if crossed else train.get("fold"),
        checkpoint=_checkpoint(train, predictions.params.get("weights", "selected")),
        subset_sources=_sources(subsets),
    )


def paper_of(run: Artefact) -> str:
    """Return the paper of a run's recipe, whose baseline may be another paper's network; else that of its network."""
    recipe = run.params["recipe"]
    if recipe in paper_results.recipe_names() and cached_recipe(recipe).paper:
        return cached_recipe(recipe).paper
    try:
        return paper_results.of_network(model_class(run.params["model"]["name"]))
    except RecipeError:
        return ""


def _regions(run: Artefact, predictions: Artefact, prepared: Mapping) -> Mapping | None:
    """Return how the regions were made that the faces were scored with."""
    used, own = predictions.parent("regions"), run.parent("regions")
    if used is None or (own is not None and used.digest == own.digest):
        return prepared.get("regions")
    found = artefact.find(used, sorted(data_folder(predictions.path.parent).parent.glob("*/regions*.h5")))
    return found.params if found else {"mode": "not recorded"}


def _checkpoint(train: Mapping, asked: str) -> str:
    if asked == "selected":
        asked = "last" if train["select_on"] == "last" else "best"
    return asked if asked == "last" else f"best on {train['val_split']}"


def _sources(subsets: Artefact | None) -> dict[str, str]:
    if subsets is None:
        return {}
    listed = subsets.info.get("report", {}).get("subsets", ())
    return {s["name"]: s["source"] for s in listed}


def fused(setups: list[Setup | None]) -> Setup | None:
    """Return what the mean of the scores of several runs is; None where their paper or dataset is not the same."""
    known = [s for s in setups if s is not None]
    if not known or len(known) < len(setups) or len({(s.paper, s.dataset) for s in known}) > 1:
        return None
    return replace(
        known[0],
        variant="+".join(s.variant for s in known),
        networks=tuple(n for s in known for n in s.networks),
        checkpoint=" and ".join(dict.fromkeys(s.checkpoint for s in known)),
    )
