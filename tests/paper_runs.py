"""What commands would leave behind, without the time: the settings that real stages derive from them, as a run, its
predictions and the faces keep them."""

import json
import shlex
from functools import cache
from pathlib import Path

import numpy as np
import typer

from fertool import artefact, cli
from fertool.datasets import DATASETS
from fertool.evaluation import cells
from fertool.evaluation.paper_results import Reported
from fertool.evaluation.setups import Setup, fused
from fertool.faces.status import OK
from fertool.labels import PROTOCOLS
from fertool.models.registry import model_settings
from fertool.recipe import load as load_recipe
from fertool.recipe import names
from fertool.stages import detect_align, walk
from fertool.training.lineage import starting_weights


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
        row: the number they lead to, which says how many faces the data sets have.
    """

    def __init__(self, row: Reported):
        self.row = row
        self.faces: dict[str, dict] = {}
        self.regions: dict[str, dict] = {}
        self.runs: list[Setup] = []
        self.recipes: list[str] = []

    def carry_out(self, commands) -> Setup:
        """Give what stands there at the end to be scored."""
        for command in commands:
            name, told = options(command)
            getattr(self, name.replace("-", "_"))(told)
        return self.runs[-1]

    def _prepare(self, settings, path: Path) -> None:
        data_set = next(c for c in DATASETS if c.name == path.name)
        own = {o: settings.dataset_options[o] for o in data_set.options}
        made = {**detect_align._deciding(settings), **own, "dataset": path.name, "limit": None}
        self.faces[path.name] = plain(made)

    def detect_align(self, told: dict) -> None:
        self._prepare(load(told["recipe"]).settings("detect-align"), told["path"])

    def crop_regions(self, told: dict) -> None:
        self.regions[told["data"]] = plain(load(None).settings("crop-regions").as_dict())

    def combine(self, told: dict) -> None:
        parts = [s.partition(":")[0] for s in told["data"]]
        extra = {"extra_data": "+".join(parts[1:]), "combined": [{"name": p} for p in parts]}
        self.faces["-".join(parts)] = self.faces[parts[0]] | extra

    def run(self, told: dict) -> None:
        recipe = load(told["recipe"])
        plan = walk._settings(recipe, tuple(told["variant"] or recipe.variants[:1] or ("",)), tuple(told["sets"] or ()))
        data = told["path"].name
        self._prepare(plan["detect-align"], told["path"])
        for stage in ("crop-regions",):
            if stage in plan:
                self.regions[data] = plain(plan[stage].as_dict())
        for variant in told["variant"] or [""]:
            self._train(recipe, plan["train"], variant, data, plan.get("build-subsets"), plan.get("eval"))

    def train(self, told: dict) -> None:
        recipe = load(told["model"])
        settings = recipe.settings("train", {}, told["sets"] or ())
        self._train(recipe, settings, told["variant"] or "", told["data"], None, None)

    def _train(self, recipe, settings, variant: str, data: str, subsets, scoring) -> None:
        model = model_settings(settings.model, variant or None).as_dict()
        part = None
        if cells._part(recipe.name, variant):
            (found,) = [
                r
                for r in map(load, names())
                if r.paper == recipe.paper
                and r.sections["train"]["model"]["name"] in ("amg", "rasnet")
                and r.dataset in (recipe.dataset, "celeba")
            ]
            part = self._described(found, found.settings("train"), "", found.dataset, None, None)
            model["part"] = part["model"]
        network = self._described(recipe, settings, variant, data, subsets, part) | {"model": plain(model)}
        crossed = subsets is not None and subsets.folds
        dataset = self.faces[data]["dataset"]
        made = Setup(
            paper=recipe.paper,
            dataset=dataset,
            variant=variant,
            networks=(network,),
            split=(scoring or recipe.settings("eval")).split,
            faces=self.faces[data],
            regions=self.regions.get(data),
            folds=f"{subsets.folds} folds ({subsets.fold_scheme})" if crossed else "",
            subset_sources=dict.fromkeys(("occlusion", "pose30", "pose45"), "list"),
        )
        self.runs.append(made)
        self.recipes.append(recipe.name)

    def _described(self, recipe, settings, variant: str, data: str, subsets, part) -> dict:
        if data not in self.faces:
            self._prepare(recipe.settings("detect-align"), Path(data))
        train = {k: v for k, v in settings.as_dict().items() if k != "model"}
        crossed = subsets is not None and subsets.folds
        train["fold"] = 0 if crossed else None
        init = starting_weights(settings.init)
        if settings.init.endswith("run.h5"):
            dataset = Path(settings.init).parts[1]
            (of,) = [s for s in self.runs if s.dataset == dataset]
            init["run"] = of.networks[0]
        return {
            "model": plain(model_settings(settings.model, variant or None).as_dict()),
            "train": plain(train),
            "classes": self.row.data.classes,
            "finished": True,
            "epochs": None,
            "prepared": {"faces": self.faces[data], "regions": self.regions.get(data)},
            "lineage": {
                "faces": self.row.data.train,
                "folds": {"number": subsets.folds, "scheme": subsets.fold_scheme} if crossed else None,
                "masks": None,
                "init": init,
                "part": part,
            },
        }

    def eval(self, told: dict) -> None:
        last = self.runs[-1]
        if told["fuse"]:
            last = fused(self.runs[-len(told["run"]) :])
        if told["data"]:
            faces = self.faces[told["data"]]
            last = Setup(**{**vars(last), "faces": faces, "dataset": faces["dataset"]})
        split = told["split"] or "test"
        self.runs.append(Setup(**{**vars(last), "split": split}))


def write_faces(
    setup: Setup, folder: Path, sizes: dict[str, int], sources: dict[str, str] | None = None, people: int = 0
):
    """Write faces of one pixel, all to be tested on, and subsets of them.

    Args:
        sizes: "all" and subsets -> how many faces.
        sources: subset -> who says which faces are in it; default: as the setup has it.
        people: number of subjects; with them, faces are divided into the setup's folds.
    """
    n = sizes["all"]
    classes = PROTOCOLS["ferplus8"][: setup.networks[0]["classes"]]
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


def write_run(setup: Setup, faces, name: str, *, fold: int | None = None, epochs: int = 12, right: float = 1.0):
    """Write the run of a setup and its predictions, which are up to date for `fertool eval`.

    Args:
        fold: of a cross-validation.
        epochs: length of the history.
        right: share of the faces that are recognised.
    """
    network, folder = setup.networks[0], faces.path.parent
    train = network["train"] | {"fold": fold}
    history = {"epoch": np.arange(1, epochs + 1.0), "val_accuracy": np.linspace(0.5, right, epochs)}
    beside = [artefact.read(p) for p in sorted(folder.glob("regions.h5")) if network["prepared"]["regions"]]
    crossed = [artefact.read(folder / "subsets.h5")] if fold is not None or train["labels"] == "list" else []
    inputs = [faces.as_parent(), *(f.as_parent() for f in (*beside, *crossed))]
    params = {"recipe": "", "variant": setup.variant, "train": train, "model": network["model"]}
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
