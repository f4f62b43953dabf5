"""Where predict puts what it draws: an image per image, a video per video."""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path

import numpy as np

from fertool import files
from fertool.errors import ArtefactError
from fertool.faces.align import invert
from fertool.faces.media import Picture, Source
from fertool.figures.annotate import Framed, annotate
from fertool.models.registry import build_model_meta
from fertool.outputs import MARK, check_output, inodes
from fertool.stages.predict.detection import Face
from fertool.training.checkpoint import Trained
from fertool.videos import VideoWriter, write_video

_QUALITY = 92  # of JPEG
_RATE = 10.0  # frames per second, where a camera does not tell


class Drawings:
    """Annotated images and videos in a folder, named as what they show.

    Args:
        folder: where they are written.
        sources: all that may be drawn.
        overwrite: replace what an earlier call drew.

    Raises:
        UsageError: a place is that of a source, by whatever path or link, or of a file that fertool did not write.
        ArtefactError: an earlier call drew there, and `overwrite` is not set.
    """

    def __init__(self, folder: Path, trained: Trained, sources: Sequence[Source], overwrite: bool):
        self.trained = trained
        self._network = build_model_meta(trained.model, len(trained.classes))
        self.written: list[Path] = []
        self._plan = plan(folder, sources)
        self._sources = inodes(source.path for source in sources if source.path)
        for place in self._plan.values():
            check_output(place, sources=self._sources)
            if not overwrite and place.exists():
                raise ArtefactError(f"{place} is already there", "add --overwrite, or choose another --out")
        self._held = ExitStack()
        self._video: VideoWriter | None = None
        self._of: Source | None = None
        self._size = (0, 0)

    def __enter__(self) -> "Drawings":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_video()

    def add(self, picture: Picture, faces: Sequence[Face]) -> None:
        """Draw an image with its faces; one that could not be read is left out.

        Raises:
            DataError: it cannot be written.
        """
        if picture.pixels is None:
            return
        drawn = annotate(picture.pixels, [self._framed(face) for face in faces])
        if picture.source.is_video:
            self._frame(picture, drawn)
        else:
            self._image(picture.source, drawn)

    def _framed(self, face: Face) -> Framed:
        p = face.probabilities
        best = int(p.argmax())
        emotion, sure = self.trained.classes[best], float(p[best])
        maps = self._network.attention_maps({k: v[None] for k, v in face.attention.items()})
        if not maps:
            return Framed(face.box, emotion, sure, number=face.track)
        heat = np.mean([m[0] for m in maps.values()], axis=0)
        height, width = face.pixels.shape[:2]
        x0, y0, x1, y1 = face.view * (width, height, width, height)
        sx, sy = (x1 - x0) / heat.shape[1], (y1 - y0) / heat.shape[0]
        to_face = np.array([[sx, 0, x0 + sx / 2 - 0.5], [0, sy, y0 + sy / 2 - 0.5]])
        back = invert(face.matrix)
        place = np.column_stack([back[:, :2] @ to_face[:, :2], back[:, :2] @ to_face[:, 2] + back[:, 2]])
        return Framed(face.box, emotion, sure, heat, place, face.track)

    def _image(self, source: Source, drawn: np.ndarray) -> None:
        import cv2

        _, data = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        path = self._plan[source]
        files.write(path, _marked_jpeg(data.tobytes()), sources=self._sources)
        self.written.append(path)

    def _frame(self, picture: Picture, drawn: np.ndarray) -> None:
        import cv2

        drawn = drawn[: drawn.shape[0] // 2 * 2, : drawn.shape[1] // 2 * 2]  # videos have even sides
        if self._video is None or self._of is not picture.source:
            self._close_video()
            path = self._plan[picture.source]
            part = self._held.enter_context(files.replacing(path, sources=self._sources))
            self._size = (drawn.shape[1], drawn.shape[0])
            rate = picture.rate if 0 < picture.rate < 1000 else _RATE
            self._video = write_video(part, self._size, rate)
            self._held.callback(_mark_mp4, part)
            self._held.callback(self._video.close)
            self._of = picture.source
            self.written.append(path)
        if (drawn.shape[1], drawn.shape[0]) != self._size:
            drawn = cv2.resize(drawn, self._size, interpolation=cv2.INTER_AREA)
        self._video.write(drawn, picture.seconds)

    def _close_video(self) -> None:
        """Finish the video that is being written, and put it in its place."""
        self._held.close()
        self._of = None


def plan(folder: Path, sources: Sequence[Source]) -> dict[Source, Path]:
    """Return the file in a folder that each source is drawn into: its own name with .jpg or .mp4.

    Where another source has that name, its own ending goes before that, or a number.
    """
    places: dict[Source, Path] = {}
    taken: set[str] = set()
    for source in dict.fromkeys(sources):
        ending = ".mp4" if source.is_video else ".jpg"
        below = Path(source.below)
        whole = below.with_name(below.name + ending)
        numbered = (whole.with_stem(f"{whole.stem}-{n}") for n in count(2))
        candidates = chain((below.with_suffix(ending), whole), numbered)
        place = next(place for place in candidates if _key(place) not in taken)
        taken.add(_key(place))
        places[source] = folder / place
    return places


def _key(place: Path) -> str:
    return str(place).casefold()  # some file systems know no letter case


def _marked_jpeg(data: bytes) -> bytes:
    """Return a JPEG file with a comment that says who made it."""
    comment = MARK.encode()
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


def _mark_mp4(path: Path) -> None:
    """Append a box to an MP4 file that players pass over, and that says who made it."""
    mark = MARK.encode()
    with open(path, "ab") as f:
        f.write((len(mark) + 8).to_bytes(4, "big") + b"free" + mark)
