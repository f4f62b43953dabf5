"""One rendered face: from its description to pixels, and the truth about them.

Rays through every pixel meet the head, its hair and whatever covers it (`fertool.rendering.rays`); one more ray per hit
towards the light casts shadows, and a few per vertex darken hollows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from fertool.errors import UsageError, nearest
from fertool.faces.mean_head import VERTICES, rotation
from fertool.rendering import occluders, scene
from fertool.rendering.expressions import EXPRESSIONS, mix, parts
from fertool.rendering.head import LASH, TEETH, load_head
from fertool.rendering.people import Person, normals, person
from fertool.rendering.rays import Rays, cast
from fertool.rendering.shading import PARTS, SKIN_PARTS, Surface, lit, mask_columns, noise

_FINE = 256  # rays along a side at least, so that several fall into a pixel of a small picture
_SKY_RAYS = 6  # per vertex, to find how open it lies
_PURPOSES = ("expression", "scene", "occlusion", "picture", "background")  # of random numbers, see `stream`


@dataclass(frozen=True)
class FaceSpec:
    """All that decides a rendered face.

    Attributes:
        subject: number of the person.
        expression: one of `EXPRESSIONS`. intensity: 0 to 1.
        pitch, yaw, roll: head pose in degrees; see `fertool.faces.mean_head.rotation`.
        occlusion: "" or one of `occluders.OCCLUSIONS`.
        seed: light, background, camera, gaze, asymmetry, the things that cover the face, blur and noise.
        size: side of the image in pixels.
        varied: whether the expression may be shown in one of the ways of `expressions.VARIED`.

    Raises:
        UsageError: there is no such expression or occlusion.
    """

    subject: int = 0
    expression: str = "neutral"
    intensity: float = 1.0
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0
    occlusion: str = ""
    seed: int = 0
    size: int = 160
    varied: bool = False

    def __post_init__(self) -> None:
        shown = [(name, EXPRESSIONS) for name in parts(self.expression)]
        for value, known in (*shown, (self.occlusion, ("", *occluders.OCCLUSIONS))):
            if value not in known:
                raise UsageError(f"{value!r} cannot be rendered", nearest(value, known))


@dataclass(frozen=True)
class RenderedFace:
    """An image and the truth about it.

    Attributes:
        pixels: (size, size, 3) uint8 sRGB.
        landmarks: (68, 2) float32 pixels, the centre of the top-left pixel being (0, 0). They are fixed points of the
            skin, given whether they can be seen or not; the jaw's do not slide to the outline of a turned head.
        visible: (68,) bool: nothing lies between the landmark and the camera.
        parts: (size, size) uint8: what each pixel shows, an index into `PARTS`.
    """

    pixels: np.ndarray
    landmarks: np.ndarray
    visible: np.ndarray
    parts: np.ndarray


def render_face(spec: FaceSpec) -> RenderedFace:
    """Render a face. The same description gives the same pixels on every call and in every process.

    Raises:
        DataError: a package of the `demo` extra is missing.
    """
    head, who = load_head(), person(spec.subject)
    units = mix(spec.expression, spec.intensity, stream(spec, "expression"), spec.varied)
    setting = scene.draw(stream(spec, "scene"))

    shape = who.neutral + sum(np.float32(strength) * head.units[name] for name, strength in units.items())
    pose = _Pose(spec)
    marks = head.vertex(np.array(VERTICES))
    # the neck bends: what lies lower follows the head less
    vertices = pose.turned(shape, np.clip((3.3 - head.rest[:, 1] - 0.6 * head.rest[:, 2]) / 1.1, 0, 1)[:, None])
    meshes = [(vertices, head.triangles[head.material != LASH])]
    if who.long_hair:
        hair, sheet = who.long_hair
        meshes.append((pose.turned(hair, np.clip((3.3 - hair[:, 1:2]) / 2.2, 0, 1)), sheet))
    things = []
    if spec.occlusion:
        made = occluders.make(spec.occlusion, stream(spec, "occlusion"), who, shape, marks, vertices[marks])
        things = [replace(t, vertices=pose.turned(t.vertices, 1.0)) if t.on_head else t for t in made]
        meshes += [(t.vertices, t.triangles) for t in things]
    moved = setting.camera.offset - pose.turned(scene.AIM, 1.0)
    meshes = [((v + moved).astype(np.float32), t.astype(np.int32)) for v, t in meshes]

    colours, parts, seen = _cast(meshes, things, who, units, setting, spec, meshes[0][0][marks])
    return RenderedFace(
        pixels=_developed(colours, setting, who.skin.mean(), stream(spec, "picture")),
        landmarks=setting.camera.project(meshes[0][0][marks], spec.size).astype(np.float32),
        visible=seen,
        parts=parts,
    )


def stream(spec: FaceSpec, purpose: str) -> np.random.Generator:
    """Return random numbers of their own for each purpose: another expression leaves light and background alone."""
    return np.random.default_rng([spec.seed, 1 + _PURPOSES.index(purpose)])


class _Pose:
    """How points of the head's frame are turned; shoulders follow the head a little."""

    def __init__(self, spec: FaceSpec):
        self._head = rotation(spec.pitch, spec.yaw, spec.roll)
        self._body = rotation(0.2 * spec.pitch, 0.3 * spec.yaw, 0.3 * spec.roll)

    def turned(self, points: np.ndarray, follows: np.ndarray | float) -> np.ndarray:
        about = points - scene.PIVOT
        return follows * (about @ self._head.T) + (1 - follows) * (about @ self._body.T) + scene.PIVOT


