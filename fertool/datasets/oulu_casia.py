"""Oulu-CASIA: recordings that begin with a neutral face and end with the expression at its peak.

Zhao, Huang, Taini, Li & Pietikäinen, "Facial expression recognition from near-infrared videos", Image and Vision
Computing 2011. Read are the recordings in visible light under strong illumination.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import few, find, frames, resolve, taken
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import Settings

_ABOVE = ("", "OriginalImg/", "B_OriginalImg/", "B_OriginalImg/OriginalImg/")  # the archive's name, its folder, or both
PLACES = tuple(f"{above}VL/Strong" for above in _ABOVE)
EMOTIONS = PROTOCOLS["oulucasia6"]


@dataclass(frozen=True, kw_only=True)
class OuluCasiaOptions(Settings):
    """How Oulu-CASIA is read."""

    frames: Annotated[
        Literal["last3", "first-last"], "last three frames of a recording, or its first (neutral) and last"
    ] = "last3"


class OuluCasia(Dataset):
    name = "oulu-casia"
    priority = 35
    classes = EMOTIONS
    about = "Oulu-CASIA, Zhao et al., IVC 2011; on request from its authors, for research only"
    marks = "VL/Strong"
    layout = """\
OriginalImg/VL/Strong/P001/Anger/000.jpeg ...      80 people, six expressions
Taken are the last three pictures of each recording, or its first (neutral) and its last (`frames`)."""
    expect = {"": 1_440}
    Options = OuluCasiaOptions

    def __init__(self, root: Path | str, **options: Any):
        super().__init__(root, **options)
        if self.chosen["frames"] == "first-last":
            self.classes, self.expect = PROTOCOLS["oulucasia7n"], {"": 960}

    @classmethod
    def matches(cls, root: Path) -> str:
        found = find(root, *PLACES)
        return f"it holds {found.relative_to(root)}" if found else ""

    def scan(self) -> Scan:
        top = find(self.root, *PLACES)
        if top is None:
            return [], [Problem("the recordings are missing", str(self.root / PLACES[1]))]
        rows: list[tuple[Path, str, str, int, str]] = []
        absent = []
        try:
            for person in (p for p in few(top) if p.is_dir()):
                for emotion in EMOTIONS:
                    folder = resolve(person, emotion)
                    ends = taken(frames(folder) if folder else [], self.chosen["frames"])
                    if not ends:
                        absent.append(f"{person.name}/{emotion}")
                    for number, path, neutral in ends:
                        rows.append((path, person.name, emotion, number, "neutral" if neutral else emotion))
        except DataError as e:
            return [], [Problem(e.message)]
        problems = self._uncounted("" for _ in rows)
        if absent or not rows:
            note = f"{len(absent):,} recordings are missing or too short: {some(absent)}" if absent else "no recordings"
            problems.append(Problem(note, str(top), fatal=not rows))

        def make(i: int) -> Sample:
            path, person, emotion, number, label = rows[i]
            name = f"{person}_{emotion}"
            return Sample(f"{name}_{number:03d}", path, label=label, subject=person, sequence=name, frame=number)

        return Samples(range(len(rows)), make), problems
