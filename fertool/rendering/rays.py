"""Rays against triangle meshes: by Intel Embree (package embreex), or by Warp where Embree has no wheel.

Warp comes with `anny`. Both find the same triangles but for rays through an edge.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

#: a triangle mesh: vertices (V, 3) float32, triangles (T, 3) int32
Mesh = tuple[np.ndarray, np.ndarray]

#: packages that can cast rays, the faster first
PACKAGES = ("embreex", "warp")


@dataclass(frozen=True)
class Hits:
    """The nearest triangle on each of N rays.

    Attributes:
        mesh, triangle: (N,) int, -1 where a ray meets nothing.
        weights: (N, 3) of the triangle's corners at the place that is met.
        far: (N,) distance to it, infinite where a ray meets nothing.
    """

    mesh: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray
    far: np.ndarray


class Rays(ABC):
    """Meshes that rays are cast against; origins and unit directions are (N, 3) float32."""

    @abstractmethod
    def nearest(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """Return the first triangle that each ray meets."""

    @abstractmethod
    def blocked(self, origins: np.ndarray, directions: np.ndarray, reach: float = np.inf) -> np.ndarray:
        """Return (N,) bool: whether a ray meets anything within reach."""


def cast(meshes: Sequence[Mesh]) -> Rays:
    """Return meshes to cast rays against, by the fastest package that is there."""
    if find_spec("embreex"):
        return _Embree(meshes)
    from fertool.rendering.warp_rays import WarpRays

    return WarpRays(meshes)


class _Embree(Rays):
    def __init__(self, meshes: Sequence[Mesh]):
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene()
        for vertices, triangles in meshes:
            TriangleMesh(self._scene, vertices, triangles)

    def nearest(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        found = self._scene.run(origins, directions, output=True)
        u, v, met = found["u"], found["v"], found["primID"] >= 0
        far = np.where(met, found["tfar"], np.inf)
        return Hits(
            np.where(met, found["geomID"].astype(np.int64), -1), found["primID"], np.stack([1 - u - v, u, v], 1), far
        )

    def blocked(self, origins: np.ndarray, directions: np.ndarray, reach: float = np.inf) -> np.ndarray:
        if np.isinf(reach):
            return self._scene.run(origins, directions, query="OCCLUDED") >= 0
        limits = np.full(len(origins), reach, np.float32)
        return self._scene.run(origins, directions, limits, query="OCCLUDED") >= 0
