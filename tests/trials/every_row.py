"""Resume detect-align after a kill at every row, with every detector and estimator of head pose.

    python tests/trials/every_row.py [--minutes 20] [--seed 0] [--rows 20]

A kill at row j leaves a file of which the rows before j are written, and with several workers any others: such files
are made from a complete one, resumed by one to three workers, and the digests compared. Every combination of detector,
landmarks and head pose is resumed once before any is resumed at another row.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("", "stages")]

from test_detect_align_resume import align, unfinish  # noqa: E402

from fertool import console  # noqa: E402
from fertool.stages import render  # noqa: E402

FOUND = [
    {"detector": detector, "landmarks": landmarks, "align": "similarity"}
    for detector in ("mtcnn", "dlib-hog", "dlib-cnn", "none")
    for landmarks in ("ert68", "mtcnn5")
] + [{"detector": "none", "landmarks": "dataset", "align": "similarity"}]
POSES = [{"pose": "learned"}, {"pose": "landmarks"}, {"pose": "sixd"}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=20)
    chosen = parser.parse_args()
    console.configure(quiet=True)
    rng, end = random.Random(chosen.seed), time.monotonic() + 60 * chosen.minutes
    base = Path(tempfile.mkdtemp(prefix="every-row-"))
    photos = render.run(base / "photos", people=4, per_person=-(-chosen.rows // 4), size=96)
    weights = _weights(base)
    combinations = [
        {**found, **pose, **({"pose_weights": weights} if pose["pose"] == "sixd" else {})}
        for pose in POSES
        for found in FOUND
    ]
    whole, done, wrong = {}, 0, []
    rows = list(range(chosen.rows))
    rng.shuffle(rows)
    for row in rows:
        for i, settings in enumerate(combinations):
            if time.monotonic() > end:
                break
            out = base / f"{i}.h5"
            if i not in whole:
                whole[i] = align(photos, base / f"whole-{i}.h5", **settings)
            pending = {r for r in range(chosen.rows) if r >= row or rng.random() < 0.2}
            unfinish(whole[i], out, sorted(pending))
            workers = rng.choice((1, 2, 3))
            if align(photos, out, workers=workers, **settings).digest != whole[i].digest:
                wrong.append((settings, row, sorted(pending), workers))
                print("another digest:", *wrong[-1], flush=True)
            out.unlink()
            done += 1
    print(f"{done} resumed of {len(whole)} combinations, {len(wrong)} with another digest")
    shutil.rmtree(base)
    sys.exit(bool(wrong))


def _weights(base: Path) -> str:
    """A file of the layout in which 6DRepNet's weights are published, filled at random."""
    import torch

    from fertool.faces.sixd import Network

    torch.manual_seed(0)
    torch.save(Network().state_dict(), base / "sixd.pth")
    return str(base / "sixd.pth")


if __name__ == "__main__":
    main()
