"""Expressions as mixtures of face units, after the Facial Action Coding System.

The action units of each emotion are the prototypes of Ekman, Friesen & Hager, FACS Investigator's Guide (2002); the
comments give them. Face units carry ARKit's names: the same muscles, left and right apart.
"""

import numpy as np

_SIDED = (
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown",
    "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer",
)  # fmt: skip

#: expression -> its ways: unit -> strength at full intensity
WAYS: dict[str, tuple[dict[str, float], ...]] = {
    "neutral": ({},),
    "happiness": (
        # AU 6 + 12 + 25: cheeks raised, lip corners pulled, teeth shown
        {
            "mouthSmile": 1.2, "cheekSquint": 0.8, "eyeSquint": 0.3, "mouthUpperUp": 0.5, "mouthLowerDown": 0.4,
            "jawOpen": 0.2,
        },
        # AU 6 + 12 + 26: a laugh
        {"mouthSmile": 1.2, "cheekSquint": 1.0, "eyeSquint": 0.5, "mouthUpperUp": 0.4, "jawOpen": 0.42},
        # AU 6 + 12: lips almost closed
        {"mouthSmile": 1.1, "cheekSquint": 0.8, "eyeSquint": 0.3, "mouthDimple": 0.2, "jawOpen": 0.06},
    ),
    "sadness": (
        # AU 1 + 4 + 15 + 17
        {"browInnerUp": 1.3, "browDown": 0.35, "mouthFrown": 1.4, "mouthShrugLower": 0.8, "eyeBlink": 0.12},
        # AU 1 + 4 + 11 + 15, lids drooping
        {"browInnerUp": 1.4, "browDown": 0.25, "mouthFrown": 1.5, "eyeBlink": 0.22, "mouthPress": 0.3},
    ),
    "surprise": (
        # AU 1 + 2 + 5 + 27
        {"browInnerUp": 1.1, "browOuterUp": 1.1, "eyeWide": 1.2, "jawOpen": 0.75, "mouthFunnel": 0.35},
        # AU 1 + 2 + 5 + 26
        {"browInnerUp": 1.2, "browOuterUp": 1.2, "eyeWide": 1.2, "jawOpen": 0.5, "mouthFunnel": 0.2},
    ),
    "fear": (
        # AU 1 + 2 + 4 + 5 + 20 + 25
        {
            "browInnerUp": 1.4, "browOuterUp": 0.25, "browDown": 0.55, "eyeWide": 1.4, "mouthStretch": 1.3,
            "mouthLowerDown": 0.9, "jawOpen": 0.12, "mouthFrown": 0.35,
        },
        # AU 1 + 2 + 4 + 5 + 20 + 26
        {
            "browInnerUp": 1.4, "browOuterUp": 0.3, "browDown": 0.5, "eyeWide": 1.4, "mouthStretch": 1.4,
            "mouthLowerDown": 0.7, "jawOpen": 0.28, "mouthFrown": 0.4,
        },
    ),
    "disgust": (
        # AU 9 + 16 + 25
        {
            "noseSneer": 1.7, "browDown": 0.45, "eyeSquint": 0.9, "cheekSquint": 0.8, "mouthUpperUp": 1.1,
            "mouthLowerDown": 0.5, "jawOpen": 0.06, "mouthFrown": 0.4,
        },
        # AU 9 + 10 + 17
        {
            "noseSneer": 1.7, "browDown": 0.4, "eyeSquint": 0.8, "cheekSquint": 0.9, "mouthUpperUp": 1.0,
            "mouthShrugLower": 0.9, "mouthFrown": 0.7,
        },
    ),
    "anger": (
        # AU 4 + 5 + 7 + 24
        {
            "browDown": 1.5, "eyeSquint": 0.5, "eyeWide": 0.4, "mouthPress": 1.0, "mouthRollUpper": 0.3,
            "mouthRollLower": 0.4, "jawForward": 0.3,
        },
        # AU 4 + 5 + 7 + 23 + 25: teeth bared
        {
            "browDown": 1.6, "eyeSquint": 0.4, "eyeWide": 0.6, "mouthFunnel": 0.5, "mouthUpperUp": 0.5,
            "mouthLowerDown": 0.8, "noseSneer": 0.2, "jawOpen": 0.15, "jawForward": 0.3,
        },
    ),
}  # fmt: skip

EXPRESSIONS = tuple(WAYS)

