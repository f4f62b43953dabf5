"""What was done to faces before any network saw them: steps of the preparation, landmarks, regions and masks."""

from dataclasses import fields

import numpy as np
import torch

from fertool import console
from fertool.artefact import Artefact
from fertool.datasets import open_dataset
from fertool.errors import ArtefactError, DataError, UsageError, nearest
from fertool.evaluation.score import membership
from fertool.faces import align
from fertool.faces.status import HAS_IMAGE, OK, SEVERAL
from fertool.figures import Drawn, figure, preprocessing, preview
from fertool.models.rasnet import intersection_over_union
from fertool.models.registry import network_of
from fertool.regions.masks import REGIONS, SIZES, constant_masks, region_boxes
from fertool.regions.points import eight_points, landmarks_of
from fertool.settings import DetectAlign, MakeMasks, Visualize
from fertool.stages.visualize.inputs import Data, Run, beside, only, subsets_of
from fertool.stages.visualize.network import open_network


@figure("preprocessing", "from the image to the aligned face, step by step (--images)", of_faces=True)
def draw_steps(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw Sun et al.'s Fig. 3 and 4: image, detected face, landmarks, aligned, and with even light."""
    faces = only(runs, "preprocessing").faces()
    if not settings.images:
        raise UsageError("preprocessing requires the images of the faces", "name their folder: --images PATH")
    found = np.isin(np.asarray(faces["status"]), (OK, SEVERAL))
    rows = _rows(faces, found, settings, subset, "in which a face was found")
    made = DetectAlign(**{f.name: faces.params[f.name] for f in fields(DetectAlign) if f.name in faces.params})
    dataset = open_dataset(settings.images, faces.params["dataset"], **made.data)
    for problem in dataset.problems():
        console.say(f"note: {problem}")
    wanted = set(faces.ids[rows])
    samples = {s.id: s for s in dataset.samples() if s.id in wanted}
    if missing := wanted - set(samples):
        raise DataError(
            f"{settings.images} has no image {sorted(missing)[0]!r}",
            f"name the folder that {faces.path} was made from",
        )
    even = made.illumination != "none"
    shown = []
    for row in rows:
        image = dataset.read(samples[faces.ids[row]])
        matrix = np.asarray(faces["transform"][row])
        points = np.asarray(faces["landmarks"][row]) if "landmarks" in faces else np.empty((0, 2))
        points = align.apply(align.invert(matrix), points[np.isfinite(points).all(axis=1)])
        stored = np.asarray(faces["images"][row])
        aligned = _warped(image, matrix, made) if even else stored
        pixels = image if image.ndim == 3 else image[..., None]
        box = np.asarray(faces["bbox"][row])
        shown.append(preprocessing.Prepared(faces.ids[row], pixels, box, points, aligned, stored if even else None))
    arrays = {"id": faces.ids[rows]}
    for i, p in enumerate(shown):
        arrays |= {f"{i}/{k}": getattr(p, k) for k in ("image", "box", "points", "aligned")}
        arrays |= {f"{i}/normalised": p.normalised} if even else {}
    return Drawn(preprocessing.steps(shown), arrays, [faces])


def _warped(image: np.ndarray, matrix: np.ndarray, made: DetectAlign) -> np.ndarray:
    """Return the (h, w, C) face that a transform cuts out, its light as it was."""
    import cv2

    face = align.warp(image, matrix, made.size, made.height)
    if made.grey and face.ndim == 3:
        face = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    return face if face.ndim == 3 else face[..., None]


@figure("landmarks", "landmarks of single faces, and the regions that hang on them", of_faces=True)
def draw_landmarks(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw MAN's Fig. 4 and 3: landmarks, the eight among them that regions hang on, and the regions."""
    faces = only(runs, "landmarks").faces()
    points = landmarks_of(faces, "pictures of landmarks")
    rows = _rows(faces, np.isfinite(points).all(axis=(1, 2)), settings, subset, "with landmarks")
    images, mine = np.asarray(faces["images"][rows]), np.asarray(points[rows])
    order = next(iter(SIZES))
    boxes = region_boxes(mine, images.shape[1:3], order)
    eight, ids = eight_points(mine), faces.ids[rows]
    figure = preprocessing.landmarks(images, mine, eight, boxes, ids.tolist(), REGIONS)
    arrays = {"id": ids, "images": images, "landmarks": mine, "eight": eight, "boxes": boxes}
    return Drawn(figure, arrays | {"regions": np.array(REGIONS, object)}, [faces])


@figure("masks", "masks of the regions; of a run that finds them itself, how well it does", of_faces=True)
def draw_masks(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Return the masks of MAN's regions; of a run that finds them itself (RASnet, MAN) also how well it does."""
    one = only(runs, "masks")
    faces = one.faces()
    masks = beside(faces, "masks", "fertool make-masks")
    if "masks" not in masks:
        raise ArtefactError(
            f"{masks.path} holds no masks: its faces have no landmarks", "detect-align --landmarks ert68"
        )
    valid, network = np.asarray(masks["valid"]), None
    if not isinstance(one, Data) and network_of(one.run()).finds_masks:
        network = open_network(one, faces)
        unseen = valid & (faces["split"] != "train")
        valid = unseen if unseen.any() and not settings.ids else valid
    rows = _rows(faces, valid, settings, subset, "with masks")
    images, true = np.asarray(faces["images"][rows]), np.asarray(masks["masks"][rows]) > 0
    ids, names = faces.ids[rows], masks.params["regions"]
    arrays = {"id": ids, "images": images, "masks": true, "regions": np.array(names, object)}
    if network is None:
        eight = eight_points(faces["landmarks"][rows], masks.params.get("lip_point", MakeMasks.lip_point))
        figure = preview.masks(images, true, eight, ids.tolist(), names)
        return Drawn(figure, arrays, [faces, masks])
    output = network.look(images, rows)
    soft = output.attention.get("masks", output.logits)
    iou = intersection_over_union(soft >= 0.5, torch.from_numpy(true)).numpy()
    known = np.asarray(masks["valid"]) & (faces["split"] == "train")
    constant = constant_masks(np.asarray(masks["masks"][known if known.any() else np.asarray(masks["valid"])]))
    alike = intersection_over_union(torch.from_numpy(constant).expand(true.shape), torch.from_numpy(true)).numpy()
    console.say(
        f"intersection over union on these {len(rows)} faces: {iou.mean():.3f}; of the best constant masks: "
        f"{alike.mean():.3f}"
    )
    figure = preprocessing.masks(images, soft.numpy() >= 0.5, true, iou, alike, ids.tolist(), names)
    arrays |= {"predicted": soft.numpy(), "iou": iou, "constant": constant, "constant_iou": alike}
    return Drawn(figure, arrays, [faces, masks, one.run()])


def _rows(faces: Artefact, usable: np.ndarray, settings: Visualize, subset: str | None, what: str) -> np.ndarray:
    """Return the named faces, or some that are spread evenly over those that can be shown."""
    usable = usable & np.isin(np.asarray(faces["status"]), HAS_IMAGE)
    if settings.ids:
        place = {name: i for i, name in enumerate(faces.ids)}
        if unknown := [i for i in settings.ids if i not in place or not usable[place[i]]]:
            there = faces.ids[usable].tolist()
            raise UsageError(f"there is no face {unknown[0]!r} {what}", nearest(unknown[0], there) if there else None)
        return np.array([place[i] for i in settings.ids])
    if subset:
        usable &= membership(subsets_of(faces), subset)
    rows = preview.pick(np.flatnonzero(usable), settings.faces) if usable.any() else np.empty(0, np.int64)
    if not len(rows):
        raise DataError(f"no face {what} is in {subset or faces.path}")
    return rows
