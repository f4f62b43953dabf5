"""In what a training departs from a paper's: every setting that influences the result, against the paper's recipe."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from fertool import datasets, yaml_files
from fertool.errors import FertoolError, RecipeError
from fertool.evaluation.paper_results import Data, Member, Reported, plain, recipe_names
from fertool.models.registry import model_class, model_settings
from fertool.recipe import Recipe, set_to
from fertool.recipe import load as load_recipe
from fertool.settings import DetectAlign, Train
from fertool.training.schedule import learning_rate

#: settings that are not compared one by one, and why
NOT_COMPARED = {
    "train.model": "compared key by key, as train.model.KEY",
    "train.init": "compared by what the weights are, not by the name of their file",
    "train.fold": "compared together with the folds of build-subsets",
    "train.epochs": "compared as the length of the training",
    "train.iterations": "compared as the length of the training",
    "train.lr": "compared as the learning rate over the training",
    "train.lr_milestones": "compared as the learning rate over the training",
    "train.lr_every": "compared as the learning rate over the training",
    "train.lr_unit": "compared as the learning rate over the training",
    "train.lr_gamma": "compared as the learning rate over the training",
    "train.lr_schedule": "compared as the learning rate over the training",
    "train.lr_warmup": "compared as the learning rate over the training",
    "train.select_on": "compared as the checkpoint that is scored",
    "train.val_split": "only watched, unless a checkpoint is selected on it",
    "train.seed": "chance: the paper's is not known",
    "train.patience_on": "compared as train.patience",
    "train.precision": "changes results by rounding",
    "train.channels_last": "changes results by rounding",
    "train.compile": "changes results by rounding",
    "train.cache": "changes the speed only",
    "train.accumulate": "saves memory: the batch of an optimiser step stays the same",
    "train.track": "only looked at",
    "train.track_every": "only looked at",
    "train.checkpoint_minutes": "changes what an interruption costs",
    "detect-align.pose": "makes the pose subsets, whose source is compared",
    "detect-align.pose_weights": "makes the pose subsets, whose source is compared",
    "detect-align.sdm": "the name of a file",
    "crop-regions.materialize": "stores pixels that networks cut themselves",
    "crop-regions.seed": "chance: the paper's is not known",
    "make-masks.seed": "chance: the paper's is not known",
}

#: the worst first: beginnings of the names of differences
ORDER = (
    *("test split", "folds", "subset", "test faces", "classes", "network"),
    *("train.model.", "training", "starting weights", "trained on", "faces to train on", "pretrained part"),
    *("learning rate", "checkpoint", "train.", "crop-regions.", "make-masks.", "detect-align."),
)
#: those up to here change what is measured, or the network itself
_WORST = ORDER.index("training")

_LENGTH = 0.05  # by which fraction trainings may differ in length
_RATE = 1.25, 0.05  # the rate may fall otherwise by this factor, and by more in this part of the training


@dataclass(frozen=True)
class Difference:
    """One thing that is not as in the paper: its name, and what it is there and here."""

    name: str
    paper: str
    here: str

    @property
    def rank(self) -> int:
        """Place in `ORDER`."""
        return next((i for i, start in enumerate(ORDER) if self.name.startswith(start)), len(ORDER))

    @property
    def is_worst(self) -> bool:
        """Whether something else is measured, or another network."""
        return self.rank < _WORST

    def __str__(self) -> str:
        name = self.name.removeprefix("train.").removeprefix("model.")
        return f"{name} {self.here} instead of {self.paper}"


def of_network(member: Member, row: Reported, here: Mapping) -> tuple[Difference, ...]:
    """Return in what a run departs from the training behind a paper's number, under that variant of it that is closest.

    Args:
        member: the paper's network, one of those of the row.
        here: the run, see `training.lineage.describe`.
    """
    each = [
        tuple(_of_run(member.recipe, v, member.given, here, data=row.data, trained_on=row.trained_on))
        for v in member.variants
    ]
    return min(each, key=lambda found: (sum(d.is_worst for d in found), len(found)))


def of_faces(member: Member, faces: Mapping) -> Iterator[Difference]:
    """Yield in what faces were prepared otherwise than those behind a paper's number.

    Args:
        faces: settings of detect-align, as their file has them.
    """
    yield from _section("detect-align", _asked(member.recipe, member.given), member.given, faces)


def wanted_weights(member: Member) -> str | None:
    """Return the name of starting weights that come from elsewhere, which nobody can check; None if there are none."""
    init = _wanted_init(member.recipe, member.given)
    return None if init in ("none", "imagenet") or init in recipe_names() else init


def _wanted_init(recipe: str, given: Mapping[str, Any]) -> str:
    """Return the starting weights of a paper's network, as in `paper_results`."""
    loaded = cached_recipe(recipe)
    return str(given.get("train.init") or loaded.pretraining or loaded.settings("train").init or "none")


