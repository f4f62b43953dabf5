"""crop-regions: faces → boxes of the regions that a network with crops looks at (RAN)."""

from pathlib import Path
from typing import Any

import numpy as np

from fertool import artefact, console, locks
from fertool.errors import ArtefactError, RecipeError
from fertool.faces.status import HAS_IMAGE
from fertool.regions import crops, points
from fertool.settings import CropRegions

_SHOWN_SIDE = 224  # the side for which the report gives boxes in pixels: what networks with crops take


@locks.writes("out")
def run(faces: Path, *, settings: CropRegions, out: Path, overwrite: bool = False, preview: Path | None = None) -> Path:
    """Write the boxes of every row of `faces`; rows without an image get boxes as well.

    With landmark crops a face without landmarks gets the whole face for each of its boxes. The boxes of random crops
    serve for the test; training draws anew, from the settings that are stored with them.

    Args:
        preview: also draw the regions of six faces into this image.

    Raises:
        RecipeError: random_ratio is no range within 0 and 1.
        ArtefactError: landmark crops of faces none of which has landmarks; a file of other work at `out`.
    """
    low, high = settings.random_ratio
    if not 0 < low <= high <= 1:
        raise RecipeError(f"random_ratio {low:g}, {high:g} is no range within 0 and 1", "the paper takes 0.7, 0.95")
    source = artefact.read(faces, "faces")
    params = {**settings.as_dict(), "regions": region_names(settings)}
    if settings.mode != "patches":  # they came later: files made before are still up to date
        del params["patches"], params["patch_overlap"]
    parents = [source.as_parent()]
    if artefact.up_to_date(out, "regions", params, parents, overwrite=overwrite):
        console.say(f"{out} is up to date")
    else:
        source.verify(*(name for name in source.columns if name != "images" or settings.materialize))
        boxes, report_facts = _boxes(source, settings)
        known = {"id": source.ids, "boxes": boxes.astype(np.float32)}
        info = {**artefact.make_info(settings.seed), "report": report_facts}
        made: dict[str, Any] = {"params": params, "inputs": parents, "info": info}
        if settings.materialize:
            _materialize(source, out, known, made, overwrite)
        else:
            artefact.save(out, "regions", known, **made)
    if preview:
        _draw(source, artefact.read(out, "regions"), preview)
    return Path(out)


def region_names(settings: CropRegions) -> list[str]:
    """Return the names of the regions in the order of the boxes."""
    if settings.mode == "fixed":
        return list(crops.FIXED)
    if settings.mode == "patches":
        return ["face", *(f"patch-{i}" for i in range(1, settings.patches + 1))]
    if settings.mode == "random":
        return ["face", *(f"random-{i}" for i in range(1, settings.random_n + 1))]
    return ["face", *points.FIVE]


def _boxes(source: artefact.Artefact, settings: CropRegions) -> tuple[np.ndarray, dict]:
    pictures = np.isin(source["status"], HAS_IMAGE)
    facts = {"faces": source.rows, "pictures": int(pictures.sum())}
    landmarks = None
    if settings.mode == "landmark":
        landmarks = points.landmarks_of(source, "landmark crops")
        missing = np.isnan(points.five_points(landmarks)).any(axis=(1, 2))
        facts["without_landmarks"] = int((missing & pictures).sum())
    return crops.boxes_of(settings, source.ids.tolist(), landmarks, source["images"].shape[1:3]), facts


def _materialize(source: artefact.Artefact, out: Path, known: dict, made: dict, overwrite: bool) -> None:
    """Store the pixels too, row by row: each crop enlarged back to the size of the face."""
    import cv2

    images, status = source["images"], source["status"]
    height, width, channels = images.shape[1:]
    boxes = crops.pixel_boxes(known["boxes"], width, height)
    shape = (boxes.shape[1], height, width, channels)
    columns = {"pixels": artefact.Column("u1", shape)}
    with artefact.begin(out, "regions", columns=columns, known=known, overwrite=overwrite, **made) as writer:
        pending = writer.pending
        with console.progress("crop-regions", len(pending), "face") as advance:
            for row in pending:
                views = [
                    cv2.resize(images[row, y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_LINEAR)
                    for x0, y0, x1, y1 in boxes[row]
                ]
                writer.write(row, int(status[row]), pixels=np.stack(views).reshape(shape))
                advance()
        writer.finish()


def _draw(source: artefact.Artefact, made: artefact.Artefact, path: Path) -> None:
    from fertool.figures import preview, style

    pictures = np.flatnonzero(np.isin(source["status"], HAS_IMAGE))
    if not len(pictures):
        raise ArtefactError(f"{source.path} has no face to draw")
    rows = preview.pick(pictures)
    figure = preview.crops(source["images"][rows], made["boxes"][rows], source.ids[rows], made.params["regions"])
    style.save(figure, path)
    console.say(f"preview: {path}")


def summary(path: Path) -> dict:
    """Return facts: faces, regions and their mean box, faces without landmarks, whether pixels are stored."""
    made = artefact.read(path, "regions")
    boxes = np.asarray(made["boxes"], dtype=np.float64)
    sides = boxes[..., 2:] - boxes[..., :2]
    regions = [
        {
            "name": name,
            "box": boxes[:, i].mean(axis=0).round(4).tolist(),
            "area": float(sides[:, i].prod(axis=-1).mean()),
        }
        for i, name in enumerate(made.params["regions"])
    ]
    facts = {"path": str(path), "mode": made.params["mode"], "pixels": "pixels" in made, "regions": regions}
    return {**facts, "same_for_all": bool((boxes == boxes[:1]).all()), **made.info.get("report", {})}


def report(summary: dict) -> None:
    """Print the regions."""
    console.say(f"{summary['path']}: {len(summary['regions'])} regions of {summary['faces']:,} faces")
    mean = "" if summary["same_for_all"] else "mean "
    rows = [
        (r["name"], *(f"{v:.3f}" for v in r["box"]), _in_pixels(r["box"]), f"{100 * r['area']:.0f} %")
        for r in summary["regions"][:12]
    ]
    columns = (f"{mean}box", "x0", "y0", "x1", "y1", f"at {_SHOWN_SIDE} px", "of the face")
    console.show(console.table(f"{summary['mode']} crops", columns, rows))
    if len(summary["regions"]) > len(rows):
        console.say(f"... and {len(summary['regions']) - len(rows)} more")
    if summary["mode"] == "random":
        console.say("faces are tested on these crops; training draws its own of them anew in every iteration")
    if summary.get("without_landmarks"):
        console.say(
            f"{summary['without_landmarks']:,} of {summary['pictures']:,} faces have no landmarks: "
            "each of their regions is the whole face"
        )


def _in_pixels(box: list[float]) -> str:
    return "({})".format(", ".join(map(str, crops.pixel_boxes(np.array(box), _SHOWN_SIDE).tolist())))
