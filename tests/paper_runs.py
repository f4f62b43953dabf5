"""What commands would leave behind, without the time: the settings that real stages derive from them, as a run, its
predictions and the faces keep them."""

import json
import shlex
from functools import cache
from pathlib import Path

import numpy as np
import typer

from fertool import artefact, cli
from fertool.datasets import get
from fertool.evaluation.paper_results import Reported
from fertool.evaluation.setups import Setup, fused
from fertool.faces.status import OK
from fertool.labels import PROTOCOLS
from fertool.models.registry import model_settings, required_network
from fertool.recipe import load as load_recipe
from fertool.stages import detect_align
from fertool.stages.plan import make_plan
from fertool.workspace import Workspace


def options(command: str) -> tuple[str, dict]:
    """The command's name and its options, as the real parser understands them."""
    name, *words = shlex.split(command.removeprefix("fertool "))
    parser = typer.main.get_command(cli.app).commands[name]
    return name, parser.make_context(name, words).params


def plain(value):
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


load = cache(load_recipe)


class Workbench:
    """Carries commands out on paper.

    Args:
        row: the number they lead to, which says how many faces the datasets have.
    """

    def __init__(self, row: Reported):
        self.row = row

    def carry_out(self, commands) -> Setup:
        """Give what stands there at the end to be scored."""
        last = None
        for command in commands:
            name, told = options(command)
            last = getattr(self, name)(told)
        return last

    def run(self, told: dict) -> Setup:
        others = {d: Path(folder) for d, _, folder in (o.partition("=") for o in told["others"] or ())}
        variants, sets = tuple(told["variant"] or ()), tuple(told["sets"] or ())
        plan = make_plan(load(told["recipe"]), variants, sets, others, Workspace("no workspace"))
        made = self._walk(plan, told["name"])
        if not (fuse := plan.recipe.fuse):
            *_, last = made.values()
            return last
        joined = [setup for p in plan.fused for setup in self._walk(p, told["name"]).values()]
        system = plan.stages["train"].model["name"]
        own = ["" if f == system else f for f in fuse if f not in {p.recipe.name for p in plan.fused}]
        return fused([*joined, *(made[v] for v in own)])

    def _walk(self, plan, name: str) -> dict[str, Setup]:
        trained = {e.recipe.name: self._walk(e, e.recipe.name) for e in plan.elsewhere}
        recipe, stages = plan.recipe, plan.stages
        faces = prepared(stages.get("detect-align") or recipe.settings("detect-align"), recipe.dataset)
        datasets = [recipe.dataset]
        if plan.joining:
            others = [other.recipe.dataset for other, _ in plan.joining]
            faces |= {"extra_data": "+".join(others)}
            datasets = sorted({*others, *([recipe.dataset] if self.row.dataset in self.row.trained_on else [])})
        made = {}
        for variant in plan.variants:
            settings = stages["train"]
            init = {"name": Path(settings.init or "none").name, "run": None}
            if plan.pretraining:
                init = {"name": "run.h5", "run": trained[plan.pretraining][variant].networks[0]}
            parts = [
                p
                for p in plan.parts
                if p.recipe.name in recipe.requires_recipes
                and required_network(recipe.settings("train").model, variant)
            ]
            part = [self._walk(p, name)[""].networks[0] for p in parts]
            if elsewhere := plan.part_of(variant):
                part = [trained[elsewhere][""].networks[0]]
            made[variant] = self._trained(plan, variant, faces, datasets, init, part[0] if part else None)
        return made

    def _trained(self, plan, variant: str, faces: dict, datasets: list[str], init: dict, part: dict | None) -> Setup:
        recipe, stages = plan.recipe, plan.stages
        model = plain(model_settings(stages["train"].model, variant or None).as_dict())
        if part:
            model["pretrained_part"] = part["model"]
        subsets = stages.get("build-subsets")
        crossed = {"number": subsets.folds, "scheme": subsets.fold_scheme} if subsets and subsets.folds else None
        regions = plain(stages["crop-regions"].as_dict()) if "crop-regions" in stages else None
        network = {
            "model": model,
            "train": plain({k: v for k, v in stages["train"].as_dict().items() if k != "model"})
            | {"fold": 0 if crossed else None, "init": init["name"]},
            "classes": self.row.data.classes,
            "finished": True,
            "epochs": None,
            "prepared": {"faces": faces, "regions": regions},
            "lineage": {
                "faces": self.row.data.train,
                "datasets": datasets,
                "folds": crossed,
                "masks": None,
                "init": init,
                "pretrained_part": part,
            },
        }
        return Setup(
            paper=recipe.paper,
            dataset=recipe.dataset,
            variant=variant,
            networks=(network,),
            split=(stages.get("eval") or recipe.settings("eval")).split,
            faces=faces,
            regions=regions,
            folds=f"{crossed['number']} folds ({crossed['scheme']})" if crossed else "",
            subset_sources=dict.fromkeys(("occlusion", "pose30", "pose45"), "list"),
        )


