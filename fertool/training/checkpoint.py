"""A network that has learned, with all it takes to use it on images: without the files it was trained on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fertool import artefact, console, plugins
from fertool.artefact import Artefact
from fertool.artefact.schema import network_facts
from fertool.errors import ArtefactError, DeviceError, FertoolError, UsageError
from fertool.faces.align import TEMPLATES
from fertool.models.base import FerModel
from fertool.models.registry import build_model, model_settings
from fertool.outputs import MARK
from fertool.pretrained.files import check_kind, read_metadata, read_tensors, require_finite
from fertool.recipe import build
from fertool.run_folders import data_folder
from fertool.settings import CropRegions, DetectAlign
from fertool.training.exported_graph import ExportedGraph

#: suffixes of what `fertool export` writes and `predict` runs
EXPORTED = (".safetensors", ".onnx")


def preparation(faces: Artefact, regions: Artefact | None) -> dict[str, Any]:
    """Return what a run keeps of how its faces and regions were made.

    These are the settings of detect-align and of crop-regions, and the digest of the file of fit-sdm, if landmarks came
    from one.
    """
    sdm = faces.parent("sdm")
    return {
        "faces": faces.params,
        "regions": None if regions is None else regions.params,
        "sdm": sdm.digest if sdm else None,
    }


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        name: of the run.
        model: settings of the network.
        classes: ordered class names; empty for networks that predict something else.
        prepared: see `preparation`.
        train: settings of the training.
        recipe: name of the recipe, or "".
        digest: of the run.
        weights: which of its checkpoints this is, "last" or "best".
        tensors: the weights by name.
        plugins: digest of the network's source, see `fertool.plugins.digests`.
        graph: an exported ONNX file, in place of the tensors.
    """

    name: str
    model: Any
    classes: tuple[str, ...]
    prepared: Mapping[str, Any]
    train: Mapping[str, Any]
    recipe: str
    digest: str
    weights: str
    tensors: Mapping[str, Tensor]
    plugins: Mapping[str, str] = field(default_factory=dict)
    graph: ExportedGraph | None = None

    def outline(self) -> FerModel:
        """Return the network without memory for its weights: what it declares of its input and attention."""
        with torch.device("meta"):
            return build_model(self.model, len(self.classes), regions=len(self.region_names)).eval()

    def network(self) -> FerModel:
        """Return the network with its weights, on the CPU, in eval mode.

        Raises:
            ArtefactError: the weights are those of another network.
        """
        net = build_model(self.model, len(self.classes), regions=len(self.region_names))
        load_weights(net, self.tensors, self.name, self.plugins)
        return net.eval()

    @property
    def faces(self) -> DetectAlign:
        """How its faces were made.

        Raises:
            ArtefactError: it is not known, or faces cannot be made so any more.
        """
        params = self.prepared["faces"]
        if "detector" not in params:
            raise ArtefactError(
                f"{self.name} was trained on faces that do not say how they were made",
                "only faces made by fertool detect-align do",
            )
        known = {f.name for f in fields(DetectAlign)}
        settings = build(DetectAlign, {k: v for k, v in params.items() if k in known}, f"the faces of {self.name}")
        points = params.get("template_points")
        if points and points != [list(p) for p in TEMPLATES[settings.template].points]:
            raise ArtefactError(
                f"the template {settings.template} lay elsewhere when the faces of {self.name} were made",
                "make the faces again, and train again",
            )
        return settings

    @property
    def regions(self) -> CropRegions | None:
        """How its regions were made; None for networks that see the whole face."""
        params = self.prepared["regions"]
        known = {f.name for f in fields(CropRegions)}
        values = {k: v for k, v in (params or {}).items() if k in known}
        return build(CropRegions, values, f"the regions of {self.name}") if params is not None else None

    @property
    def region_names(self) -> tuple[str, ...]:
        """Names of the views it was trained on."""
        return tuple((self.prepared["regions"] or {}).get("regions", ("face",)))

    def metadata(self) -> dict[str, str]:
        """Return everything but the tensors, as text; of paths on this machine only the name."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _CONTENT}
        kept["plugins"] = dict(self.plugins)
        kept["model"] = self.model.as_dict()
        kept["train"] = {**self.train, "init": Path(self.train.get("init", "none")).name}
        return {k: v if isinstance(v, str) else json.dumps(v) for k, v in kept.items()}


_CONTENT = ("tensors", "graph")  # fields of Trained that are no metadata


def network_settings(model: Mapping[str, Any], stored: Mapping[str, str], name: str) -> Any:
    """Return the settings of a trained network; note if its source has changed since.

    Args:
        model: settings as stored.
        stored: digest of its source, see `fertool.plugins.digests`.
        name: of the run.
    """
    plugin = plugins.resolve("models", str(model.get("name")))
    if change := plugins.change(plugin, stored, "model", name):
        console.say(f"note: {change}")
    return model_settings(dict(model))


def load_weights(
    net: FerModel,
    tensors: Mapping[str, Tensor],
    name: str,
    stored: Mapping[str, str],
    reason: tuple[str, str] = ("its weights are not those of its network", "the file is damaged"),
) -> None:
    """Load the weights of a run.

    Args:
        net: the network.
        tensors: weights by name.
        name: of the run.
        stored: digest of the network's source, see `fertool.plugins.digests`.
        reason: why they may not fit, and the hint, where the source is the same.

    Raises:
        ArtefactError: they do not fit.
    """
    try:
        net.load_state_dict(dict(tensors))
    except RuntimeError as e:
        plugin = plugins.resolve("models", net.settings.name)
        if change := plugins.change(plugin, stored, "model", name):
            reason = (change, "evaluate it with the source it was trained with")
        raise ArtefactError(f"the weights of {name} do not fit: {reason[0]}", reason[1]) from e


def of_run(folder: Path, weights: str = "selected") -> Trained:
    """Return the network of a run.

    Runs of an earlier fertool do not tell how their faces were made: then the faces and regions beside them do.

    Args:
        weights: "selected" (what its select_on names), "last" or "best".

    Raises:
        ArtefactError: it has no such weights; or it tells nothing of its faces, and they do not lie beside it.
    """
    run = artefact.read(folder / "run.h5", "run")
    weights, tensors = checkpoint(run, weights)
    return Trained(
        name=folder.resolve().name,
        model=network_settings(run.params["model"], run.params.get("plugins", {}), folder.resolve().name),
        classes=run.classes or (),
        prepared=run.info.get("prepared") or _beside(run, folder),
        train=run.params["train"],
        recipe=run.params["recipe"],
        digest=run.digest,
        weights=weights,
        tensors=tensors,
        plugins=run.params.get("plugins", {}),
    )


def checkpoint(run: Artefact, weights: str) -> tuple[str, dict[str, Tensor]]:
    """Return which checkpoint is meant, "last" or "best", and its tensors by name.

    Args:
        weights: "selected" (what the run's select_on names), "last" or "best".

    Raises:
        ArtefactError: the run has no such weights.
        NotFiniteError: they are NaN or infinite.
    """
    if weights == "selected":
        weights = "last" if run.params["train"]["select_on"] == "last" else "best"
    tensors = {k: torch.from_numpy(v.copy()) for k, v in run.group(f"weights/{weights}").items()}
    if not tensors:
        raise ArtefactError(f"{run.path} has no {weights} weights", "it was trained without a validation split")
    require_finite(tensors, str(run.path))
    return weights, tensors


def _beside(run: Artefact, folder: Path) -> dict[str, Any]:
    data = data_folder(folder.resolve())
    opened: dict[str, Artefact] = {}
    for kind in ("faces", "regions"):
        if (mine := run.parent(kind)) is None:
            continue
        found = artefact.find(mine, sorted(data.glob(f"{kind}*.h5")))
        if found is None:
            raise ArtefactError(
                f"{folder} does not tell how its {kind} were made, and they no longer lie in {data}",
                f"put its {kind}.h5 back; runs trained from now on do not need it",
            )
        opened[kind] = found
    return preparation(opened["faces"], opened.get("regions"))


def is_exported(name: str) -> bool:
    """Return whether a name is that of a file that `fertool export` may have written, and not of a run."""
    return name.endswith(EXPORTED)


def of_file(path: Path) -> Trained:
    """Return the network in a .safetensors or .onnx file that `fertool export` wrote.

    Raises:
        DeviceError: it is no such file.
    """
    graph, tensors = None, {}
    if path.suffix == ".onnx":
        check_kind(path)
        graph = ExportedGraph(path.read_bytes(), path.name)
        kept = dict(graph.facts)
        if kept.get("generator") != MARK:
            raise DeviceError(
                f"{path} does not say its classes and preprocessing: fertool export did not write it",
                f"run: fertool adopt {path} --classes ..., and predict with that run",
            )
    else:
        tensors, kept = read_tensors(path), read_metadata(path)
    try:
        kept = {"plugins": "{}", **kept}  # which came later
        values: dict[str, Any] = {f.name: kept[f.name] for f in fields(Trained) if f.name not in _CONTENT}
        for name in ("model", "classes", "prepared", "train", "plugins"):
            values[name] = network_facts(kept, name, str(path))
        made = Trained(**values, tensors=tensors, graph=graph)
        model = network_settings(made.model, made.plugins, made.name)
        return replace(made, model=model, classes=tuple(map(str, made.classes)))
    except UsageError:  # a plugin
        raise
    except (KeyError, ValueError, TypeError, RecursionError, FertoolError) as e:
        raise DeviceError(
            f"{path} does not say of which network its weights are: {artefact.one_line(e)}",
            "name a run, or a file that fertool export wrote",
        ) from e
