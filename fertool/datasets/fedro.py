"""FED-RO: faces that something really covers, to test on.

Li, Zeng, Shan & Chen, "Occlusion aware facial expression recognition using CNN with attention mechanism", IEEE
Transactions on Image Processing 2019. Networks learn from RAF-DB and AffectNet and are tested on all its images.
"""

from dataclasses import replace
from pathlib import Path

from fertool.datasets.base import Dataset, Problem, Samples, Scan, some
from fertool.datasets.disk import called
from fertool.datasets.folder import Folder
from fertool.datasets.table import Table
from fertool.labels import PROTOCOLS


class FedRo(Dataset):
    name = "fedro"
    priority = 55
    classes = PROTOCOLS["fedro7"]
    about = "FED-RO, Li et al., TIP 2019; on request from its authors, for research only"
    marks = "a folder called FED-RO"
    layout = """\
FED-RO/Angry/1.jpg ...      seven folders named by emotion, or
FED-RO/labels.csv           path,label; all are in split test"""
    expect = {"test": 400}

    @classmethod
    def matches(cls, root: Path) -> str:
        found = called(root, "fedro")
        return f"{found} holds labelled pictures" if found and (Table.matches(found) or Folder.matches(found)) else ""

    def scan(self) -> Scan:
        top = called(self.root, "fedro") or self.root
        inner = Table(top) if Table.matches(top) else Folder(top)
        problems = inner.problems()
        if any(p.fatal for p in problems):
            return [], problems
        samples = inner.samples()
        strange = set(inner.classes) - set(self.classes)
        if strange or not inner.classes:
            what = f"emotions that FED-RO does not have: {some(sorted(strange))}" if strange else "no labels"
            return [], [*problems, Problem(what, str(top))]
        problems = [*problems, *self._uncounted("test" for _ in samples)]
        return Samples(samples, lambda sample: replace(sample, split="test")), problems
