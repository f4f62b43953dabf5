"""The columns of people's own tables: which one holds what, by the names that people give them."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

#: what a column can hold -> names for it, the best first; in lower case, words joined by _
NAMES: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "filepath", "file_path", "image_path", "img_path", "image_file", "img_file", "filename", "file_name"),
        *("image_filename", "image_name", "img_name", "imagename", "imgname", "fname", "image", "img", "file"),
        *("picture", "pic", "pic_name", "photo", "photograph", "images", "imagepath", "imgpath", "pth", "image_id"),
    ),
    "label": (
        *("label", "emotion", "expression", "class", "emotion_label", "expression_label", "emotion_name", "label_name"),
        *("class_name", "classname", "expression_name", "facial_expression", "facial_emotion", "emotions", "labels"),
        *("expressions", "classes"),
    ),
    "split": ("split",),
    "subject": (
        *("subject", "subject_id", "subjectid", "person", "person_id", "personid", "identity", "participant"),
        *("participant_id", "actor", "actor_id"),
    ),
    "sequence": ("sequence", "sequence_id", "video_id", "clip_id"),
    "frame": ("frame",),
    "id": ("id",),
}

#: names that say too little: such a column is taken only if all of its filled cells are understood
WEAK: dict[str, tuple[str, ...]] = {
    "label": (
        *("category", "target", "y", "gt", "ground_truth", "annotation", "sentiment", "affect", "emotion_id"),
        *("expression_id", "label_id", "class_id", "emotion_code", "expression_code"),
    ),
    "split": ("usage", "set", "subset", "partition", "phase", "mode", "dataset_split", "data_split", "dataset"),
    "frame": ("frame_number", "frame_no", "frame_nr", "frame_id", "frame_index", "frame_num"),
}

#: columns that artefacts have anyway, or from which stages take what they mean
TAKEN = frozenset(
    ("id", "label", "split", "subject", "sequence", "frame", "status", "images", "faces_found", "bbox", "score")
    + ("landmarks", "transform", "pose", "pose_error", "problem", "label_distribution", "row", "logits", "boxes")
    + ("masks", "groups", "valid", "pixels", "fold", "duplicate", "digest", "complete", "severity", "covered", "thing")
    + ("true_occlusion", "occlusion_type", "list_label", "list_split", "angle", "source_digest", "source_stat")
)


def slug(name: str) -> str:
    """Return a column's name in lower case, words joined by _."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def has_paths(names: Sequence[str]) -> bool:
    """Return whether one of the columns of these names can hold the paths of images."""
    return not {slug(name) for name in names}.isdisjoint(NAMES["path"])


def roles(cells: Mapping[str, Sequence[str]], meanings: Mapping[str, Callable[[str], object]]) -> dict[str, str]:
    """Tell which column holds what.

    Of several columns that can hold the same, the first is taken whose filled cells are all understood, or else the
    first of `NAMES` that has filled cells, or else the first of `NAMES`.

    Args:
        cells: column name -> its cells.
        meanings: what a column can hold -> what a cell of it means, None for what it cannot be.

    Returns:
        what it holds -> column name.
    """
    by_slug = {slug(name): name for name in reversed(list(cells))}
    chosen: dict[str, str] = {}
    for role, names in NAMES.items():
        plain = [by_slug[name] for name in names if name in by_slug]
        weak = [by_slug[name] for name in WEAK.get(role, ()) if name in by_slug]
        filled = [name for name in plain + weak if any(cells[name])]
        meaning = meanings.get(role, str)
        fitting = [name for name in filled if all(meaning(cell) is not None for cell in set(cells[name]) if cell)]
        if candidates := fitting or [name for name in filled if name in plain] or plain:
            chosen[role] = candidates[0]
    return chosen


def repeated(names: Sequence[str]) -> list[str]:
    """Return the names that several columns have, but for columns without a name."""
    return [name for name, n in Counter(map(slug, names)).items() if n > 1 and name]
