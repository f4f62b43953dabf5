"""The classes of a foreign predictor beside those of faces, matched by name."""

from collections.abc import Sequence
from dataclasses import dataclass

from fertool import labels
from fertool.errors import UsageError, nearest

#: outputs that are no expression; AffectNet and FERPlus have such labels
OTHERS = ("other", "none", "unknown", "uncertain", "no-face")


@dataclass(frozen=True)
class Matched:
    """How the outputs of a predictor become the classes of a run.

    Attributes:
        classes: of the run: those of the faces, then those that only the predictor has.
        columns: for each of them the index of the output, -1 where there is none.
        missing: classes of the faces that the predictor lacks.
        extra: classes of the predictor that the faces lack.
    """

    classes: tuple[str, ...]
    columns: tuple[int, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def checked(names: Sequence[str], of_faces: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a predictor's outputs as fertool writes them.

    Args:
        names: as the user writes them.
        of_faces: classes of the faces, which need not be emotions.

    Raises:
        UsageError: fewer than two, one twice, or one that is neither an emotion, nor a class of the faces, nor one of
            `OTHERS`.
    """
    own = {name.lower(): name for name in of_faces}
    found = [_one(name.strip(), own) for name in names]
    if len(found) < 2:
        raise UsageError(
            "--classes names fewer than two classes", "name all outputs in their order, e.g. angry,disgust,fear"
        )
    if doubles := [name for name in found if found.count(name) > 1]:
        raise UsageError(f"--classes names {doubles[0]} twice", "name every output once, in their order")
    return tuple(found)


def _one(name: str, own: dict[str, str]) -> str:
    if (key := name.lower()) in own:
        return own[key]
    if labels.is_emotion(name):
        return labels.canonical(name)
    if key in OTHERS:
        return key
    raise UsageError(
        f"--classes names {name!r}, which is neither an emotion nor a class of the faces",
        f"{nearest(key, [*labels.EMOTIONS, *labels.ALIASES, *own])}; an output that is no expression is called "
        f"{', '.join(OTHERS[:-1])} or {OTHERS[-1]}",
    )


def match(outputs: Sequence[str], of_faces: Sequence[str], *, keep_extra: bool = True) -> Matched:
    """Match the outputs of a predictor with the classes of faces.

    Args:
        outputs: checked names in their order.
        of_faces: classes of the faces; empty for faces without labels.
        keep_extra: keep outputs that the faces have no class for, as classes of their own.

    Raises:
        UsageError: they have no class in common.
    """
    wanted = tuple(of_faces or outputs)
    missing = tuple(name for name in wanted if name not in outputs)
    extra = tuple(name for name in outputs if name not in wanted)
    if len(missing) == len(wanted):
        raise UsageError(
            f"none of the faces' classes is among the outputs: {', '.join(wanted)}",
            "correct --classes, or name other faces with --data",
        )
    classes = (*wanted, *extra) if keep_extra else wanted
    columns = tuple(outputs.index(name) if name in outputs else -1 for name in classes)
    return Matched(classes, columns, missing, extra)
