"""Emotion names, their aliases, the ordered class lists of the datasets and papers, and the attributes of faces.

Labels cross every boundary by name. An integer only means something next to the ordered class list that is stored
in the same file.
"""

from fertool.errors import DataError, nearest

EMOTIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")

ALIASES = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "surprize": "surprise",
    "contemptuous": "contempt",
    "normal": "neutral",
}

_RAFDB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
_ALPHABETICAL = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")

#: protocol name -> class names in logit order
PROTOCOLS: dict[str, tuple[str, ...]] = {
    "rafdb7": _RAFDB,
    "affectnet7": _RAFDB,
    "fedro7": _RAFDB,
    "ckplus7n": _RAFDB,
    "mmi7n": _RAFDB,
    "ckplus7c": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "contempt"),
    "ckplus7c_man": ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"),
    "rafd7": _ALPHABETICAL,
    "sfew7_sun": _ALPHABETICAL,
    "sfew7_ran": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    "fer2013_7": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    "ferplus8": ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    "affectnet8": EMOTIONS,
    "oulucasia6": ("anger", "disgust", "fear", "happiness", "sadness", "surprise"),
    "oulucasia7n": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
}

#: the attributes that the Attention Map Generator of WS-LGRN learns from (Zhang et al., IJCAI 2020, Table 1), by the
#: part of the face it is to look at. Faces carry each as a column: 1 where the face has it, -1 where not.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "eyes": ("attr_bushy_eyebrows", "attr_arched_eyebrows", "attr_narrow_eyes", "attr_eyeglasses"),
    "mouth": ("attr_big_lips", "attr_mouth_slightly_open", "attr_smiling"),
}


def canonical(name: str) -> str:
    """Return the canonical emotion for a name as people write it ("Happy", "surprize").

    Raises:
        DataError: the name is no emotion this project knows.
    """
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in EMOTIONS:
        raise DataError(f"{name!r} is not an emotion", nearest(key, [*EMOTIONS, *ALIASES]))
    return key


def is_emotion(name: str) -> bool:
    """Return whether `canonical` would accept the name."""
    key = name.strip().lower()
    return ALIASES.get(key, key) in EMOTIONS


def ordered(names: set[str]) -> tuple[str, ...]:
    """Return the class list for a set of canonical names that no protocol orders: the canonical order."""
    return tuple(e for e in EMOTIONS if e in names)