def crossed(member: Member) -> str:
    """Return how the paper's recipe divides the faces for cross-validation, "" for not at all."""
    settings = _asked(member.recipe, member.given)["build-subsets"]
    return f"{settings.folds} folds ({settings.fold_scheme})" if settings.folds else ""


def train_settings(member: Member) -> Train:
    """Return how the paper's network is trained."""
    return _asked(member.recipe, member.given)["train"]


def test_split(member: Member) -> str:
    """Return the split that the paper's recipe scores."""
    return _asked(member.recipe, member.given)["eval"].split


def _of_run(
    recipe: str,
    variant: str,
    given: Mapping[str, Any],
    here: Mapping,
    *,
    data: Data | None = None,
    trained_on: Iterable[str] = (),
) -> Iterator[Difference]:
    asked = _asked(recipe, given)
    train, lineage, prepared = asked["train"], here["lineage"], here["prepared"]
    theirs = model_settings(train.model, variant or None).as_dict()
    yield from _network(theirs, given, here["model"])
    mine = _train(here["train"])
    if not here["finished"]:
        yield Difference("training", _length(train), f"stopped after epoch {here['epochs']} of {_length(mine)}")
    elif not _as_long(train, mine, data.train if data else None, lineage.get("faces")):
        yield Difference("training", _length(train), _length(mine))
    init = _wanted_init(recipe, given)
    yield from _weights(init, variant, lineage.get("init") or {"name": "not recorded", "run": None})
    theirs_on = sorted(trained_on or [cached_recipe(recipe).dataset])
    mine_on = lineage.get("datasets") or ["unknown"]
    if theirs_on != mine_on:
        yield Difference("trained on", " and ".join(theirs_on), " and ".join(mine_on))
    if data and data.train and mine.fold is None:
        count = lineage.get("faces")
        if count is None or not near(count, data.train, data.train_tolerance):
            yield Difference("faces to train on", f"{data.train:,}", "not recorded" if count is None else f"{count:,}")
    if "pretrained_part" in here["model"] and here["model"]["pretrained_part"]:
        yield from _part(lineage.get("pretrained_part"), model_class(theirs["name"]).paper, recipe)
    yield from _rate(train, mine, lineage.get("faces"))
    plainly = {k: v for k, v in train.as_dict().items() if k != "train_splits" or mine.fold is None}
    yield from _keys("train", plainly, given, mine.as_dict())
    if prepared.get("regions") is not None:
        yield from _section("crop-regions", asked, given, prepared["regions"])
    if masks := lineage.get("masks"):
        yield from _section("make-masks", asked, given, masks)
    if prepared.get("faces") and "detect-align" in cached_recipe(recipe).sections:  # else another recipe made them
        yield from _section("detect-align", asked, given, prepared["faces"])


def _network(theirs: Mapping, given: Mapping, stored: Mapping) -> Iterator[Difference]:
    if theirs["name"] != stored["name"]:
        yield Difference("network", theirs["name"], stored["name"])
        return
    try:
        mine = model_settings({k: v for k, v in stored.items() if k != "pretrained_part"}).as_dict()
    except RecipeError:  # of another fertool
        mine = stored
    yield from _keys("train.model", {k: v for k, v in theirs.items() if k != "pretrained_part"}, given, mine)


