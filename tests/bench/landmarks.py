"""How far found landmarks lie from true ones: ERT, a supervised descent and MTCNN beside each other.

    fertool fit-sdm HELEN --out landmarks.h5
    python tests/bench/landmarks.py AFW --sdm landmarks.h5

Images are a folder with .pts files of 68 points, or a dataset that ships such landmarks (what `fertool render`
writes), of which the split `test` is taken. To learn from the same dataset's split `train`:

    fertool detect-align RENDERED --landmarks dataset --align none --set detect-align.margin=0.3 \
        --out faces.h5
    fertool fit-sdm faces.h5 --out landmarks.h5

Every method starts from the same detection, the one that overlaps the true landmarks most. Errors are mean distances
relative to the distance between the outer eye corners; a face that the detector misses counts as a failure, and has no
part in mean and median. The area is that under the curve of faces with an error below some threshold (CED), from 0 to
8 % and to 10 %. The trees of ERT were grown on 300-W, which holds the training part of HELEN, and AFW: there they are
tested on what they know.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fertool import console, detectors, landmarks
from fertool.datasets import open_dataset, pts
from fertool.errors import DataError
from fertool.faces.images import read_image
from fertool.faces.pipeline import rgb
from fertool.regions.points import five_points

_FAILED = 0.10
_SAME = 0.3  # intersection over union of a found box and the true landmarks' box


def images(root: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """RGB pixels and (68, 2) landmarks."""
    try:
        pairs = pts.landmarked(root)
    except DataError:
        data = open_dataset(root)
        for sample in data.samples():
            if sample.landmarks is not None and sample.split in ("test", ""):
                yield rgb(data.read(sample)), np.asarray(sample.landmarks, dtype=np.float64)
        return
    for picture, marks in pairs:
        yield rgb(read_image(picture)), pts.read_points(marks)


def overlap(boxes: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 4) boxes with that of the landmarks."""
    low, high = marks.min(axis=0), marks.max(axis=0)
    shared = np.maximum(np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low), 0).prod(axis=1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (high - low).prod() - shared)


def area(errors: np.ndarray, threshold: float) -> float:
    """Under the curve of the share of faces with an error below e, e from 0 to the threshold, between 0 and 1."""
    return float(np.maximum(threshold - errors, 0).mean() / threshold)


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("images", type=Path)
    parse.add_argument("--sdm", type=Path, required=True, help="what fertool fit-sdm wrote")
    parse.add_argument("--detector", default="mtcnn", choices=("mtcnn", "dlib-hog", "dlib-cnn"))
    parse.add_argument("--limit", type=int, help="only the first so many images")
    args = parse.parse_args()

    detector = detectors.make(args.detector)
    placers = {
        "ERT": landmarks.make("ert68"),
        "SDM": landmarks.make("sdm", landmarks.Options(sdm=args.sdm)),
        "MTCNN": landmarks.make("mtcnn5"),
    }
    errors: dict[tuple[str, str, int], list[float]] = {}
    for n, (image, truth) in enumerate(images(args.images)):
        if n == args.limit:
            break
        span = np.linalg.norm(truth[45] - truth[36])
        found = next(iter(detector.detect([image])))
        likely = overlap(found.boxes, truth)
        chosen = int(likely.argmax()) if len(found) and likely.max() > _SAME else None
        five = None if chosen is None or found.points is None else found.points[chosen]
        for name, placer in placers.items():
            for start, points in {"points": five, "box": None}.items():
                if chosen is None:
                    placed = np.full((5 if name == "MTCNN" else 68, 2), np.inf)
                elif start == "points" and five is None:
                    continue
                else:
                    placed = placer.place(image, found.boxes[chosen], points, args.detector)
                pairs = {5: (placed if len(placed) == 5 else five_points(placed[None])[0], five_points(truth[None])[0])}
                if len(placed) == 68:
                    pairs[68] = (placed, truth)
                for count, (ours, true) in pairs.items():
                    apart = float(np.linalg.norm(ours - true, axis=1).mean() / span)
                    errors.setdefault((name, start, count), []).append(apart if chosen is not None else np.inf)

    heads = ("", "start", "faces", "missed", "mean", "median", "failed", "or missed", "AUC 8", "AUC 10")
    for count in (68, 5):
        rows = [(name, start, *_figures(np.array(e))) for (name, start, k), e in errors.items() if k == count]
        title = f"{count} points of {args.images.name}, found by {args.detector}; errors and failures in %"
        console.show(console.table(title, heads, rows))


def _figures(errors: np.ndarray) -> tuple[str, ...]:
    found = errors[np.isfinite(errors)]
    shares = (found.mean(), np.median(found), (found > _FAILED).mean(), (errors > _FAILED).mean())
    areas = (area(errors, 0.08), area(errors, 0.10))
    counts = (f"{len(errors):,}", f"{len(errors) - len(found):,}")
    return (*counts, *(f"{100 * s:.2f}" for s in shares), *(f"{a:.3f}" for a in areas))


if __name__ == "__main__":
    main()
