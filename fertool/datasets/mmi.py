"""MMI: recordings in which a neutral face shows an expression and becomes neutral again.

Pantic, Valstar, Rademaker & Maat, "Web-based database for facial expression analysis", ICME 2005. Taken are the first
frame of a recording (neutral) and one at the peak of the expression: the middle of the frames with most action units
at their apex where these are annotated, else the middle of the recording. Recordings of the profile are left out.
"""

import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fertool.datasets.base import Dataset, Problem, Sample, Samples, Scan, some
from fertool.datasets.disk import emotion, find, frames, ignored
from fertool.datasets.tabular import table
from fertool.errors import DataError
from fertool.labels import PROTOCOLS
from fertool.videos import count_frames, read_frame

MANIFEST, COLUMNS = "manifest.csv", ("sequence", "subject", "label", "first_frame", "peak_frame")
CODES = {"1": "anger", "2": "disgust", "3": "fear", "4": "happiness", "5": "sadness", "6": "surprise"}
VIEWS = {"0": "frontal", "1": "profile", "2": "dual"}
VIDEOS = (".avi", ".mp4", ".mov", ".mpg", ".mpeg", ".mkv")
APEX = "2"  # of the markers 0 neutral, 1 onset, 2 apex, 3 offset: each holds until the next one


class Recording(NamedTuple):
    """A recording and its frames: a video of `count`, or pictures. `peak` counts from 1, 0 if it is not annotated."""

    name: str
    video: Path | None
    pictures: list[Path]
    emotion: str | None
    view: str
    peak: int


class Row(NamedTuple):
    """A frame that is taken; `number` counts from 1 inside its recording."""

    recording: Recording
    subject: str
    number: int
    label: str


class Mmi(Dataset):
    name = "mmi"
    priority = 40
    classes = PROTOCOLS["mmi7n"]
    about = "MMI, Pantic et al., ICME 2005; on request from its authors, for research only"
    marks = "Sessions with videos and their XML"
    layout = """\
Sessions/1/S001-001.avi               or the frames of the video as pictures
Sessions/1/S001-001.xml               <Metatag Name="Emotion" Value="4"/>: 1 anger, 2 disgust, 3 fear, 4 happiness,
Sessions/1/session.xml ...            5 sadness, 6 surprise; <track view="0"/>: 0 frontal, 1 profile, 2 both
Sessions/1/S001-001-oao_aucs.xml      action units (optional)
manifest.csv                          sequence,subject,label,first_frame,peak_frame (optional): only these recordings;
                                      frames count from 1, empty ones are chosen as without it"""

    @classmethod
    def matches(cls, root: Path) -> str:
        sessions = find(root, "Sessions")
        if sessions is None or not sessions.is_dir():
            return ""
        described = any((folder / "session.xml").is_file() for folder in _folders(sessions)[:20])
        return f"it holds {sessions.relative_to(root)} with session.xml" if described else ""

    def scan(self) -> Scan:
        sessions, manifest = find(self.root, "Sessions"), find(self.root, MANIFEST)
        if sessions is None:
            return [], [Problem("the folder of recordings is missing", str(self.root / "Sessions"))]
        problems: list[Problem] = []
        try:
            found = {r.name: r for folder in _folders(sessions) for r in _recordings(folder, problems)}
            rows = _as_listed(manifest, found, problems) if manifest else _as_described(found, problems)
        except DataError as e:
            return [], [Problem(e.message)]
        if not rows and not any(p.fatal for p in problems):
            problems.append(Problem("no frontal recording with an emotion has frames", str(sessions)))

        def make(i: int) -> Sample:
            recording, subject, number, label = rows[i]
            return Sample(
                id=f"{recording.name}_{number:04d}",
                path=recording.video or recording.pictures[number - 1],
                label=label,
                subject=subject,
                sequence=recording.name,
                frame=number,
                extra={"view": recording.view},
            )

        return Samples(range(len(rows)), make), problems

    def read(self, sample: Sample) -> np.ndarray:
        if sample.file.suffix.lower() not in VIDEOS:
            return super().read(sample)
        picture = read_frame(sample.file, sample.frame)
        # early frontal videos of 720x576 were taken with the camera on its side
        lying = sample.extra["view"] == "frontal" and picture.shape[:2] == (576, 720)
        return np.ascontiguousarray(np.rot90(picture, -1)) if lying else picture


def _folders(sessions: Path) -> list[Path]:
    """Return the folders of the sessions by their numbers (there are thousands)."""
    try:
        with os.scandir(sessions) as found:
            names = [e.name for e in found if not ignored(e.name) and e.is_dir()]
    except OSError as e:
        raise DataError(f"cannot read {sessions}: {e.strerror}") from e
    return [sessions / name for name in sorted(names, key=lambda name: (len(name), name))]


