"""Attention over whole images: a network without a size of its own looks at groups of people."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fertool import console, detectors
from fertool.artefact import Artefact
from fertool.datasets.disk import pictures_below
from fertool.errors import DataError, UsageError
from fertool.faces.images import UnreadableImage, read_image
from fertool.faces.pipeline import rgb
from fertool.faces.status import OK, SEVERAL
from fertool.faces.windows import normalise_windows
from fertool.figures import Drawn, figure, group
from fertool.models.base import FerModel
from fertool.models.registry import network_of
from fertool.regions.soft_boxes import on_boxes, soft_boxes
from fertool.settings import DetectAlign, Visualize
from fertool.stages.visualize.inputs import Run, only
from fertool.stages.visualize.network import open_network

_LARGEST = 3000  # pixels of an image's longer side after scaling
_SAMPLE = 2000  # faces whose size is looked at


@figure("group", "attention over whole images of several people, and on the faces among it (--images)")
def draw_group(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw Sun et al.'s Fig. 7."""
    one = only(runs, "group")
    if not network_of(one.run()).any_size:
        raise UsageError(
            f"{one.name} cannot look at whole images: its network has a size of its own",
            "fertool train va-cnn makes one",
        )
    if subset:
        raise UsageError("group shows images, not the faces of a subset", "leave out --subset")
    if not settings.images:
        raise UsageError("group needs images", "name a file or folder: --images PATH")
    faces = one.faces()
    network = open_network(one, faces)
    side = settings.face_width or usual_side(faces)
    detector = detectors.make(settings.detector, detectors.Options(device=network.device.type))
    shown = []
    for path in _paths(Path(settings.images), settings):
        try:
            image = rgb(read_image(path))
        except UnreadableImage as e:
            console.say(f"left out: {e.message}")
            continue
        found = next(iter(detector.detect([image])))
        shown.append(_look(path.name, image, found.boxes, side, network.net, faces, settings))
        if not len(found):
            console.say(f"{path.name}: no face was found")
    if not shown:
        raise DataError(f"no image in {settings.images} can be read")
    if not any(len(p.boxes) for p in shown):
        raise DataError(f"no face was found in {settings.images}", "try another --set visualize.detector=dlib-cnn")
    arrays = {
        f"{i}/{key}": np.asarray(getattr(p, key))
        for i, p in enumerate(shown)
        for key in ("image", "boxes", "attention", "soft", "product")
    }
    arrays["name"] = np.array([p.name for p in shown], object)
    return Drawn(group.draw(shown, one.name), arrays, [faces, one.run()])


def _paths(root: Path, settings: Visualize) -> Sequence[Path]:
    """Return the images meant, at most as many as are asked for, evenly spread."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError(f"there is nothing at {root}")
    found = pictures_below(root)
    if not found:
        raise DataError(f"there is no image in {root}")
    if settings.ids:
        chosen = [p for p in found if p.name in settings.ids]
        if len(chosen) < len(set(settings.ids)):
            raise UsageError(f"not all of {', '.join(settings.ids)} are in {root}", "--id takes names of files")
        return chosen
    if len(found) <= settings.faces:
        return found
    at = np.linspace(0, len(found) - 1, settings.faces).round().astype(int)
    return [found[i] for i in at]


def usual_side(faces: Artefact) -> float:
    """Return the median width of the detector's boxes in pixels of the stored faces."""
    rows = np.flatnonzero(np.isin(np.asarray(faces["status"]), (OK, SEVERAL)))
    rows = rows[:: max(1, len(rows) // _SAMPLE)]
    if not len(rows):
        raise DataError(f"{faces.path} does not say how large its faces are", "--set visualize.face_width=PIXELS")
    boxes, transforms = np.asarray(faces["bbox"][rows], float), np.asarray(faces["transform"][rows])
    scale = np.sqrt(np.abs(np.linalg.det(transforms[:, :, :2])))
    return float(np.nanmedian((boxes[:, 2] - boxes[:, 0]) * scale))


def _look(
    name: str,
    image: np.ndarray,
    boxes: np.ndarray,
    side: float,
    net: FerModel,
    faces: Artefact,
    settings: Visualize,
) -> group.GroupImage:
    """Return an image scaled so that its faces are as wide as those of the training, and the network's attention in it.

    Pixels at the right and at the bottom that fill no cell of the attention are cut off.
    """
    import cv2

    widths = boxes[:, 2] - boxes[:, 0]
    scale = min(side / np.median(widths) if len(boxes) else 1.0, _LARGEST / max(image.shape[:2]))
    stride = net.map_stride
    size = [max(stride, round(s * scale)) for s in image.shape[:2]]
    scaled = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    scaled = scaled[: size[0] // stride * stride, : size[1] // stride * stride]
    grey = cv2.cvtColor(scaled, cv2.COLOR_RGB2GRAY)
    made = faces.params
    if made.get("illumination") == "isotropic":
        clip_fraction = made.get("clip_fraction", DetectAlign.clip_fraction)
        grey = normalise_windows(grey, made["diffusion"], clip_fraction, faces["images"].shape[1:3])
    attention = attend(net, grey)
    mine = (boxes + 0.5) * scale - 0.5
    soft = soft_boxes(mine, grey.shape[0], grey.shape[1], settings.box_scale, settings.box_falloff)
    product = on_boxes(group.spread(attention, *grey.shape), soft)
    return group.GroupImage(name, scaled, mine, attention, soft, product)


def attend(net: FerModel, grey: np.ndarray) -> np.ndarray:
    """Return the attention map of a fully convolutional network over a grey image (H, W) of any size."""
    device = next(net.parameters()).device
    spec = net.input
    view = (torch.from_numpy(grey).to(device).float() / 255 - spec.mean[0]) / spec.std[0]
    with torch.inference_mode():
        attention = {k: v.cpu().numpy() for k, v in net(view[None, None, None]).attention.items()}
    return next(iter(net.attention_maps(attention).values()))[0]
