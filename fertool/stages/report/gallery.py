"""Single faces for a page, and where a network looked on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fertool.artefact import Artefact
from fertool.errors import ArtefactError
from fertool.evaluation.metrics import softmax
from fertool.faces.status import KEPT
from fertool.figures import thumbnails
from fertool.figures.preview import pick
from fertool.models.registry import network_of
from fertool.settings import Report
from fertool.stages.visualize.attention import view_of
from fertool.stages.visualize.inputs import Run

_MEAN_OF = 100  # faces of a class that its mean is taken over
_MOST_REGIONS = 8  # of which each has its own line


class Looks:
    """Where a network looked on the faces of its predictions: maps, weights of regions, or nothing to show."""

    def __init__(self, run: Run, faces: Artefact, predictions: Artefact):
        self.network = network_of(run.run())
        self.faces, self.predictions = faces, predictions
        self.given = {
            c.removeprefix("attention_"): predictions[c] for c in predictions.columns if c.startswith("attention_")
        }
        self.kind, self.boxes = "", None
        self.names: Sequence[str] = []
        if self.network.attention_maps({k: np.asarray(v[:1]) for k, v in self.given.items()}):
            self.kind, self.view = "maps", view_of(self.network, faces)
        elif self._weights() and (regions := _regions(run, faces, predictions)):
            self.kind, self.boxes = "regions", regions["boxes"]
            self.names = self.network.region_names(regions.params.get("regions", ())) or [
                f"region {i}" for i in range(self.boxes.shape[1])
            ]

    def _weights(self) -> str:
        """Return which attention weighs the regions, "" for none."""
        return next((name for name in self.network.region_weights if name in self.given), "")

    @property
    def weights(self) -> Any:
        """Weights of the regions for every prediction, (N, K)."""
        return self.given[self._weights()]

    def images(self, at: np.ndarray) -> np.ndarray:
        """Return the faces of some predictions, (n, H, W, C) uint8."""
        return np.asarray(self.faces["images"][np.asarray(self.predictions["row"])[at]])

    def maps(self, at: np.ndarray) -> dict[str, np.ndarray]:
        """Return their maps, (n, h, w) each, by name."""
        return self.network.attention_maps({k: np.asarray(v[at]) for k, v in self.given.items()})

    def called(self, name: str) -> str:
        """Return what a map is called on the page: nothing, if it is the only one."""
        return "" if len(self.maps(np.arange(1))) == 1 else name

    def pictures(self, at: np.ndarray) -> list[list[dict]]:
        """Return for each of them images of where the network looked: {name, src, says}."""
        images = self.images(at)
        if self.kind == "maps":
            maps = self.maps(at)
            return [
                [{"name": self.called(name), **_heat(image, m[i], self.view)} for name, m in maps.items()]
                for i, image in enumerate(images)
            ]
        if self.kind == "regions" and self.boxes is not None:
            rows, weights = np.asarray(self.predictions["row"])[at], np.asarray(self.weights[at])
            return [
                [{"name": "", **self._framed(image, np.asarray(self.boxes[row]), w)}]
                for image, row, w in zip(images, rows, weights, strict=True)
            ]
        return [[] for _ in at]

    def _framed(self, image: np.ndarray, boxes: np.ndarray, weights: np.ndarray) -> dict:
        most, least = int(weights.argmax()), int(weights.argmin())
        says = f"most: {self.names[most]} ({weights[most]:.2f}), least: {self.names[least]} ({weights[least]:.2f})"
        return {"src": thumbnails.data_uri(thumbnails.framed(image, boxes, weights)), "says": says}


def _regions(run: Run, faces: Artefact, predictions: Artefact) -> Artefact | None:
    """Return the boxes that the predictions were made with, if they are still there."""
    try:
        regions = run.regions(faces)
        predictions.require_parent(regions)
    except ArtefactError:
        return None
    return regions


def _heat(image: np.ndarray, values: np.ndarray, view: Sequence[float]) -> dict:
    y, x = np.unravel_index(values.argmax(), values.shape)
    place = [
        ("upper", "middle", "lower")[3 * y // values.shape[0]],
        ("left", "centre", "right")[3 * x // values.shape[1]],
    ]
    return {"src": thumbnails.data_uri(thumbnails.heat(image, values, view)), "says": f"most at the {' '.join(place)}"}


def gallery(looks: Looks, settings: Report) -> dict:
    """Return the most confident mistakes, and for each class a face at random that was recognised.

    Returns:
        {"n_wrong", "n_right", "wrong": [card], "right": [card]}; a card is {id, true, predicted, confidence,
        confidence_of_true, kept (no face was found), src, looked (see `Looks.pictures`)}.
    """
    predictions = looks.predictions
    label = np.asarray(predictions["label"]).astype(np.int64)
    probability = softmax(np.asarray(predictions["logits"]))
    said = probability.argmax(1)
    sure = probability.max(1)
    wrong, right = np.flatnonzero((label >= 0) & (said != label)), np.flatnonzero(said == label)
    shuffled = np.random.default_rng(settings.seed).permutation(right)
    some = [i for c in range(len(predictions.class_names)) for i in shuffled[label[shuffled] == c][:1]]
    chosen = {
        "wrong": wrong[np.argsort(-sure[wrong], kind="stable")][: settings.mistakes],
        "right": np.array(some, dtype=np.int64)[: settings.recognised],
    }
    kept = np.asarray(predictions["status"]) == KEPT if "status" in predictions else np.zeros(len(label), bool)
    cards = {
        name: [
            {
                "id": str(predictions.ids[i]),
                "true": predictions.class_names[label[i]],
                "predicted": predictions.class_names[said[i]],
                "confidence": sure[i],
                "confidence_of_true": probability[i, label[i]],
                "kept": bool(kept[i]),
                "src": thumbnails.data_uri(thumbnails.face(image)),
                "looked": looked,
            }
            for i, image, looked in zip(at, looks.images(at), looks.pictures(at), strict=True)
        ]
        for name, at in chosen.items()
    }
    return {"n_wrong": len(wrong), "n_right": len(right), **cards}


def means(looks: Looks) -> dict | None:
    """Return where the network looks on average, on all faces and on those of every class.

    Returns:
        None if there is nothing to show; for maps {"kind": "maps", "groups": [{name, n, src, maps: [{name, src, says,
        upper, middle, lower (fraction of the attention in that third of the view)}]}]}; for regions {"kind": "regions",
        "regions": names, "groups": [{name, n, weights (mean of each), most (fraction of the faces where it counts
        most)}]}.
    """
    if not looks.kind:
        return None
    label = np.asarray(looks.predictions["label"])
    groups = [("all faces", np.arange(len(label)))]
    groups += [(name, np.flatnonzero(label == c)) for c, name in enumerate(looks.predictions.class_names)]
    groups = [(name, at) for name, at in groups if len(at)]
    if looks.kind == "regions":
        return _mean_weights(looks, groups)
    return {"kind": "maps", "groups": [_mean_maps(looks, name, pick(at, _MEAN_OF)) for name, at in groups]}


def _mean_maps(looks: Looks, name: str, at: np.ndarray) -> dict:
    image = looks.images(at).mean(0).round().astype(np.uint8)
    maps = []
    for called, values in looks.maps(at).items():
        mean = values.mean(0)
        mass = np.clip(mean, 0, None)
        share = _thirds(mass) / mass.sum() if mass.sum() else np.full(3, np.nan)
        thirds = dict(zip(("upper", "middle", "lower"), share.tolist(), strict=True))
        maps.append({"name": looks.called(called), **_heat(image, mean, looks.view), **thirds})
    return {"name": name, "n": len(at), "src": thumbnails.data_uri(thumbnails.face(image)), "maps": maps}


def _thirds(mass: np.ndarray) -> np.ndarray:
    """Return the shares of a map (h, w) in its upper, middle and lower third; rows across a border are split."""
    upto = np.concatenate([[0], np.cumsum(mass.sum(1))])
    edges = np.interp(np.linspace(0, len(mass), 4), np.arange(len(upto)), upto)
    return np.diff(edges)


def _mean_weights(looks: Looks, groups: list[tuple[str, np.ndarray]]) -> dict:
    weights, names = np.asarray(looks.weights), looks.names
    if len(names) > _MOST_REGIONS:  # random crops: the n-th of one face has nothing to do with that of another
        crops = np.sort(weights[:, 1:], axis=1)
        weights = np.stack([weights[:, 0], crops[:, -1], crops.mean(1), crops[:, 0]], axis=1)
        names = ["whole face", "heaviest crop", "mean of the crops", "lightest crop"]
    most = weights.argmax(1)
    return {
        "kind": "regions",
        "regions": names,
        "groups": [
            {
                "name": name,
                "n": len(at),
                "weights": weights[at].mean(0).tolist(),
                "most": (np.bincount(most[at], minlength=len(names)) / len(at)).tolist(),
            }
            for name, at in groups
        ],
    }


def trace(trained: Artefact) -> list[dict]:
    """Return {id, name, iterations (T,), weights (T, K)} of the regions of each tracked face."""
    kept = trained.group("trace")
    name = next((k for k, v in kept.items() if k != "iteration" and v.ndim == 3), None)
    if name is None:
        return []
    weights = np.asarray(kept[name])
    return [
        {"id": face, "name": name, "iterations": np.asarray(kept["iteration"]), "weights": weights[:, i]}
        for i, face in enumerate(trained.params["train"]["track"])
    ]