#: further ways, as faces outside the laboratory show them: speaking, shouting, crying, closed eyes, slight smiles
VARIED: dict[str, tuple[dict[str, float], ...]] = {
    "neutral": (
        {"jawOpen": 0.18, "mouthLowerDown": 0.15},
        {"jawOpen": 0.28, "mouthFunnel": 0.3},
        {"browInnerUp": 0.35, "browOuterUp": 0.4},
        {"browDown": 0.45, "eyeSquint": 0.3},
        {"mouthPress": 0.5},
        {"mouthFrown": 0.35},
        {"eyeBlink": 0.35},
        {"mouthSmile": 0.25, "mouthDimple": 0.2},
    ),
    "happiness": (
        {
            "mouthSmile": 1.2, "cheekSquint": 1.0, "eyeSquint": 0.8, "eyeBlink": 0.3, "jawOpen": 0.55,
            "mouthUpperUp": 0.5, "mouthLowerDown": 0.4,
        },
        {"mouthSmile": 0.7, "cheekSquint": 0.35},
        {"mouthSmile": 1.0, "mouthUpperUp": 0.8, "mouthLowerDown": 0.7, "cheekSquint": 0.6},
    ),
    "sadness": (
        {
            "browInnerUp": 1.0, "browDown": 0.5, "mouthFrown": 1.0, "jawOpen": 0.3, "mouthStretch": 0.5,
            "eyeSquint": 0.6, "cheekSquint": 0.4,
        },
        {"browInnerUp": 0.8, "mouthFrown": 0.7, "eyeBlink": 0.45},
        {"browInnerUp": 0.7, "mouthFrown": 0.6, "mouthPress": 0.4},
        {
            "eyeBlink": 0.9, "browInnerUp": 0.8, "browDown": 0.6, "jawOpen": 0.4, "mouthFrown": 0.8,
            "mouthLowerDown": 0.6,
        },
    ),
    "surprise": (
        {"browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.8, "jawOpen": 0.35, "mouthFunnel": 0.5},
        {"browInnerUp": 0.6, "browOuterUp": 0.6, "eyeWide": 1.0, "jawOpen": 0.65},
    ),
    "fear": (
        {
            "browInnerUp": 1.2, "browOuterUp": 0.5, "browDown": 0.3, "eyeWide": 1.3, "jawOpen": 0.55,
            "mouthStretch": 1.0, "mouthLowerDown": 0.6,
        },
    ),
    "disgust": (
        {
            "noseSneer": 1.2, "eyeSquint": 0.7, "browDown": 0.3, "mouthUpperUp": 0.8, "mouthLowerDown": 0.7,
            "jawOpen": 0.2, "mouthFrown": 0.6,
        },
    ),
    "anger": (
        {
            "browDown": 1.4, "eyeSquint": 0.4, "jawOpen": 0.6, "mouthUpperUp": 0.7, "mouthLowerDown": 0.8,
            "noseSneer": 0.4, "mouthStretch": 0.4,
        },
        {"browDown": 1.2, "eyeSquint": 0.3, "mouthPress": 0.4},
        {
            "browDown": 1.4, "mouthUpperUp": 0.9, "mouthLowerDown": 1.0, "mouthStretch": 0.5, "noseSneer": 0.5,
            "jawOpen": 0.04,
        },
        {"browDown": 1.5, "mouthFrown": 0.5},
    ),
}  # fmt: skip

_UPPER = ("brow", "eye", "cheek")  # how the names of units above the nose begin; cheeks rise with the lower lids
_SPLIT = "/"


def mixed(upper: str, lower: str) -> str:
    """Return the name of a face whose eyes and brows show one expression, nose and mouth another."""
    return upper + _SPLIT + lower


def parts(expression: str) -> list[str]:
    """Return the expressions that a face shows: one, or those of eyes and mouth."""
    return expression.split(_SPLIT)


def mix(expression: str, intensity: float, rng: np.random.Generator, varied: bool = False) -> dict[str, float]:
    """Return the strengths of the face units for one face.

    One way of the expression is drawn, each unit's strength varied, one side made weaker than the other. Gaze, a slight
    droop of the lids and small movements of everything come from the same distribution for every expression.

    Args:
        expression: one of `EXPRESSIONS`, or two of them, see `mixed`.
        intensity: 0 (neutral) to 1 (full).
        rng: source of all variation.
        varied: draw from the ways in `VARIED` too.
    """
    known = [WAYS[name] + (VARIED[name] if varied else ()) for name in parts(expression)]
    ways = [among[rng.integers(len(among))] for among in known]
    if expression == "neutral":
        intensity = 1.0  # what moves a neutral face does not make it an expression
    way = ways[0] if len(ways) == 1 else _halves(*ways)
    side = 1 - np.array([1, 0])[:: rng.choice([-1, 1])] * min(abs(rng.normal(0, 0.12)), 0.35)
    units: dict[str, float] = {}

    def add(unit: str, strength: float) -> None:
        if unit in _SIDED:
            for name, share in zip(("Left", "Right"), side, strict=True):
                units[unit + name] = units.get(unit + name, 0.0) + strength * float(share)
        else:
            units[unit] = units.get(unit, 0.0) + strength

    for unit, strength in way.items():
        add(unit, strength * intensity * float(np.clip(rng.normal(1, 0.12), 0.7, 1.3)))
    for unit in ("browInnerUp", "browDown", "browOuterUp", "mouthSmile", "mouthFrown", "mouthPress", "mouthFunnel"):
        add(unit, abs(float(rng.normal(0, 0.06))))
    add("eyeBlink", float(rng.choice([rng.uniform(0, 0.12), rng.uniform(0.5, 1.0)], p=[0.97, 0.03])))
    add("jawOpen", float(rng.choice([0, rng.uniform(0, 0.06)])))
    _gaze(units, *np.clip(rng.normal(0, [0.25, 0.15]), -0.8, 0.8))
    # a lid that both widens and squints stays between; beyond closed it would pass through the eyeball
    for name in ("Left", "Right"):
        units["eyeBlink" + name] = float(np.clip(units["eyeBlink" + name], 0, 1))
    return units


def _halves(upper: dict[str, float], lower: dict[str, float]) -> dict[str, float]:
    above = {unit: strength for unit, strength in upper.items() if unit.startswith(_UPPER)}
    return above | {unit: strength for unit, strength in lower.items() if not unit.startswith(_UPPER)}


def _gaze(units: dict[str, float], across: float, up: float) -> None:
    """Turn both eyes: across > 0 to the image's right (the person's left)."""
    across_names = ("eyeLookOutLeft", "eyeLookInRight") if across > 0 else ("eyeLookInLeft", "eyeLookOutRight")
    up_names = ("eyeLookUpLeft", "eyeLookUpRight") if up > 0 else ("eyeLookDownLeft", "eyeLookDownRight")
    for names, amount in ((across_names, across), (up_names, up)):
        for name in names:
            units[name] = units.get(name, 0.0) + abs(float(amount))
