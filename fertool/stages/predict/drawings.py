"""Where predict puts what it draws: a picture per photograph, a film per film."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fertool.errors import DataError
from fertool.faces.align import invert
from fertool.faces.sources import Picture, Source
from fertool.figures import attention
from fertool.figures.annotate import Framed, annotate
from fertool.stages.predict.judge import Face
from fertool.training.trained import Trained

_QUALITY = 92  # of JPEG
_RATE = 10.0  # frames per second, where a camera does not tell


class Drawings:
    """Annotated pictures and films in a folder, named as what they show."""

    def __init__(self, folder: Path, trained: Trained):
        self.folder, self.trained = folder, trained
        self.written: list[Path] = []
        self._film = self._of = None
        self._size = (0, 0)

    def __enter__(self) -> "Drawings":
        return self

    def __exit__(self, *_) -> None:
        if self._film is not None:
            self._film.release()

    def add(self, picture: Picture, faces: Sequence[Face]) -> None:
        """Draw a picture with its faces.

        Raises:
            DataError: it cannot be written.
        """
        drawn = annotate(picture.pixels, [self._framed(face) for face in faces])
        if picture.source.is_film:
            self._frame(picture, drawn)
        else:
            self._photograph(picture.source, drawn)

    def _framed(self, face) -> Framed:
        p = face.probabilities
        best = int(p.argmax())
        said = {"emotion": self.trained.classes[best], "sure": float(p[best])}
        maps = attention.maps({k: v[None] for k, v in face.attention.items()}, self.trained.model.as_dict())
        if not maps:
            return Framed(face.box, **said)
        heat = np.mean([m[0] for m in maps.values()], axis=0)
        height, width = face.pixels.shape[:2]
        x0, y0, x1, y1 = face.view * (width, height, width, height)
        sx, sy = (x1 - x0) / heat.shape[1], (y1 - y0) / heat.shape[0]
        to_face = np.array([[sx, 0, x0 + sx / 2 - 0.5], [0, sy, y0 + sy / 2 - 0.5]])
        back = invert(face.matrix)
        place = np.column_stack([back[:, :2] @ to_face[:, :2], back[:, :2] @ to_face[:, 2] + back[:, 2]])
        return Framed(face.box, **said, heat=heat, place=place)

    def _photograph(self, source: Source, drawn: np.ndarray) -> None:
        import cv2

        path = self._place(source.below, ".jpg")
        _, data = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        path.write_bytes(data.tobytes())

    def _frame(self, picture: Picture, drawn: np.ndarray) -> None:
        import cv2

        drawn = drawn[: drawn.shape[0] // 2 * 2, : drawn.shape[1] // 2 * 2]  # films have even sides
        if self._of is not picture.source:
            if self._film is not None:
                self._film.release()
            path = self._place(picture.source.below, ".mp4")
            self._size = (drawn.shape[1], drawn.shape[0])
            rate = picture.rate if 0 < picture.rate < 1000 else _RATE
            self._film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, self._size)
            if not self._film.isOpened():
                raise DataError(f"cannot write {path}", "this OpenCV writes no MP4, or the folder is not writable")
            self._of = picture.source
        if (drawn.shape[1], drawn.shape[0]) != self._size:
            drawn = cv2.resize(drawn, self._size, interpolation=cv2.INTER_AREA)
        self._film.write(np.ascontiguousarray(drawn[..., ::-1]))

    def _place(self, below: str, ending: str) -> Path:
        """A path of its own in the folder, and the folders to it made."""
        wanted = self.folder / Path(below).with_suffix(ending)
        path, n = wanted, 1
        while path in self.written:
            n += 1
            path = wanted.with_stem(f"{wanted.stem}-{n}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written.append(path)
        return path