def _recordings(folder: Path, problems: list[Problem]) -> Iterator[Recording]:
    """Yield the recording in a session's folder, if there is one."""
    names = sorted(e.name for e in os.scandir(folder) if not ignored(e.name))
    described = [n for n in names if n.lower().endswith(".xml") and not n.lower().endswith(("session.xml", "aucs.xml"))]
    videos = [n for n in names if n.lower().endswith(VIDEOS)]
    if not described and not videos:
        return
    name = os.path.splitext((videos or described)[0])[0]
    trees = {}
    for key, file in (("emotion", f"{name}.xml"), ("view", "session.xml"), ("units", f"{name}-oao_aucs.xml")):
        try:
            trees[key] = ET.parse(folder / file).getroot() if file in names else ET.Element("none")
        except ET.ParseError as e:
            problems.append(Problem(f"the XML cannot be read: {e}", str(folder / file), fatal=False))
            trees[key] = ET.Element("none")
    codes = {tag.get("Name"): tag.get("Value", "") for tag in trees["emotion"].iter("Metatag")}
    track = trees["view"].find(".//track")
    yield Recording(
        name=name,
        video=folder / videos[0] if videos else None,
        pictures=[] if videos else [path for _, path in frames(folder)],
        emotion=CODES.get(codes.get("Emotion", "")),
        view=VIEWS.get("" if track is None else track.get("view", ""), ""),
        peak=_peak(trees["units"]),
    )


def _peak(units: ET.Element) -> int:
    """Return the middle of the frames at which most action units are at their apex; 0 if none is."""
    at_apex: Counter[int] = Counter()
    for unit in units.iter("ActionUnit"):
        placed = [m for m in unit.iter("Marker") if m.get("Frame", "").isdecimal()]
        markers = sorted((int(m.get("Frame", "")), m.get("Type", "")) for m in placed)
        for (start, kind), (end, _) in pairwise(markers):
            if kind == APEX:
                at_apex.update(range(start, end))
    most = sorted(frame for frame, n in at_apex.items() if n == max(at_apex.values()))
    return most[len(most) // 2] if most else 0


def _as_described(found: dict[str, Recording], problems: list[Problem]) -> list[Row]:
    """Return first frame and peak of every recording that has one of the emotions and shows the face from in front."""
    rows, empty = [], []
    for recording in found.values():
        if recording.emotion is None or recording.view == "profile":
            continue
        count = _count(recording)
        if count < 2:
            empty.append(recording.name)
            continue
        rows += _ends(recording, recording.name.split("-")[0], recording.emotion, 1, recording.peak, count)
    if empty:
        note = f"{len(empty):,} recordings have no frames that can be read: {some(empty)}"
        problems.append(Problem(note, fatal=not rows))
    return rows


def _as_listed(path: Path, found: dict[str, Recording], problems: list[Problem]) -> list[Row]:
    """Return the frames that a manifest names.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    header, *lines = table(path) or [[]]
    columns = {name.strip().lower(): i for i, name in enumerate(header)}
    if missing := [name for name in COLUMNS if name not in columns]:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}", f"expected header: {','.join(COLUMNS)}")
    rows, wrong, absent = [], [], []
    for n, line in enumerate(lines, start=2):
        cells = [line[columns[name]].strip() if columns[name] < len(line) else "" for name in COLUMNS]
        name, subject, label, *numbers = cells
        shown = emotion(label)
        if shown not in Mmi.classes or not all(number.isdecimal() for number in numbers if number):
            wrong.append(f"line {n} ({','.join(line)[:40]!r})")
            continue
        recording = found.get(os.path.splitext(name)[0])
        count = _count(recording) if recording else 0
        first, peak = (int(number or 0) for number in numbers)
        if recording is None or count < max(first, peak, 2):
            absent.append(name)
            continue
        rows += _ends(recording, subject, shown, first or 1, peak or recording.peak, count)
    if wrong:
        note = f"lines without one of the emotions, or with frames that are no numbers: {some(wrong)}"
        problems.append(Problem(note, str(path)))
    if absent:
        note = f"{len(absent):,} recordings are missing or have fewer frames than listed: {some(absent)}"
        problems.append(Problem(note, str(path), fatal=not rows))
    return rows


def _ends(recording: Recording, subject: str, label: str, first: int, peak: int, count: int) -> list[Row]:
    peak = peak if 0 < peak <= count else (count + 1) // 2
    return [Row(recording, subject, first, "neutral"), Row(recording, subject, max(peak, first + 1), label)]


def _count(recording: Recording) -> int:
    return count_frames(recording.video) if recording.video else len(recording.pictures)