def _keys(section: str, theirs: Mapping, given: Mapping, mine: Mapping) -> Iterator[Difference]:
    """Yield the settings of a section that differ, but for those that are not compared."""
    for key, value in json.loads(json.dumps(theirs)).items():
        name = f"{section}.{key}"
        if name in NOT_COMPARED or key not in mine:
            continue
        allowed = given[name] if isinstance(given.get(name), list) and not isinstance(value, list) else [value]
        if mine[key] not in allowed:
            yield Difference(name, " or ".join(map(plain, allowed)), plain(mine[key]))


def _section(section: str, asked: Mapping, given: Mapping, mine: Mapping) -> Iterator[Difference]:
    theirs = asked[section].as_dict()
    if section == "detect-align":
        theirs["limit"] = None
        mine = {**DetectAlign().as_dict(), "limit": None, **mine}
        theirs = _with_options(theirs, theirs["data"], mine)
        mine = _with_options(mine, mine["data"], mine)
        for one in (theirs, mine):
            one["height"] = None if one["height"] == one["size"] else one["height"]
    yield from _keys(section, theirs, given, mine)


def _with_options(section: Mapping, options: Mapping, faces: Mapping) -> dict:
    """Return settings of detect-align with the options of the faces' dataset beside the others, as "data.NAME"."""
    try:
        defaults = datasets.get(faces.get("dataset", "")).Options().as_dict()
    except FertoolError:  # a plugin that is not there now
        defaults = {}
    given = {k: v for k, v in options.items() if k in defaults}
    return {k: v for k, v in section.items() if k != "data"} | {f"data.{k}": v for k, v in (defaults | given).items()}


def _weights(init: str, variant: str, mine: Mapping) -> Iterator[Difference]:
    """Compare starting weights; those of a recipe may be of the whole network or of the same variant.

    Args:
        init: as in `paper_results`. mine: see `training.lineage.starting_weights`.
    """
    run, name = mine["run"], mine["name"]
    if init in recipe_names():
        if run is None:
            yield Difference("starting weights", f"a run of {init}", name)
        else:
            for d in min((list(_of_run(init, v, {}, run)) for v in ("", variant)), key=len):
                yield Difference(f"starting weights: {d.name.removeprefix('train.')}", d.paper, d.here)
    elif init in ("none", "imagenet"):
        if name != init:
            yield Difference("starting weights", init, name)
    elif run is not None:
        yield Difference("starting weights", init, f"a run of {run['model']['name']}")
    elif not Path(name).suffix:  # a word, as imagenet, and no file
        yield Difference("starting weights", init, name)


def _part(part: Mapping | None, paper: str, recipe: str) -> Iterator[Difference]:
    """Compare the pretrained part with the recipe of the same paper that trains it."""
    if part is None:
        yield Difference("pretrained part", "trained by its recipe", "not recorded")
        return
    dataset = cached_recipe(recipe).dataset
    found = [
        r
        for r in map(cached_recipe, sorted(recipe_names()))
        if r.paper == paper and r.sections.get("train", {}).get("model", {}).get("name") == part["model"]["name"]
    ]
    for own in [r for r in found if r.dataset == dataset] or found[:1]:
        for d in _of_run(own.name, "", {}, part):
            yield Difference(f"pretrained part: {d.name.removeprefix('train.')}", d.paper, d.here)


# --------------------------------------------------------------------------------------------------- the recipe


def cached_recipe(name: str) -> Recipe:
    """Return a recipe, read once."""
    return _recipe(name, yaml_files.version(name))


@cache
def _recipe(name: str, _version: tuple[str, int]) -> Recipe:
    return load_recipe(name)


