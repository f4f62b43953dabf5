"""Which of the attributes of `fertool.labels.ATTRIBUTES` a rendered face shows.

They are told from what is rendered: the face's own points, its face units, and what covers it. As a person who looks at
the image would say: what is covered is not there.
"""

import numpy as np

from fertool.faces.mean_head import VERTICES
from fertool.labels import ATTRIBUTES
from fertool.rendering import occluders
from fertool.rendering.expressions import mix
from fertool.rendering.head import load_head
from fertool.rendering.people import person
from fertool.rendering.render import FaceSpec, stream

# lengths in distances between the eyes; rendered neutral faces have gaps below 0.1 between the lips, half of them lips
# of less than 0.18 and eyes opened by more than 0.28 of their width
_BUSHY = 0.045  # half width of an eyebrow
_BIG_LIPS = 0.2  # mean thickness of the two lips
_OPEN = 0.1  # gap between the lips
_NARROW = 0.2  # opening of the eyes over their width
_MOVED = 0.5  # face units: of emotions only surprise raises the outer brows so far, and only happiness the lip corners

_LIDS, _EYES = ([37, 38, 43, 44], [41, 40, 47, 46]), ([36, 42], [39, 45])
_LIPS = ([50, 51, 52, 56, 57, 58], [61, 62, 63, 65, 66, 67])
_GAP = ([61, 62, 63], [67, 66, 65])


def attributes(spec: FaceSpec) -> dict[str, int]:
    """Return every attribute of both groups, 1 if the rendered face shows it, -1 if not.

    Raises:
        DataError: a package of the `demo` extra is missing.
    """
    head, who = load_head(), person(spec.subject)
    units = mix(spec.expression, spec.intensity, stream(spec, "expression"), spec.varied)
    marks = head.vertex(np.array(VERTICES))
    rest = who.neutral[marks]
    face = rest + sum(np.float32(strength) * head.units[name][marks] for name, strength in units.items())
    mask = spec.occlusion == "glasses-mask" and occluders.is_mask(stream(spec, "occlusion"))
    shown = {
        "attr_bushy_eyebrows": who.brow > _BUSHY,
        "attr_arched_eyebrows": _both(units, "browOuterUp") > _MOVED,
        "attr_narrow_eyes": _apart(face, _LIDS) / _apart(face, _EYES) < _NARROW,
        "attr_eyeglasses": spec.occlusion == "glasses-mask" and not mask,
        "attr_big_lips": _apart(rest, _LIPS) > _BIG_LIPS,
        "attr_mouth_slightly_open": _apart(face, _GAP) > _OPEN,
        "attr_smiling": _both(units, "mouthSmile") > _MOVED,
    }
    covered = {"eyes": spec.occlusion == "upper", "mouth": spec.occlusion == "bottom" or mask}
    return {
        name: 1 if shown[name] and not covered[group] else -1 for group, names in ATTRIBUTES.items() for name in names
    }


def _both(units: dict[str, float], name: str) -> float:
    """Return the mean strength of a face unit's two sides."""
    return (units[name + "Left"] + units[name + "Right"]) / 2


def _apart(points: np.ndarray, pairs: tuple[list[int], list[int]]) -> float:
    """Return the mean distance between pairs of points."""
    a, b = pairs
    return float(np.linalg.norm(points[a] - points[b], axis=1).mean())