def prepared(settings, dataset: str) -> dict:
    """The settings that a faces file keeps."""
    cls = get(dataset)
    opened = cls("no folder", **{o: v for o, v in settings.data.items() if o in cls.option_names()})
    return plain({**detect_align._deciding(settings, opened), "dataset": dataset, "limit": None})


def write_faces(
    setup: Setup,
    folder: Path,
    sizes: dict[str, int],
    sources: dict[str, str] | None = None,
    people: int = 0,
    classes: tuple[str, ...] = (),
):
    """Write faces of one pixel, all to be tested on, and subsets of them.

    Args:
        sizes: "all" and subsets -> how many faces.
        sources: subset -> who says which faces are in it; default: as the setup has it.
        people: number of subjects; with them, faces are divided into the setup's folds.
        classes: default: the first of FERPlus.
    """
    n = sizes["all"]
    classes = classes or PROTOCOLS["ferplus8"][: setup.networks[0]["classes"]]
    columns = {
        "id": np.array([f"face{i:05d}.png" for i in range(n)], dtype=object),
        "images": np.zeros((n, 1, 1, 1), "u1"),
        "status": np.full(n, OK, "u1"),
        "label": (np.arange(n) % len(classes)).astype("i2"),
        "split": np.full(n, setup.split, dtype=object),
    }
    faces = artefact.save(folder / "faces.h5", "faces", columns, params=dict(setup.faces), classes=classes)
    names = [name for name in sizes if name != "all"]
    members = {name: np.arange(n) < sizes[name] for name in names}
    listed = [{"name": name, "source": (sources or setup.subset_sources)[name]} for name in names]
    params = {}
    if people:
        number = int(setup.folds.partition(" ")[0])
        members["fold"] = (np.arange(n) % people % number).astype("i2")
        params = {"folds": number, "fold_scheme": setup.folds.partition("(")[2][:-1]}
    artefact.save(
        folder / "subsets.h5", "subsets", {"id": faces.ids, **members}, params=params, inputs=[faces.as_parent()],
        info={"report": {"subsets": listed}},
    )  # fmt: skip
    if setup.regions:
        boxes = np.zeros((n, 6, 4), "f4")
        columns = {"id": faces.ids, "boxes": boxes}
        regions = dict(setup.regions)
        artefact.save(folder / "regions.h5", "regions", columns, params=regions, inputs=[faces.as_parent()])
    return faces


def write_run(
    setup: Setup,
    faces,
    name: str,
    *,
    fold: int | None = None,
    epochs: int = 12,
    right: float = 1.0,
    recipe: str = "",
):
    """Write the run of a setup and its predictions, which are up to date for `fertool eval`.

    Args:
        fold: of a cross-validation.
        epochs: length of the history.
        right: share of the faces that are recognised.
        recipe: that the run names; default: none.
    """
    network, folder = setup.networks[0], faces.path.parent
    train = network["train"] | {"fold": fold}
    history = {"epoch": np.arange(1, epochs + 1.0), "val_accuracy": np.linspace(0.5, right, epochs)}
    beside = [artefact.read(p) for p in sorted(folder.glob("regions.h5")) if network["prepared"]["regions"]]
    crossed = [artefact.read(folder / "subsets.h5")] if fold is not None or train["labels"] == "list" else []
    inputs = [faces.as_parent(), *(f.as_parent() for f in (*beside, *crossed))]
    params = {"recipe": recipe, "variant": setup.variant, "train": train, "model": network["model"]}
    state = {"state/finished": np.array(network["finished"]), "state/epoch": np.array(epochs)}
    run = artefact.save(
        folder / "runs" / name / "run.h5",
        "run",
        {f"history/{k}": v for k, v in history.items()} | state,
        params=params,
        inputs=inputs,
        classes=faces.classes,
        info={k: network[k] for k in ("prepared", "lineage")},
    )
    rows = np.arange(faces.rows)
    if fold is not None:
        rows = np.flatnonzero(np.asarray(crossed[0]["fold"]) == fold)
    label = np.asarray(faces["label"])[rows]
    logits = np.zeros((len(rows), len(faces.classes)), "f4")
    said = np.where(np.arange(len(rows)) < right * len(rows), label, (label + 1) % len(faces.classes))
    logits[np.arange(len(rows)), said] = 3
    columns = {"id": faces.ids[rows], "row": rows.astype("i4"), "label": label, "logits": logits}
    columns["status"] = np.full(len(rows), OK, "u1")
    split = "" if setup.split == "test" else f"-{setup.split}"
    artefact.save(
        run.path.with_name(f"predictions{split}.h5"), "predictions", columns, classes=faces.classes,
        params={"split": setup.split, "weights": "selected", "precision": "32"}, inputs=[run.as_parent(), *inputs],
    )  # fmt: skip
    return run
