"""RaFD (Radboud Faces Database): posed expressions, five cameras, three directions of gaze.

Langner et al., "Presentation and validation of the Radboud Faces Database", Cognition & Emotion 2010. All that is known
of an image stands in its name. Contempt is left out, as by Sun et al. (Neurocomputing 2018, section 4.1).
"""

import re
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Any, Literal

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import few, is_picture, pictures_below, printable, tops
from fertool.errors import DataError
from fertool.labels import PROTOCOLS, canonical, is_emotion
from fertool.settings import Settings

NAME = re.compile(r"rafd(\d{3})_(\d+)_(\w+)_(male|female)_([a-z]+)_(frontal|left|right)", re.IGNORECASE)
SUBJECTS = tuple(f"{i:02d}" for i in range(1, 74) if i not in (6, 13, 17, 34, 62, 66))
ANGLES = {"front": (90,), "pose": (0, 45, 90, 135, 180)}
GAZES = ("frontal", "left", "right")
#: one box for all images, of 681x1024, as VA-CNN's paper crops them for its five poses. The paper does not give it:
#: it is a guess, twice 284 pixels wide (`detect-align.box` takes another)
BOX = (57.0, 220.0, 625.0, 788.0)
_LOOKED = 20  # folders that are looked into before it is taken for something else


@dataclass(frozen=True, kw_only=True)
class RaFDOptions(Settings):
    """How RaFD is read."""

    views: Annotated[Literal["front", "pose"], "images of the frontal camera, or of all five"] = "front"


class RaFD(Dataset):
    name = "rafd"
    priority = 45
    classes = PROTOCOLS["rafd7"]
    about = "RaFD, Langner et al., Cognition & Emotion 2010; on request from its authors, for research only"
    marks = "Rafd090_01_Caucasian_female_angry_frontal.jpg"
    layout = """\
Rafd090_01_Caucasian_female_angry_frontal.jpg ...     681x1024 images; folders make no difference
Taken are the frontal ones, or those of all five cameras (`views`); contempt is left out."""
    expect = {"": 1_407}
    Options = RaFDOptions

    def __init__(self, root: Path | str, **options: Any):
        super().__init__(root, **options)
        if self.chosen["views"] == "pose":
            self.expect = {"": 7_035}

    @classmethod
    def matches(cls, root: Path) -> str:
        if root.is_file():
            return ""
        names = (path.name for folder in islice(tops(root), _LOOKED) for path in few(folder))
        found = next((name for name in names if NAME.match(name) and is_picture(name)), "")
        return f"it holds {found}" if found else ""

    def scan(self) -> Scan:
        paths: dict[tuple[str, int, str, str], tuple[Path, str]] = {}
        problems: list[Problem] = []
        strange, again = [], []
        try:
            pictures = pictures_below(self.root)
        except DataError as e:
            return [], [Problem(e.message)]
        for path in pictures:
            found = NAME.fullmatch(path.stem)
            if not found or not is_emotion(found[5]):
                strange.append(path.name)
                continue
            angle, subject, _, gender, emotion, gaze = found.groups()
            key = (f"{int(subject):02d}", int(angle), canonical(emotion), gaze.lower())
            if key in paths:
                again.append(path.name)
            paths.setdefault(key, (path, gender.lower()))
        for names, what in ((strange, "are not named as those of RaFD"), (again, "are there twice")):
            if names:
                note = f"{len(names):,} pictures {what} and are left out: {some(map(printable, names))}"
                problems.append(Problem(note, str(self.root), fatal=False))

        angles = ANGLES[self.chosen["views"]]
        wanted = list(product(SUBJECTS, angles, self.classes, GAZES))
        taken = sorted(key for key in paths if key[1] in angles and key[2] in self.classes)
        if absent := [key for key in wanted if key not in paths]:
            examples = some(f"Rafd{angle:03d}_{subject}_…_{what}_{gaze}" for subject, angle, what, gaze in absent)
            note = f"{len(absent):,} of {len(wanted):,} images are missing: {examples}"
            problems.append(Problem(note, str(self.root), fatal=not taken))

        def make(i: int) -> Sample:
            subject, angle, emotion, gaze = taken[i]
            path, gender = paths[taken[i]]
            return Sample(
                path.stem,
                path,
                label=emotion,
                subject=subject,
                box=BOX,
                extra={"angle": angle, "gaze": gaze, "gender": gender},
            )

        return Samples(range(len(taken)), make), problems
