"""make-masks: landmarks → the region masks that MAN's RASnet learns."""

from pathlib import Path

import numpy as np

from fertool import artefact, console
from fertool.errors import ArtefactError
from fertool.faces.status import HAS_IMAGE
from fertool.regions import masks as geometry
from fertool.regions import points
from fertool.regions.preview import draw_masks, pick
from fertool.settings import MakeMasks


def run(faces: Path, *, settings: MakeMasks, out: Path, overwrite: bool = False, preview: Path | None = None) -> Path:
    """Write eight masks for every row of `faces`; `valid` is False, and the masks are 0, where landmarks are missing.

    Args:
        preview: also draw the masks of six faces into this picture.

    Raises:
        ArtefactError: no face has landmarks, or not 68, 37 or 5 of them; a file of other work at `out`.
    """
    source = artefact.read(faces, "faces")
    params = {**settings.as_dict(), "regions": list(geometry.REGIONS)}
    parents = [source.as_parent()]
    if artefact.up_to_date(out, "masks", params, parents, overwrite=overwrite):
        console.say(f"{out} is up to date")
    else:
        landmarks = points.landmarks_of(source, "masks")
        boxes = geometry.region_boxes(landmarks, source["images"].shape[1:3], settings.region_size_order)
        pictures = np.isin(source["status"], HAS_IMAGE)
        valid = np.isfinite(boxes).all(axis=(1, 2)) & pictures
        masks = geometry.masks_of(boxes, settings.grid) * valid[:, None, None, None]
        columns = {"id": source.ids, "masks": masks, "valid": valid}
        facts = {"pictures": int(pictures.sum()), "landmarks": landmarks.shape[1]}
        info = {**artefact.make_info(), "report": facts}
        artefact.save(out, "masks", columns, params=params, inputs=parents, info=info)
    if preview:
        _draw(source, artefact.read(out, "masks"), preview)
    return Path(out)


def _draw(source: artefact.Artefact, made: artefact.Artefact, path: Path) -> None:
    rows = pick(np.flatnonzero(made["valid"]))
    if not len(rows):
        raise ArtefactError(f"{made.path} has no masks to draw")
    eight = points.eight_points(source["landmarks"][rows])
    draw_masks(path, source["images"][rows], made["masks"][rows], eight, source.ids[rows], made.params["regions"])
    console.say(f"preview: {path}")


def summary(path: Path) -> dict:
    """Facts about a masks file: valid rows, and for each region its mean share of the grid and how often it is empty.

    A region is empty where its landmarks lie outside the picture.
    """
    made = artefact.read(path, "masks")
    masks, valid = made["masks"], np.asarray(made["valid"])
    filled = masks.reshape(*masks.shape[:2], -1).mean(axis=-1)[valid]
    regions = [
        {
            "name": name,
            "share": float(filled[:, i].mean()) if len(filled) else 0.0,
            "empty": int((filled[:, i] == 0).sum()),
        }
        for i, name in enumerate(made.params["regions"])
    ]
    facts = {"path": str(path), "faces": made.rows, "valid": int(valid.sum()), "grid": made.params["grid"]}
    sizes = made.params["region_size_order"]
    return {**facts, "region_size_order": sizes, "regions": regions, **made.info.get("report", {})}


def report(summary: dict) -> None:
    """Print how many faces have masks and what the masks cover."""
    console.say(f"{summary['path']}: masks for {summary['valid']:,} of {summary['faces']:,} faces")
    grid = f"{summary['grid']} × {summary['grid']}"
    rows = [(r["name"], f"{100 * r['share']:.1f} %", r["empty"]) for r in summary["regions"]]
    title = f"eight regions on {grid} cells ({summary['region_size_order']} sizes)"
    console.show(console.table(title, ("region", "of the face", "empty"), rows))
    if missing := summary.get("pictures", summary["valid"]) - summary["valid"]:
        console.say(f"{missing:,} faces have no landmarks and no masks; training on masks leaves them out")
