"""HAPPEI: images of groups of people, to look at.

Dhall, Goecke & Gedeon, "Automatic group happiness intensity analysis", IEEE Transactions on Affective Computing 2015.
Its happiness intensities are not read: they are none of the emotions.
"""

from pathlib import Path

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan
from fertool.datasets.disk import called, pictures_below, printable
from fertool.errors import DataError


class Happei(Dataset):
    name = "happei"
    priority = 60
    about = "HAPPEI, Dhall et al., TAC 2015; on request from its authors, for research only; no labels are read"
    marks = "a folder called HAPPEI"
    layout = """\
HAPPEI/1.jpg ...            pictures in it and below"""
    expect = {"": 4_886}

    @classmethod
    def matches(cls, root: Path) -> str:
        found = called(root, "happei")
        return f"{found} is called so" if found else ""

    def scan(self) -> Scan:
        top = called(self.root, "happei") or self.root
        try:
            paths = pictures_below(top)
        except DataError as e:
            return [], [Problem(e.message)]
        if not paths:
            return [], [Problem("there are no pictures", str(top))]

        def make(path: Path) -> Sample:
            return Sample(printable(path.relative_to(top).as_posix()), path)

        return Samples(paths, make), self._uncounted("" for _ in paths)