def _frozen(given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return settings that have one value, so that they can be looked up."""
    return tuple((k, json.dumps(v)) for k, v in sorted(given.items()) if not isinstance(v, list))


def _asked(recipe: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the sections of a recipe, with those of a number laid over them."""
    return _asked_once(recipe, yaml_files.version(recipe), _frozen(given))


@cache
def _asked_once(recipe: str, _version: tuple[str, int], given: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    loaded = cached_recipe(recipe)
    sets = [set_to(k, json.loads(v)) for k, v in given]
    return {
        section: loaded.settings(section, {}, [s for s in sets if s.startswith(f"{section}.")])
        for section in ("detect-align", "make-masks", "crop-regions", "build-subsets", "train", "eval")
    }


def _train(stored: Mapping) -> Train:
    """Return the settings of a training from those that a run holds; what it lacks has its default."""
    known = {f.name for f in fields(Train)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k in known}
    return Train(**values)


# ------------------------------------------------------------------------------------------- length and rate


def near(number: float, wanted: float, tolerance: float) -> bool:
    """Return whether two numbers differ by no more than a fraction, or by one."""
    return abs(number - wanted) <= max(1, tolerance * wanted)


def _length(s: Train) -> str:
    return f"{s.iterations:,} iterations" if s.iterations else f"{s.epochs:,g} epochs"


def _as_long(theirs: Train, mine: Train, their_faces: int | None, my_faces: int | None) -> bool:
    pair: tuple[float, float]
    if theirs.iterations and mine.iterations:
        pair = theirs.iterations, mine.iterations
    elif not theirs.iterations and not mine.iterations:
        pair = theirs.epochs, mine.epochs
    else:
        pair = _epochs(theirs, their_faces or my_faces), _epochs(mine, my_faces)
    return math.isfinite(pair[0]) and abs(pair[1] - pair[0]) <= _LENGTH * pair[0]


def _epochs(s: Train, faces: int | None) -> float:
    if not s.iterations:
        return s.epochs
    return s.iterations * s.global_batch / faces if faces else math.inf


def _rate(theirs: Train, mine: Train, faces: int | None) -> Iterator[Difference]:
    falls = _falls(theirs), _falls(mine)
    if (theirs.lr, falls[0]) == (mine.lr, falls[1]) or _same_rate(theirs, mine, faces):
        return
    if falls[0] == falls[1]:
        yield Difference("learning rate", f"{theirs.lr:g}", f"{mine.lr:g}")
    else:
        yield Difference("learning rate", f"{theirs.lr:g}{falls[0]}", f"{mine.lr:g}{falls[1]}")


def _falls(s: Train) -> str:
    """Return in words how the learning rate falls, "" where it does not."""
    share, unit = s.lr_unit == "fraction", s.lr_unit
    length = f"{100 * s.lr_warmup:g} %" if share else f"{s.lr_warmup:g} {unit}s"
    start = f", warm-up of {length}" if s.lr_warmup else ""
    if s.lr_schedule == "cosine":
        return f"{start}, cosine"
    if s.lr_every:
        every = f"{100 * s.lr_every:g} %" if share else unit if s.lr_every == 1 else f"{s.lr_every:,g} {unit}s"
        return f"{start}, × {s.lr_gamma:g} every {every}"
    at = ", ".join(f"{100 * m:g} %" if share else f"{m:,g}" for m in s.lr_milestones)
    return f"{start}, × {s.lr_gamma:g} at {'' if share else unit + ' '}{at}" if at else start


def _same_rate(theirs: Train, mine: Train, faces: int | None) -> bool:
    """Return whether the rate is about the same all through the training, however its fall is written down."""
    pairs = list(zip(_rates(theirs, faces), _rates(mine, faces), strict=True))
    factor, part = _RATE
    return theirs.lr == mine.lr and sum(max(p) > factor * min(p) for p in pairs) <= part * len(pairs)


def _rates(s: Train, faces: int | None, points: int = 200) -> list[float]:
    an_epoch = max(1, round((faces or 10_000) / s.global_batch))
    total = s.iterations or max(1, round(s.epochs * an_epoch))
    return [learning_rate(s, int(total * (i + 0.5) / points), an_epoch, total) for i in range(points)]


def as_json(found: tuple[Difference, ...]) -> dict[str, dict[str, str]]:
    """Return differences as {name: {"paper", "here"}}, the worst first."""
    return {d.name: {k: v for k, v in asdict(d).items() if k != "name"} for d in sorted(found, key=lambda d: d.rank)}
