"""make-masks: the targets of trained attention.

Landmarks → the eight region masks of MAN's RASnet; attributes → the two groups of WS-LGRN's Attention Map Generator,
and the faces sampled for its training.
"""

from pathlib import Path

import numpy as np

from fertool import artefact, console, locks
from fertool.artefact import Artefact
from fertool.errors import ArtefactError
from fertool.faces.status import HAS_IMAGE
from fertool.regions import masks as geometry
from fertool.regions import points
from fertool.regions.attributes import GROUPS, attribute_groups, draw
from fertool.settings import MakeMasks

#: the draw: what a face is used for in a group
UNUSED, TRAIN, VAL = 0, 1, 2


@locks.writes("out")
def run(faces: Path, *, settings: MakeMasks, out: Path, overwrite: bool = False, preview: Path | None = None) -> Path:
    """Write what the faces allow, for every row of `faces`.

    From landmarks: `masks` (N, 8, grid, grid) and `valid`, which is False, and the masks 0, where landmarks are
    missing. From attributes: `groups` (N, 2), 1 or 0 for eyes and mouth, and `drawn` (N, 2): 0 not used, 1 for
    training, 2 for validation.

    Args:
        preview: also draw the masks of six faces into this image.

    Raises:
        ArtefactError: no face has landmarks or attributes, or not 68, 42, 37 or 5 landmarks; a file of other work at
            `out`.
    """
    source = artefact.read(faces, "faces")
    params = {
        **settings.as_dict(),
        "regions": list(geometry.REGIONS),
        "groups": {k: list(v) for k, v in GROUPS.items()},
    }
    if settings.lip_point == MakeMasks.lip_point:  # what came later is named only where it is used
        del params["lip_point"]
    parents = [source.as_parent()]
    if artefact.up_to_date(out, "masks", params, parents, overwrite=overwrite):
        console.say(f"{out} is up to date")
    else:
        source.verify(*(name for name in source.columns if name != "images"))
        pictures = np.isin(source["status"], HAS_IMAGE)
        columns, facts = {"id": source.ids}, {"pictures": int(pictures.sum())}
        attributes = all(name in source for names in GROUPS.values() for name in names)
        if points.has_landmarks(source) or not attributes:
            columns |= _masks(source, pictures, settings)
            facts["landmarks"] = source["landmarks"].shape[1]
        if attributes:
            columns |= _groups(source, pictures, settings)
        info = {**artefact.make_info(settings.seed), "report": facts}
        artefact.save(out, "masks", columns, params=params, inputs=parents, info=info)
    if preview:
        _draw(source, artefact.read(out, "masks"), preview)
    return Path(out)


def _masks(source: Artefact, pictures: np.ndarray, settings: MakeMasks) -> dict[str, np.ndarray]:
    landmarks = points.landmarks_of(source, "masks")
    size = source["images"].shape[1:3]
    boxes = geometry.region_boxes(landmarks, size, settings.region_size_order, settings.lip_point)
    valid = np.isfinite(boxes).all(axis=(1, 2)) & pictures
    return {"masks": geometry.masks_of(boxes, settings.grid) * valid[:, None, None, None], "valid": valid}


def _groups(source: Artefact, pictures: np.ndarray, settings: MakeMasks) -> dict[str, np.ndarray]:
    groups = attribute_groups({name: source[name] for names in GROUPS.values() for name in names})
    rng = np.random.default_rng(settings.seed)
    drawn = np.full(groups.shape, UNUSED, np.uint8)
    for split, use, number in (("train", TRAIN, settings.train_samples), ("val", VAL, settings.val_samples)):
        drawn[draw(groups, pictures & (source["split"] == split), number, rng)] = use
    return {"groups": groups, "drawn": drawn}


def _draw(source: Artefact, made: Artefact, path: Path) -> None:
    from fertool.figures import preview, style

    rows = preview.pick(np.flatnonzero(made["valid"])) if "valid" in made else np.empty(0, int)
    if not len(rows):
        raise ArtefactError(f"{made.path} has no masks to draw")
    eight = points.eight_points(source["landmarks"][rows], made.params.get("lip_point", MakeMasks.lip_point))
    figure = preview.masks(source["images"][rows], made["masks"][rows], eight, source.ids[rows], made.params["regions"])
    style.save(figure, path)
    console.say(f"preview: {path}")


def summary(path: Path) -> dict:
    """Return facts about a masks file.

    Valid rows; for each region its mean share of the grid, and how often it is empty because its landmarks lie outside
    the image; for each attribute group its positives and the sampled faces.
    """
    made = artefact.read(path, "masks")
    facts = {"path": str(path), "faces": made.rows, **made.info.get("report", {})}
    if "masks" in made:
        masks, valid = made["masks"], np.asarray(made["valid"])
        filled = masks.reshape(*masks.shape[:2], -1).mean(axis=-1)[valid]
        facts |= {"valid": int(valid.sum()), "grid": made.params["grid"]}
        facts["region_size_order"] = made.params["region_size_order"]
        facts["regions"] = [
            {
                "name": name,
                "share": float(filled[:, i].mean()) if len(filled) else 0.0,
                "empty": int((filled[:, i] == 0).sum()),
            }
            for i, name in enumerate(made.params["regions"])
        ]
    if "groups" in made:
        groups, drawn = np.asarray(made["groups"]), np.asarray(made["drawn"])
        facts["groups"] = [
            {
                "name": name,
                "positive": int((groups[:, g] == 1).sum()),
                "train": int((drawn[:, g] == TRAIN).sum()),
                "val": int((drawn[:, g] == VAL).sum()),
            }
            for g, name in enumerate(made.params["groups"])
        ]
        facts["asked"] = {"train": made.params["train_samples"], "val": made.params["val_samples"]}
    return facts


def report(summary: dict) -> None:
    """Print how many faces have masks and what the masks cover, and what was drawn for the attribute groups."""
    if "regions" in summary:
        console.say(f"{summary['path']}: masks for {summary['valid']:,} of {summary['faces']:,} faces")
        grid = f"{summary['grid']} × {summary['grid']}"
        rows: list[tuple] = [(r["name"], f"{100 * r['share']:.1f} %", r["empty"]) for r in summary["regions"]]
        title = f"eight regions on {grid} cells ({summary['region_size_order']} sizes)"
        console.show(console.table(title, ("region", "of the face", "empty"), rows))
        if missing := summary.get("pictures", summary["valid"]) - summary["valid"]:
            console.say(f"{missing:,} faces have no landmarks and no masks; training on masks leaves them out")
    if "groups" in summary:
        rows = [(g["name"], g["positive"], g["train"], g["val"]) for g in summary["groups"]]
        asked = summary["asked"]
        title = f"attribute groups, {asked['train']:,} faces asked for training and {asked['val']:,} for validation"
        console.show(console.table(title, ("group", "positive", "drawn to train", "to validate"), rows))
