"""Digests: of a whole file (what it was made of and from), of every array, and the seal over all that describes them.

The `digest` of a file names the work: equal work has equal digests. `digests` holds one of each array, so that a column
can be checked without reading the others. The `seal` covers the attributes and the types and shapes of all arrays: it
is checked whenever a file is opened, and reads no data.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fertool.artefact.layout import UNHASHED
from fertool.artefact.positions import read_at
from fertool.artefact.storage import Stored, load, open_h5
from fertool.pool import cores

_PIECE = 1 << 22  # bytes: a mapped file of many gigabytes would count as memory


def of_file(
    path: Path, texts: Mapping[str, str], schema: int, stored: Mapping[str, Stored]
) -> tuple[str, dict[str, str]]:
    """Return the digest of a file and those of its arrays, in one pass over the data."""
    inputs = json.dumps(sorted([p["role"], p["digest"]] for p in json.loads(texts["inputs"])))
    whole, arrays = _hash(), {}
    for part in (texts["fertool_kind"], str(schema), texts["params"], texts["classes"], inputs):
        whole.update(part.encode() + b"\0")
    with ThreadPoolExecutor(1) as beside:
        for name in sorted(stored.keys() - UNHASHED):
            s, found = stored[name], []
            waiting: deque[Future[bytes]] = deque()
            for i, (dtype, piece) in enumerate(_pieces(path, name, s)):
                if not i:
                    whole.update(f"{name}|{dtype.str}|{s.shape}\0".encode())
                waiting.append(beside.submit(_digest, piece))
                whole.update(piece)
                if len(waiting) > 2:
                    found.append(waiting.popleft().result())
            arrays[name] = _digest(b"".join([*found, *(w.result() for w in waiting)])).hex()
    return whole.hexdigest(), arrays


def of_array(path: Path, name: str, stored: Stored) -> str:
    """Return the digest of one array: that of the digests of its pieces of 4 MiB, so that all cores can work on it."""
    if stored.offset is None or stored.nbytes <= _PIECE:
        return _digest(b"".join(_digest(piece) for _, piece in _pieces(path, name, stored))).hex()
    offset, starts = stored.offset, range(0, stored.nbytes, _PIECE)
    with open(path, "rb", buffering=0) as f, ThreadPoolExecutor(cores()) as team:

        def one(start: int) -> bytes:
            count = min(_PIECE, stored.nbytes - start)
            piece = read_at(f.fileno(), count, offset + start)
            if len(piece) < count:
                raise OSError(f"{path} ends too early")
            return _digest(piece)

        return _digest(b"".join(team.map(one, starts))).hex()


def of_header(texts: Mapping[str, str], schema: int, complete: bool, stored: Mapping[str, Stored]) -> str:
    """Return the seal: the digest of all attributes but itself, and of what the arrays are."""
    kept = {k: v for k, v in texts.items() if k != "seal"} | {"fertool_schema": schema, "complete": complete}
    arrays = {name: ["text" if s.is_text else s.dtype.str, list(s.shape)] for name, s in stored.items()}
    one = _hash()
    one.update(json.dumps([kept, arrays], sort_keys=True).encode())
    return one.hexdigest()


def _pieces(path: Path, name: str, stored: Stored) -> Iterator[tuple[np.dtype, bytes]]:
    """Yield the bytes of an array in order, at least one piece, with their type: text of any length as if it had one.

    Raises:
        OSError: the file ends too early.
    """
    if stored.offset is None or 0 in stored.shape:
        with open_h5(path) as h5:
            array = load(h5, name, stored)
        yield array.dtype, np.ascontiguousarray(array).tobytes()
        return
    with open(path, "rb", buffering=0) as f:
        f.seek(stored.offset)
        left = stored.nbytes
        while left:
            piece = f.read(min(left, _PIECE))
            if not piece:
                raise OSError(f"{path} ends too early")
            yield stored.dtype, piece
            left -= len(piece)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)
