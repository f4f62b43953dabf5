"""How much nearer to a frontal image `--align frontal` brings turned faces than alignment in the plane does.

    python tests/bench/frontal.py [--people 14] [--sheet SHEET.png]

Every person is rendered looking ahead and turned by 10° to 40° to either side (and up or down by 6°, two of three),
in the same light, and found, marked and estimated as detect-align does by default. After either alignment a turned
face is compared with the frontal picture aligned in the plane: the mean distance of the landmarks without the jaw,
relative to the distance between the outer eye corners; the correlation of pixels within the face; and the correlation
of the face with its mirror image.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from fertool import console
from fertool.faces.pipeline import Finder
from fertool.rendering.expressions import EXPRESSIONS
from fertool.rendering.render import FaceSpec, render_face
from fertool.settings import DetectAlign

_SIZE, _TEMPLATE = 128, "eyes-mouth"
_YAWS = (0, 10, -10, 20, -20, 30, -30, 40, -40)


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of grey pixels within the face."""
    grey = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[20:118, 14:114].ravel() for p in (a, np.ascontiguousarray(b)))
    return float(np.corrcoef(*grey)[0, 1])


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--people", type=int, default=14)
    parse.add_argument("--sheet", type=Path, help="draw them: in the plane above, frontal below")
    args = parse.parse_args()

    turning = Finder(DetectAlign(align="frontal", template=_TEMPLATE, size=_SIZE))
    plain = Finder(DetectAlign(detector="none", landmarks="none", template=_TEMPLATE, size=_SIZE))
    figures, sheet = {abs(yaw): [] for yaw in _YAWS}, []
    for n in range(args.people):
        expression = tuple(EXPRESSIONS)[n % len(EXPRESSIONS)]
        ahead = FaceSpec(subject=900 + n, expression=expression, intensity=0.9, seed=50 + n, size=240)
        drawn = []
        for yaw in _YAWS:
            made = render_face(replace(ahead, yaw=yaw, pitch=(0, 6, -6)[n % 3] if yaw else 0))
            faces = next(iter(turning.find([made.pixels])))
            marks = turning.marks(made.pixels, faces, faces.largest())
            cuts = [finder.cut(made.pixels, faces.boxes[faces.largest()], marks) for finder in (plain, turning)]
            if not yaw:
                aim = cuts[0]
            span = np.linalg.norm(aim.marks[45] - aim.marks[36])
            for cut in cuts:
                apart = np.linalg.norm(cut.marks[17:] - aim.marks[17:], axis=1).mean() / span
                figures[abs(yaw)].append((apart, alike(cut.pixels, aim.pixels), alike(cut.pixels, cut.pixels[:, ::-1])))
            drawn.append(np.vstack([cut.pixels for cut in cuts]))
        sheet.append(np.hstack(drawn))
    heads = ("yaw", *(f"{what}, {how}" for what in ("landmarks %", "pixels", "mirror") for how in ("plane", "frontal")))
    rows = []
    for yaw, values in figures.items():
        plane, front = (np.mean(values[k::2], axis=0) for k in (0, 1))
        pairs = np.stack([plane, front], axis=1) * [[100], [1], [1]]
        rows.append((f"{yaw}°", *(f"{v:.2f}" for v in pairs.ravel())))
    console.show(console.table(f"{args.people} rendered people", heads, rows))
    if args.sheet:
        cv2.imwrite(str(args.sheet), np.vstack(sheet)[..., ::-1])


if __name__ == "__main__":
    main()
