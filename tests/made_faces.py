"""Small faces files for tests, with the columns that detect-align writes."""

from pathlib import Path

import numpy as np

from fertool import artefact
from fertool.faces.status import OK

#: eye centres, nose tip and mouth corners where alignment puts them, as fractions of the face
FIVE = np.array([[0.30, 0.35], [0.70, 0.35], [0.50, 0.57], [0.36, 0.78], [0.64, 0.78]])


def make_faces(path: Path, ids: list[str], classes: tuple[str, ...], *, size: int = 32, channels: int = 1, **columns):
    """Write a faces file of random pictures; every column can be given by name, further ones too."""
    n = len(ids)
    rng = np.random.default_rng(len(ids))
    given = {
        "split": ["test"] * n,
        "label": np.zeros(n, "i2"),
        "subject": [""] * n,
        "status": np.full(n, OK, "u1"),
        "images": rng.integers(0, 256, (n, size, size, channels), dtype=np.uint8),
        "landmarks": np.broadcast_to(FIVE * size - 0.5, (n, 5, 2)).astype("f4"),
        "pose": np.full((n, 3), np.nan, "f4"),
        **columns,
    }
    arrays = {"id": np.array(ids, object)}
    arrays |= {k: np.array(v, object) if isinstance(v, list) else v for k, v in given.items() if v is not None}
    artefact.save(path, "faces", arrays, params={"made": "for a test"}, classes=classes)
    return path
