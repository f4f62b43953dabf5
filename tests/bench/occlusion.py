"""How far the guesses of suggest-occlusion agree with what people listed.

    python tests/bench/occlusion.py artefacts/ferplus/faces.h5 [--shipped | --learn-from artefacts/rendered/faces.h5]

The subsets beside the faces must hold the types of occlusion from lists. Listed faces are compared with the labelled
faces of the split that are not listed. `AUC` is the probability that a listed face of the type gets a higher value for
it than an unlisted one; `suggested` counts what the command would show for the type, `precision` how many of them are
listed for it, `recall` how many of those listed for it are among them. A list is no full account: faces that its
authors passed over count as wrong here. `drawings` is the accuracy on drawn-over faces of the same split.
"""

import argparse
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from fertool import artefact
from fertool.executors import LocalExecutor
from fertool.faces.status import HAS_IMAGE
from fertool.occlusion import classifier
from fertool.settings import SuggestOcclusion
from fertool.stages import suggest_occlusion as stage
from fertool.subsets import OCCLUSIONS


def auc(values: np.ndarray, members: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n, rest = members.sum(), (~members).sum()
    return float((rank[members].sum() - n * (n + 1) / 2) / max(n * rest, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("--learn-from", type=Path)
    parser.add_argument("--drawings", type=int, default=SuggestOcclusion().drawings)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shipped", action="store_true", help="the network that comes with fertool")
    parser.add_argument("--save", type=Path, help="keep the network as a .safetensors file")
    given = parser.parse_args()
    settings = SuggestOcclusion(drawings=given.drawings, seed=given.seed)
    faces = artefact.read(given.faces, "faces")
    subsets = artefact.read(given.faces.with_name("subsets.h5"), "subsets")
    listed = np.asarray(subsets["occlusion"])
    rows = np.flatnonzero(
        (faces["split"] == settings.split)
        & np.isin(faces["status"], HAS_IMAGE)
        & (listed | (np.asarray(faces["label"]) >= 0))
    )
    teacher = artefact.read(given.learn_from, "faces") if given.learn_from else faces
    if given.shipped:
        net = classifier.shipped()
    else:
        net = stage.train_classifier(
            teacher, settings, LocalExecutor(), spared=rows if teacher.digest == faces.digest else None
        )
    if given.save:
        save_file(net.state_dict(), str(given.save))
    probabilities = stage.guesses(net, faces, rows, LocalExecutor())
    marked = np.isfinite(np.asarray(faces["landmarks"])[rows]).all(axis=(1, 2))
    listed = listed[rows]
    sure, best = 1 - probabilities[:, 0], 1 + probabilities[:, 1:].argmax(axis=1)
    shown = sure >= settings.min_probability

    print(f"{len(rows):,} faces, {listed.sum()} of them listed, {(~marked).sum()} without landmarks")
    print(
        f"{'type':14} {'listed':>6} {'AUC':>6} {'AUC, landmarks':>15} {'suggested':>9} {'precision':>9} {'recall':>7}"
    )
    for place, kind in enumerate((None, *OCCLUSIONS)):
        mine = listed if kind is None else np.asarray(subsets[f"occlusion-{kind}"])[rows]
        value = sure if kind is None else probabilities[:, place]
        against = mine | ~listed
        said = shown if kind is None else shown & (best == place)
        found = (said & mine).sum()
        print(
            f"{kind or 'any':14} {mine.sum():6} {auc(value[against], mine[against]):6.3f} "
            f"{auc(value[against & marked], mine[against & marked]):15.3f} {said.sum():9} "
            f"{100 * found / max(said.sum(), 1):8.1f}% {100 * found / mine.sum():6.1f}%"
        )
    print("by confidence:")
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        part = (sure >= low) & (sure < high)
        share = 100 * (part & listed).sum() / max(part.sum(), 1)
        print(f"  {low:.1f} to {min(high, 1):.1f}: {part.sum():4} faces, {share:.1f}% of them listed")
    samples = SuggestOcclusion(samples=1000, seed=given.seed + 1)
    images, types = stage.lessons(faces, rows[marked], samples, LocalExecutor())
    said = classifier.guess(net, images).argmax(axis=1)
    print(f"drawings: {100 * (said == types).mean():.1f}% of 1,000 drawn-over faces of the split told rightly")


if __name__ == "__main__":
    main()
