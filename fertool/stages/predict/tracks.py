"""People through a video: a track for every face, and probabilities averaged over it."""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from fertool.faces.descriptor import Descriptor
from fertool.faces.media import Source
from fertool.faces.tracking import Tracker
from fertool.stages.predict.detection import Seen

_SAME = 1e-6  # seconds


def tracked(stream: Iterable[Seen]) -> Iterator[Seen]:
    """Give every face of a video the number of its person, from 1; none to images, and to frames kept whole."""
    source: Source | None = None
    tracker = Tracker()
    for seen in stream:
        if seen.picture.source is not source:
            source, tracker = seen.picture.source, Tracker()
        faces = [face for face in seen.faces if face.descriptor is not None]
        if source.is_video and not seen.picture.problem:
            boxes = np.array([face.box for face in faces]).reshape(-1, 4)
            descriptors = np.array([face.descriptor for face in faces]).reshape(-1, Descriptor.length)
            numbers = tracker(seen.picture.seconds, boxes, descriptors)
            for face, number in zip(faces, numbers, strict=True):
                face.track = number
        yield seen


def smoothed(stream: Iterable[Seen], seconds: float, live: bool) -> Iterator[Seen]:
    """Average the probabilities of every track over time.

    The probabilities of a face become the mean of those of all faces of its track whose times lie at most `seconds` / 2
    before or after its own; with a camera, which cannot wait, those of the last `seconds`.

    Args:
        live: whether there is a camera; then images are passed on at once.
    """
    before, after = (seconds, 0.0) if live else (seconds / 2, seconds / 2)
    source: Source | None = None
    now = 0.0
    waiting: deque[Seen] = deque()
    window: deque[tuple[float, dict[int, np.ndarray]]] = deque()  # times, and what each track's face got then

    def averaged(seen: Seen) -> Seen:
        for face in seen.faces:
            offsets = ((time - seen.picture.seconds, faces) for time, faces in window if face.track in faces)
            near = [faces[face.track] for offset, faces in offsets if -before - _SAME <= offset <= after + _SAME]
            face.smoothed = np.mean(near, axis=0) if near else None
        return seen

    for seen in stream:
        if seen.picture.source is not source:
            yield from map(averaged, waiting)
            waiting.clear()
            window.clear()
            source = seen.picture.source
        waiting.append(seen)
        if np.isfinite(seen.picture.seconds):
            now = seen.picture.seconds
            window.append((now, {face.track: face.probabilities for face in seen.faces if face.track}))
        while waiting and not now - waiting[0].picture.seconds < after:
            yield averaged(waiting.popleft())
        first = waiting[0].picture.seconds if waiting else now
        while window and first - window[0][0] > before + _SAME:
            window.popleft()
    yield from map(averaged, waiting)
