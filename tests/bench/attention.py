"""Where networks look, against where eyes and mouth are.

    python tests/bench/attention.py RUN [RUN ...]

For runs that `fertool eval` has predicted, on faces with landmarks. Every attention map becomes weights over the face:
VA-CNN's map, WS-LGRN's maps of eyes and mouth, MAN's masks weighted by how much each region counts, LNLAttenNet's
patches. Printed are the mean weight inside the boxes of eyes and of mouth and nose (MAN's regions 2 and 3) divided by
the mean weight of the rest of the face (1: it does not care), and for WS-LGRN how often the eyes' map lies above the
mouth's: on all faces, and, where `fertool make-masks` has grouped attributes beside them, on those that show
attributes of both (on the others a map has nothing to show).
"""

import argparse
from pathlib import Path

import numpy as np

from fertool import artefact, console
from fertool.models.registry import network_of
from fertool.regions.masks import region_boxes
from fertool.training.transforms import cut_boxes

EYES, MOUTH = 1, 2  # among MAN's regions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    rows, notes = [], []
    for folder in parser.parse_args().runs:
        run, predictions = artefact.read(folder / "run.h5"), artefact.read(folder / "predictions.h5")
        faces = artefact.read(folder.parent.parent / "faces.h5")
        size = faces["images"].shape[1:3]
        boxes = region_boxes(np.array(faces["landmarks"])[predictions["row"]], size)[:, [EYES, MOUTH]]
        known = np.isfinite(boxes).all(axis=(1, 2))
        network = network_of(run)
        spec = network.input
        view = cut_boxes(1, size, spec.size)[0, 0].numpy() if spec.crop else np.array([0, 0, 1, 1])
        columns = [k for k in predictions.columns if k.startswith("attention_")]
        found = {k.removeprefix("attention_"): np.array(predictions[k]) for k in columns}
        maps = network.attention_maps(found)
        for name, values in maps.items():
            values, (h, w) = values[known], values.shape[1:]
            x = view[0] + (np.arange(w) + 0.5) / w * (view[2] - view[0])
            y = view[1] + (np.arange(h) + 0.5) / h * (view[3] - view[1])
            x0, y0, x1, y1 = np.moveaxis(boxes[known], 2, 0)[..., None, None]  # each (faces, 2, 1, 1)
            inside = (x >= x0) & (x <= x1) & (y[:, None] >= y0) & (y[:, None] <= y1)  # (faces, 2, h, w)
            rest = ~inside.any(axis=1)
            weight = [float((values * part).sum() / part.sum()) for part in (inside[:, 0], inside[:, 1], rest)]
            rows.append((folder.name, name, int(known.sum()), weight[0] / weight[2], weight[1] / weight[2]))
        if {"eyes", "mouth"} <= maps.keys():
            rows_of = {k: (v * np.arange(v.shape[1])[:, None]).sum((1, 2)) / v.sum((1, 2)) for k, v in maps.items()}
            above = rows_of["eyes"] < rows_of["mouth"]
            note = (
                f"{folder.name}: the eyes' map lies above the mouth's on {100 * above[known].mean():.1f} % of the faces"
            )
            masks = faces.path.with_name("masks.h5")
            if masks.is_file() and "groups" in (grouped := artefact.read(masks, "masks")):
                both = known & (np.array(grouped["groups"])[predictions["row"]] == 1).all(axis=1)
                note += f", on {100 * above[both].mean():.1f} % of the {both.sum()} with attributes of both"
            notes.append(note)
    console.show(console.table("weight, times that of the rest", ("run", "map", "faces", "eyes", "mouth, nose"), rows))
    for note in notes:
        print(note)


if __name__ == "__main__":
    main()
