"""CK+ (extended Cohn-Kanade): recordings that begin with a neutral face and end with the expression at its peak.

Lucey et al., "The extended Cohn-Kanade dataset (CK+): a complete dataset for action unit and emotion-specified
expression", CVPR workshops 2010. Of the 593 recordings 327 have an emotion; they show 118 of the 123 people.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import few, find, frames, resolve, taken
from fertool.datasets.tabular import text
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import Settings

# each as it is unpacked where the archive lies, or into a folder of the archive's name
IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
EMOTIONS = ("Emotion", "Emotion_labels/Emotion", "Emotion_labels")
LANDMARKS = ("Landmarks/Landmarks", "Landmarks")
CODES: dict[float, str] = {
    1: "anger",
    2: "contempt",
    3: "disgust",
    4: "fear",
    5: "happiness",
    6: "sadness",
    7: "surprise",
}


class Frame(NamedTuple):
    """An image of a recording; `sequence` is subject_recording, and its file's stem sequence_number."""

    path: Path
    sequence: str
    number: int
    emotion: str


@dataclass(frozen=True, kw_only=True)
class CkPlusOptions(Settings):
    """How CK+ is read."""

    frames: Annotated[
        Literal["last3", "first-last"], "last three frames of a recording, or its first (neutral) and last"
    ] = "last3"


class CkPlus(Dataset):
    name = "ckplus"
    priority = 30
    classes = PROTOCOLS["ckplus7c"]
    about = "CK+, Lucey et al., CVPR workshops 2010; on request from its authors, for research only"
    marks = "cohn-kanade-images"
    layout = """\
cohn-kanade-images/S005/001/S005_001_00000001.png ...
Emotion/S005/001/S005_001_00000011_emotion.txt ...               one number; only 327 recordings have one
Landmarks/S005/001/S005_001_00000001_landmarks.txt ...           68 landmarks (optional)
Taken are the last three pictures of each recording, or its first (neutral) and its last (`frames`). The copy in
folders named by emotion (CK+48) is read as the dataset `folder`."""
    expect = {"": 981}
    Options = CkPlusOptions

    def __init__(self, root: Path | str, **options: Any):
        super().__init__(root, **options)
        if self.chosen["frames"] == "first-last":  # contempt is left out, neutral comes in
            self.classes, self.expect = PROTOCOLS["ckplus7n"], {"": 618}

    @classmethod
    def matches(cls, root: Path) -> str:
        found = find(root, *IMAGES)
        return f"it holds {found.relative_to(root)}" if found else ""

    def scan(self) -> Scan:
        problems: list[Problem] = []
        images, emotions, landmarks = (find(self.root, *names) for names in (IMAGES, EMOTIONS, LANDMARKS))
        for found, what, names in ((images, "pictures", IMAGES), (emotions, "emotions", EMOTIONS)):
            if found is None:
                problems.append(Problem(f"the folder of {what} is missing", str(self.root / names[0])))
        if images is None or emotions is None:
            return [], problems
        try:
            rows = self._taken(images, _emotions(emotions, problems), problems)
        except DataError as e:
            return [], [Problem(e.message)]
        if not rows:
            problems.append(Problem("no recording has an emotion and pictures", f"{images} and {emotions}"))
        problems += self._uncounted("" for _ in rows)
        points = _landmarks(landmarks, rows, problems)
        if landmarks is None:
            note = Problem("the folder of landmarks is missing", str(self.root / LANDMARKS[1]), fatal=False)
            problems.append(note)

        def make(i: int) -> Sample:
            frame = rows[i]
            return Sample(
                id=frame.path.stem,
                path=frame.path,
                label=frame.emotion,
                subject=frame.sequence.split("_")[0],
                sequence=frame.sequence,
                frame=frame.number,
                landmarks=points[i],
            )

        return Samples(range(len(rows)), make), problems

    def _taken(self, images: Path, emotions: dict[str, str], problems: list[Problem]) -> list[Frame]:
        """Return the images that are taken of every recording with one of the emotions."""
        rows: list[Frame] = []
        absent: list[str] = []
        short: list[str] = []
        for sequence, emotion in emotions.items():
            if emotion not in self.classes:
                continue
            folder = resolve(images, sequence.replace("_", "/"))
            found = frames(folder) if folder else []
            ends = taken(found, self.chosen["frames"])
            if not ends:
                (short if found else absent).append(sequence)
            rows += [Frame(path, sequence, n, "neutral" if neutral else emotion) for n, path, neutral in ends]
        for names, what in ((absent, "have no pictures"), (short, "have too few pictures")):
            if names:
                note = f"{len(names):,} recordings {what} and are left out: {some(names)}"
                problems.append(Problem(note, str(images), fatal=False))
        return rows


def _emotions(folder: Path, problems: list[Problem]) -> dict[str, str]:
    """Return recording (as S005_001) -> emotion, sorted."""
    found: dict[str, str] = {}
    wrong = []
    for subject in (p for p in few(folder) if p.is_dir()):
        for recording in (p for p in few(subject) if p.is_dir()):
            for path in few(recording):
                if not re.fullmatch(r"\w+_emotion\.txt", path.name, re.IGNORECASE):
                    continue
                try:
                    found[f"{subject.name}_{recording.name}"] = CODES[float(text(path))]
                except (ValueError, KeyError):
                    wrong.append(path.name)
    if wrong:
        problems.append(Problem(f"emotions that are no number from 1 to 7: {some(wrong)}", str(folder)))
    return found


def _landmarks(folder: Path | None, rows: list[Frame], problems: list[Problem]) -> list[np.ndarray | None]:
    """Return (68, 2) pixels for every image, None where they are missing."""
    if folder is None:
        return [None] * len(rows)
    found: list[np.ndarray | None] = []
    bad = []
    for frame in rows:
        path = resolve(folder, f"{frame.sequence.replace('_', '/')}/{frame.path.stem}_landmarks.txt")
        try:
            found.append(np.array(text(path).split(), dtype=float).reshape(68, 2) if path else None)
        except (DataError, ValueError):
            found.append(None)
        if found[-1] is None:
            bad.append(frame.path.stem)
    if bad:
        note = f"landmarks of {len(bad):,} of {len(rows):,} pictures are missing or incomplete: {some(bad)}"
        problems.append(Problem(note, str(folder), fatal=False))
    return found
