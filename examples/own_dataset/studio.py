"""A dataset of your own: one image per take in `images/`, one line per take in `takes.txt`.

takes.txt               take;actor;emotion;set        set: a (trained on) or b (tested on)
images/0001.png ...
"""

from collections.abc import Sequence
from pathlib import Path

from fertool.datasets.base import Dataset, Problem, Sample

EMOTIONS = {"N": "neutral", "H": "happiness", "S": "surprise"}
SPLITS = {"a": "train", "b": "test"}


class Studio(Dataset):
    """Takes of actors, listed in one table."""

    name = "studio"
    classes = tuple(EMOTIONS.values())
    about = "takes of actors (an example)"
    marks = "takes.txt"
    layout = "takes.txt (take;actor;emotion;set), images/0001.png ..."

    @classmethod
    def matches(cls, root: Path) -> str:
        """Return what in a folder shows that it is this dataset."""
        return "it holds takes.txt" if (root / "takes.txt").is_file() else ""

    def scan(self) -> tuple[Sequence[Sample], list[Problem]]:
        """List all takes, and what is missing."""
        table = self.root / "takes.txt"
        if not table.is_file():
            return [], [Problem("there is no takes.txt", str(table))]
        samples, problems = [], []
        for line in table.read_text(encoding="utf-8").splitlines()[1:]:
            take, actor, emotion, part = line.split(";")
            path = self.root / "images" / f"{take}.png"
            if not path.is_file():
                problems.append(Problem(f"take {take} has no image", str(path), fatal=False))
                continue
            samples.append(Sample(path.name, path, label=EMOTIONS[emotion], split=SPLITS[part], subject=actor))
        return samples, problems
