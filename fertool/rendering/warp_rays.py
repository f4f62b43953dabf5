"""Rays by Warp, on the CPU. Its kernels are compiled once, at their first use, into Warp's cache."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import warp

from fertool.rendering.rays import Hits, Mesh, Rays

for _name, _value in (("log_level", logging.ERROR), ("quiet", True)):  # of later and of earlier versions
    setattr(warp.config, _name, _value)


def _start() -> None:
    """Start Warp without its line on stderr that there is no GPU, which its C code prints."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        warp.init()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


_start()

_FARTHEST = 1e6  # in distances between the eyes: beyond everything
_DEVICE = "cpu"


@warp.kernel
def _meet(
    mesh: warp.uint64,
    origins: warp.array(dtype=warp.vec3),  # type: ignore[valid-type]
    directions: warp.array(dtype=warp.vec3),  # type: ignore[valid-type]
    reach: float,
    face: warp.array(dtype=int),  # type: ignore[valid-type]
    place: warp.array(dtype=warp.vec3),  # type: ignore[valid-type]
) -> None:
    """Write the triangle that each ray meets first, or -1, and (weights of its first two corners, distance)."""
    i = warp.tid()
    hit = warp.mesh_query_ray(mesh, origins[i], directions[i], reach)
    face[i] = -1
    if hit.result:  # type: ignore[attr-defined]
        face[i] = hit.face  # type: ignore[attr-defined]
        place[i] = warp.vec3(hit.u, hit.v, hit.t)  # type: ignore[attr-defined]


class WarpRays(Rays):
    """All meshes as one, whose triangles are numbered on."""

    def __init__(self, meshes: Sequence[Mesh]):
        counts = [len(vertices) for vertices, _ in meshes]
        starts = np.cumsum([0, *counts[:-1]])
        self._first = np.cumsum([0, *(len(triangles) for _, triangles in meshes)])
        points = np.concatenate([vertices for vertices, _ in meshes]).astype(np.float32)
        corners = np.concatenate([triangles + start for (_, triangles), start in zip(meshes, starts, strict=True)])
        self._mesh = warp.Mesh(
            points=warp.array(points, dtype=warp.vec3, device=_DEVICE),
            indices=warp.array(corners.astype(np.int32).ravel(), dtype=int, device=_DEVICE),
        )

    def nearest(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """Return the first triangle that each ray meets."""
        face, place = self._meet(origins, directions, _FARTHEST)
        met = face >= 0
        mesh = np.where(met, np.searchsorted(self._first, face, side="right") - 1, -1)
        weights = np.stack([place[:, 0], place[:, 1], 1 - place[:, 0] - place[:, 1]], 1)
        far = np.where(met, place[:, 2], np.inf).astype(np.float32)
        return Hits(mesh, np.where(met, face - self._first[mesh], -1), weights, far)

    def blocked(self, origins: np.ndarray, directions: np.ndarray, reach: float = np.inf) -> np.ndarray:
        """Return (N,) bool: whether a ray meets anything within reach."""
        return self._meet(origins, directions, min(reach, _FARTHEST))[0] >= 0

    def _meet(self, origins: np.ndarray, directions: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        vectors: list[Any] = [
            warp.array(np.ascontiguousarray(v, np.float32), dtype=warp.vec3, device=_DEVICE)
            for v in (origins, directions)
        ]
        face = warp.empty(len(origins), dtype=int, device=_DEVICE)
        place = warp.zeros(len(origins), dtype=warp.vec3, device=_DEVICE)
        inputs = [self._mesh.id, *vectors, float(reach), face, place]
        warp.launch(_meet, dim=len(origins), inputs=inputs, device=_DEVICE)
        return face.numpy(), place.numpy()