def _cast(
    meshes: Sequence[tuple[np.ndarray, np.ndarray]],
    things: Sequence[occluders.Thing],
    who: Person,
    units: dict[str, float],
    setting: scene.Scene,
    spec: FaceSpec,
    marks: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return linear RGB (size, size, 3), parts (size, size), and which of the landmarks `marks` (68, 3) are seen."""
    rays = cast(meshes)
    fine = max(_FINE, spec.size)
    ahead = setting.camera.rays(fine)
    hits = rays.nearest(np.zeros_like(ahead), ahead)
    hit = np.flatnonzero(hits.mesh >= 0)
    ahead = ahead[hit]
    mesh, triangle, far, weights = hits.mesh[hit], hits.triangle[hit], hits.far[hit], hits.weights[hit]

    first_thing = len(meshes) - len(things)
    normal, albedo = np.empty_like(ahead), np.empty_like(ahead)
    gloss = np.zeros(len(hit), np.float32)
    open_sky = np.ones(len(hit), np.float32)
    part = np.full(len(hit), PARTS.index("occluder"), np.uint8)
    for number in np.unique(mesh):
        here = np.flatnonzero(mesh == number)
        vertices, triangles = meshes[number]
        corners = triangles[triangle[here]]
        around = normals(vertices, triangles).astype(np.float32)
        if number == 0:
            head = load_head()
            sky = _openness(rays, vertices, around)
            columns = np.concatenate([around, head.rest, sky[:, None], mask_columns(head)], 1)
            values = _between(columns, corners, weights[here])
            material = head.material[head.material != LASH][triangle[here]]
            normal[here] = values[:, :3]
            open_sky[here] = np.where(material == TEETH, np.maximum(values[:, 6], 0.5), values[:, 6])
            surface = Surface(who, units, values[:, 3:6], values[:, 7:], material)
            albedo[here], gloss[here], part[here] = surface.albedo, surface.gloss, surface.part
            continue
        normal[here] = _between(around, corners, weights[here])
        if number < first_thing:
            part[here] = PARTS.index("hair")
            strand = noise((weights[here, 1] + corners[:, 0]) * 0.9, corners[:, 1] * 0.003, 0.3)
            albedo[here] = who.hair * (0.7 + 0.6 * strand[:, None])
            gloss[here] = 0.06
        else:
            albedo[here], gloss[here] = things[number - first_thing].colour, things[number - first_thing].gloss

    normal /= np.maximum(np.sqrt(np.einsum("nc,nc->n", normal, normal)), 1e-6)[:, None]
    # hair and things are thin sheets in part: their normals turn to the camera
    turned_away = (np.einsum("nc,nc->n", normal, ahead) > 0) & (mesh > 0)
    normal[turned_away] *= -1
    share = _lit_share(rays, ahead * far[:, None] + np.float32(0.012) * normal, normal, setting.light, hit, fine)

    colours = scene.background(stream(spec, "background"), fine).reshape(-1, 3)
    colours[hit] = lit(setting.light, albedo, gloss, normal, ahead, share, open_sky, np.isin(part, SKIN_PARTS))
    parts = np.zeros(fine * fine, np.uint8)
    parts[hit] = part

    distance = np.linalg.norm(marks, axis=1).astype(np.float32)
    reached = rays.nearest(np.zeros_like(marks), marks / distance[:, None]).far
    size = (spec.size, spec.size)
    return (
        cv2.resize(colours.reshape(fine, fine, 3), size, interpolation=cv2.INTER_AREA),
        cv2.resize(parts.reshape(fine, fine), size, interpolation=cv2.INTER_NEAREST_EXACT),
        reached > distance - 0.03,
    )


def _between(columns: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (N, C) values inside triangles, from those at their corners (V, C) and barycentric weights (N, 3)."""
    values = weights[:, :1] * columns[corners[:, 0]]
    values += weights[:, 1:2] * columns[corners[:, 1]]
    values += weights[:, 2:] * columns[corners[:, 2]]
    return values


def _openness(rays: Rays, vertices: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Return (V,) share of the sky that each vertex of the head sees; 1 for those turned away from the camera."""
    seen = np.flatnonzero(np.einsum("nc,nc->n", vertices, around) < 2.0)  # of about 15: a little beyond the outline
    ways = _sky_directions()[seen % 4096] + np.float32(1.02) * around[seen, None]
    ways /= np.sqrt(np.einsum("nkc,nkc->nk", ways, ways))[..., None]
    starts = np.repeat(vertices[seen] + np.float32(0.01) * around[seen], _SKY_RAYS, axis=0)
    blocked = rays.blocked(starts, ways.reshape(-1, 3), 1.6)
    sky = np.ones(len(vertices), np.float32)
    sky[seen] = 1 - blocked.reshape(-1, _SKY_RAYS).mean(1)
    return sky


@lru_cache(1)
def _sky_directions() -> np.ndarray:
    ways = np.random.default_rng(0).normal(size=(4096, _SKY_RAYS, 3)).astype(np.float32)
    return ways / np.linalg.norm(ways, axis=2, keepdims=True)


def _lit_share(
    rays: Rays, points: np.ndarray, normal: np.ndarray, light: scene.Light, hit: np.ndarray, fine: int
) -> np.ndarray:
    """Return (N,) share of the key light that reaches each point.

    Edges of shadows are softened over the image. Points turned away from the light take the share of their
    neighbourhood: what little light enters skin there comes from it.
    """
    key = light.key.astype(np.float32)
    facing = np.flatnonzero(normal @ key > 0)
    towards = np.broadcast_to(key, (len(facing), 3))
    free = ~rays.blocked(points[facing], np.ascontiguousarray(towards))
    known, unshadowed = np.zeros(fine * fine, np.float32), np.zeros(fine * fine, np.float32)
    known[hit[facing]], unshadowed[hit[facing]] = 1, free
    sigma = light.softness * fine / 160
    known, unshadowed = (
        cv2.GaussianBlur(p.reshape(fine, fine), (0, 0), sigma).ravel()[hit] for p in (known, unshadowed)
    )
    return unshadowed / np.maximum(known, 1e-3)


def _developed(linear: np.ndarray, setting: scene.Scene, skin: float, random: np.random.Generator) -> np.ndarray:
    """Apply exposure, lens blur, highlights that roll off, the sRGB curve (a power of 1/2.2) and sensor noise.

    The exposure is chosen for the light and in part for the skin, not measured: an expression must not change it.
    """
    size = len(linear)
    linear = linear * (setting.exposure / (0.8 * setting.light.strength * (0.5 * skin + 0.12)))
    if setting.blur:
        linear = cv2.GaussianBlur(linear, (0, 0), setting.blur * size / 160)
    linear = linear / (1 + 0.6 * np.maximum(linear - 0.6, 0))
    shown = np.clip(linear, 0, 1) ** (1 / 2.2) + random.normal(0, setting.noise, linear.shape)
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)
