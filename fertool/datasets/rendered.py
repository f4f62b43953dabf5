"""The embedded dataset: faces rendered from the MakeHuman head by `fertool render`.

It knows the truth about everything: label, person, landmarks, head pose, what covers the face, and the attributes that
CelebA gives of eyes and mouth.
"""

import csv
from pathlib import Path

import numpy as np

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.labels import ATTRIBUTES, PROTOCOLS

TABLE, LANDMARKS = "rendered.csv", "landmarks.npy"
SHOWN = tuple(name for group in ATTRIBUTES.values() for name in group)
COLUMNS = ("id", "path", "label", "split", "subject", "pitch", "yaw", "roll", "occlusion", "intensity", *SHOWN)


class Rendered(Dataset):
    name = "rendered"
    priority = 0
    classes = PROTOCOLS["rafdb7"]
    about = "rendered faces (MakeHuman head, CC0), made by fertool render; no benchmark"
    marks = TABLE
    layout = """\
rendered.csv                id,path,label,split,subject,pitch,yaw,roll,occlusion,intensity,
                            attr_bushy_eyebrows,... (seven attributes, 1 or -1)
landmarks.npy               (N, 68, 2) pixels
images/p000/p000-00.png ..."""

    @classmethod
    def matches(cls, root: Path) -> str:
        return f"it holds {TABLE}" if (Path(root) / TABLE).is_file() else ""

    def scan(self) -> Scan:
        table, marks = self.root / TABLE, self.root / LANDMARKS
        missing = [Problem(f"{p.name} is missing", str(p)) for p in (table, marks) if not p.is_file()]
        if missing:
            return [], missing
        with open(table, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        if not rows:
            return [], [Problem("the table has no rows", str(table))]
        if lacking := [name for name in COLUMNS if name not in rows[0]]:
            note = f"the table lacks {some(lacking)}; the same fertool render again adds them and keeps the pictures"
            return [], [Problem(note, str(table))]
        try:
            landmarks = np.load(marks, allow_pickle=False)
        except (ValueError, EOFError):
            return [], [Problem("the landmarks cannot be read", str(marks))]
        if landmarks.shape != (len(rows), 68, 2):
            return [], [
                Problem(f"landmarks for {len(rows):,} pictures are expected, got {landmarks.shape}", str(marks))
            ]
        absent = [row["path"] for row in rows if not (self.root / row["path"]).is_file()]
        problems = []
        if absent:
            note = f"{len(absent):,} of {len(rows):,} pictures are missing: {some(absent)}"
            problems.append(Problem(note, str(self.root), fatal=len(absent) == len(rows)))

        def make(i: int) -> Sample:
            row = rows[i]
            return Sample(
                row["id"],
                self.root / row["path"],
                label=row["label"] or None,  # mixed faces show no one expression
                split=row["split"],
                subject=row["subject"],
                landmarks=landmarks[i],
                extra={
                    **{f"true_{angle}": float(row[angle]) for angle in ("pitch", "yaw", "roll")},
                    "true_occlusion": row["occlusion"],
                    "intensity": float(row["intensity"]),
                    **{name: int(row[name]) for name in SHOWN},
                },
            )

        return Samples(range(len(rows)), make), problems
