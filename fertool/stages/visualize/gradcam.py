"""Which parts of a face speak for a class: Grad-CAM and guided Grad-CAM of runs side by side."""

from collections.abc import Sequence

import numpy as np
import torch

from fertool.artefact import Artefact
from fertool.errors import DataError, UsageError, nearest
from fertool.figures import Drawn, figure, gradcam
from fertool.models.registry import model_class
from fertool.settings import Visualize
from fertool.stages.visualize.inputs import Run, inside
from fertool.stages.visualize.network import open_network
from fertool.training.gradcam import Explained, explain


@figure("gradcam", "which parts of faces speak for their class: Grad-CAM and guided Grad-CAM of runs side by side")
def draw_gradcam(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw MAN's Fig. 5 and 7, a face of each class; by subject its Fig. 6 and 8."""
    if settings.by == "pose":
        raise UsageError("gradcam shows faces by class or by subject", "--by class or --by subject")
    for r in runs:
        name = r.run().params["model"]["name"]
        if not model_class(name).classifies:
            raise UsageError(
                f"{r.name} has no classes that Grad-CAM could ask about",
                f"name a run of a network that requires {name}",
            )
    faces = runs[0].faces()
    predictions = [r.predictions(r.faces()) for r in runs]
    for r, p in zip(runs, predictions, strict=True):
        if p.classes != predictions[0].classes:
            raise UsageError(f"{r.name} has other classes than {runs[0].name}", "draw them in separate figures")
    if settings.by == "subject":
        return _people(runs, predictions[0], faces, settings, subset)
    ids = settings.ids or _one_of_each(predictions, faces, settings, subset)
    at = [_places(p, ids) for p in predictions]
    panels, arrays, parents = [], {"id": np.array(ids, object)}, [faces]
    for r, p, i in zip(runs, predictions, at, strict=True):
        rows = np.asarray(p["row"])[i]
        mine = r.faces()
        found = _explain(r, mine, rows, np.asarray(p["label"])[i], settings)
        said = [p.class_names[k] for k in np.asarray(p["logits"])[i].argmax(1)]
        cam, guided = found.cam.cpu().numpy(), found.guided.permute(0, 2, 3, 1).cpu().numpy()
        images = np.asarray(mine["images"][rows])
        panels.append(gradcam.Panel(r.name, images, said, cam, guided, found.layer))
        arrays |= {f"{r.name}/cam": cam, f"{r.name}/guided": guided, f"{r.name}/predicted": np.array(said, object)}
        parents += [r.run(), p]
    first = predictions[0]
    true = [first.class_names[k] if k >= 0 else "" for k in np.asarray(first["label"])[at[0]]]
    asked = "true class" if settings.target == "label" else "predicted class"
    figure = gradcam.draw(true, panels, asked)
    return Drawn(figure, {"images": panels[0].images, "label": np.array(true, object), **arrays}, parents)


def _explain(run: Run, faces: Artefact, rows: np.ndarray, label: np.ndarray, settings: Visualize) -> Explained:
    """Return the explanation of faces by a run; of faces without a label, for the predicted class."""
    network = open_network(run, faces)
    if what := network.net.opaque:
        raise UsageError(
            f"{what}, whose gradients are not known: Grad-CAM cannot explain it",
            "adopt its weights with --architecture",
        )
    images, boxes = network.images(rows), network.boxes[rows]
    asked = None
    if settings.target == "label":
        said = network.look(np.asarray(faces["images"][rows]), rows).logits.argmax(1)
        asked = torch.where(
            torch.from_numpy(label.astype(np.int64)) >= 0, torch.from_numpy(label.astype(np.int64)), said
        )
    return explain(network.net, images, boxes, asked, settings.layer)


def _places(predictions: Artefact, ids: Sequence[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(predictions.ids)}
    if unknown := [i for i in ids if i not in place]:
        raise UsageError(f"there is no prediction for a face {unknown[0]!r}", nearest(unknown[0], place))
    return np.array([place[i] for i in ids])


def _one_of_each(predictions: list[Artefact], faces: Artefact, settings: Visualize, subset: str | None) -> list[str]:
    """Return a face of each class at random, one that as many of the runs as possible recognise."""
    first = predictions[0]
    place = [{name: i for i, name in enumerate(p.ids)} for p in predictions]
    right = [np.asarray(p["logits"]).argmax(1) == np.asarray(p["label"]) for p in predictions]
    label, among = np.asarray(first["label"]), inside(first, faces, subset)
    shuffled = np.random.default_rng(settings.seed).permutation(first.rows)
    ids = []
    for k in range(len(first.class_names)):
        of_class = [first.ids[i] for i in shuffled if label[i] == k and among[i]]
        of_class = [name for name in of_class if all(name in p for p in place)]
        if of_class:
            ids.append(max(of_class, key=lambda name: sum(r[p[name]] for r, p in zip(right, place, strict=True))))
    if not ids:
        raise DataError(f"no labelled face to show in {subset or 'the predictions'}", "name faces with --id")
    return ids


def _people(runs: list[Run], predictions: Artefact, faces: Artefact, settings: Visualize, subset: str | None) -> Drawn:
    if len(runs) > 1:
        raise UsageError("gradcam by subject shows one run", "name one run, or leave out --by subject")
    run, rows, label = runs[0], np.asarray(predictions["row"]), np.asarray(predictions["label"])
    subject = np.asarray(faces["subject"])[rows] if "subject" in faces else np.full(len(rows), "")
    usable = inside(predictions, faces, subset) & (label >= 0) & (subject != "")
    if settings.ids:
        usable &= np.isin(subject, subject[_places(predictions, settings.ids)])
    if not usable.any():
        raise DataError("nobody knows who is on these faces: they have no subjects", "leave out --by subject")
    right = np.asarray(predictions["logits"]).argmax(1) == label
    shuffled = [i for i in np.random.default_rng(settings.seed).permutation(len(rows)) if usable[i]]
    shown: dict[str, dict[int, int]] = {}
    for i in sorted(shuffled, key=lambda i: not right[i]):  # recognised ones first
        shown.setdefault(subject[i], {}).setdefault(int(label[i]), i)
    people = sorted(sorted(shown), key=lambda name: -len(shown[name]))[: settings.faces]
    at = [(r, k, shown[name][k]) for r, name in enumerate(people) for k in shown[name]]
    index = np.array([i for _, _, i in at])
    found = _explain(run, faces, rows[index], label[index], settings)
    images, cam = np.asarray(faces["images"][rows[index]]), found.cam.cpu().numpy()
    said = np.asarray(predictions["logits"]).argmax(1)
    figure = gradcam.draw_subjects(
        {(r, k): image for (r, k, _), image in zip(at, images, strict=True)},
        {(r, k): values for (r, k, _), values in zip(at, cam, strict=True)},
        people,
        predictions.class_names,
        {(r, k): predictions.class_names[said[i]] for r, k, i in at if not right[i]},
        found.layer,
    )
    arrays = {"id": predictions.ids[index], "subject": subject[index], "images": images, "cam": cam}
    arrays["label"] = np.array([predictions.class_names[k] for _, k, _ in at], object)
    return Drawn(figure, arrays, [faces, run.run(), predictions])
