"""SFEW 2.0: frames of videos, each with the face of a character who shows an emotion.

Dhall et al., "Static facial expression analysis in tough conditions: data, evaluation protocol and benchmark", ICCV
workshops 2011; version 2.0 of EmotiW 2015. The labels of the test split were never published.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan
from fertool.datasets.disk import emotion, few, find, pictures, pictures_below, printable, resolve, tops
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.settings import Settings

SPLITS = ("train", "val", "test")
#: kind of pictures -> where those of a split lie
PLACES = {
    "aligned": ("{0}_Aligned_Faces_new", "{0}_Aligned_Faces", "{0}/{0}_Aligned_Faces_new", "{0}/{0}_Aligned_Faces"),
    "original": ("{0}",),
}
#: movie, time in it and number of the frame, as in AlexEmma_000206240_00000021.png
NAME = re.compile(r"\w+_\d{9}_\d{8}\.\w+")


@dataclass(frozen=True, kw_only=True)
class SfewOptions(Settings):
    """How SFEW is read."""

    images: Annotated[Literal["auto", "aligned", "original"], "aligned images (auto: if present) or originals"] = "auto"


class Sfew(Dataset):
    name = "sfew"
    priority = 25
    classes = PROTOCOLS["sfew7_ran"]
    about = "SFEW 2.0, Dhall et al., ICCV workshops 2011; on request from its authors, for research only"
    marks = "Train_Aligned_Faces, or Train and Val with frames of videos"
    layout = """\
Train/Angry/AlexEmma_000206240_00000021.png ...       frames, seven folders, and Val/ in the same way, and/or
Train_Aligned_Faces/Angry/... Val_Aligned_Faces/...   143x181 faces (or Val_Aligned_Faces_new)
Test/... or Test_Aligned_Faces/...                    without labels (optional)"""
    expect = {"train": 958, "val": 436}
    Options = SfewOptions

    @classmethod
    def matches(cls, root: Path) -> str:
        aligned = [place.format(split) for split in ("Train", "Val") for place in PLACES["aligned"]]
        if found := find(root, *aligned):
            return f"it holds {found.relative_to(root)}"
        for top in tops(root):
            folders = [folder for split in ("Train", "Val") if (folder := resolve(top, f"{split}/Angry"))]
            first = next((p.name for folder in folders for p in few(folder) if NAME.fullmatch(p.name)), "")
            if len(folders) == 2 and first:
                return f"it holds {folders[0].relative_to(root)} with {first}"
        return ""

    def scan(self) -> Scan:
        kinds = ("aligned", "original") if self.chosen["images"] == "auto" else (self.chosen["images"],)
        places = {kind: self._folders(kind) for kind in kinds}
        self.chosen["images"] = kind = max(kinds, key=lambda kind: len(places[kind]))
        folders = places[kind]
        problems = []
        for split in SPLITS:
            if split not in folders:
                wanted = " or ".join(str(self.root / PLACES[k][-1].format(split.title())) for k in kinds)
                what = "pictures" if split == "test" else "folders named by emotion"
                problems.append(Problem(f"the {what} of split {split} are missing", wanted, fatal=split != "test"))
        if any(p.fatal for p in problems):
            return [], problems
        try:
            rows = [
                (path, split, label)
                for split, named in folders.items()
                for folder, label in named
                for path in pictures_below(folder)
            ]
        except DataError as e:
            return [], [Problem(e.message)]
        if not rows:
            problems.append(Problem("there are no pictures", str(folders["train"][0][0].parent)))
        if kind == "original":  # how many could be aligned differs between the releases
            problems += self._uncounted(split for _, split, _ in rows)

        def make(i: int) -> Sample:
            path, split, label = rows[i]
            name = "/".join(filter(None, (split, label, path.stem)))
            return Sample(printable(name), path, label=label, split=split)

        return Samples(range(len(rows)), make), problems

    def _folders(self, kind: str) -> dict[str, list[tuple[Path, str | None]]]:
        """Split -> its folders of images with their emotions; those of test have none."""
        found: dict[str, list[tuple[Path, str | None]]] = {}
        for split in SPLITS:
            top = find(self.root, *(place.format(split.title()) for place in PLACES[kind]))
            # unpacking may have put a folder between; aligned faces may lie in the folder of the frames
            between = [p for p in tops(top) if kind in p.name.lower() or "aligned" not in p.name.lower()] if top else []
            for folder in between:
                named: list[tuple[Path, str | None]]
                named = [(p, label) for p in few(folder) if p.is_dir() and (label := emotion(p.name))]
                if named or (split == "test" and pictures(folder)):
                    found[split] = named or [(folder, None)]
                    break
        return found
