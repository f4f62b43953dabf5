"""One rendered face: from its description to pixels, and the truth about them.

Rays through every pixel meet the head, its hair and whatever covers it (Intel Embree, through the package embreex);
one more ray per hit towards the light casts shadows, and a few per vertex darken hollows.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from fertool.errors import UsageError, nearest
from fertool.faces.head_points import VERTICES, rotation
from fertool.rendering import occluders, scene
from fertool.rendering.expressions import EXPRESSIONS, mix
from fertool.rendering.head import EYE, LASH, SKIN, TEETH, TONGUE, load_head
from fertool.rendering.paint import paint, sample
from fertool.rendering.people import above_hairline, normals, person

#: what `RenderedFace.parts` numbers
PARTS = ("background", "body", "face", "brows", "eyes", "nose", "mouth", "hair", "occluder")


@dataclass(frozen=True)
class FaceSpec:
    """All that decides a rendered face.

    Attributes:
        subject: number of the person.
        expression: one of `EXPRESSIONS`. intensity: 0 to 1.
        pitch, yaw, roll: head pose in degrees; see `fertool.faces.head_points.rotation`.
        occlusion: "" or one of `occluders.OCCLUSIONS`.
        seed: light, background, camera, gaze, asymmetry, the things that cover the face, blur and noise.
        size: side of the picture in pixels.
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

    def __post_init__(self):
        for value, known in ((self.expression, EXPRESSIONS), (self.occlusion, ("", *occluders.OCCLUSIONS))):
            if value not in known:
                raise UsageError(f"{value!r} cannot be rendered", nearest(value, known))


@dataclass(frozen=True)
class RenderedFace:
    """A picture and the truth about it.

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
    units = mix(spec.expression, spec.intensity, np.random.default_rng([spec.seed, 1]))
    setting = scene.draw(np.random.default_rng([spec.seed, 2]))
    random = np.random.default_rng([spec.seed, 3])

    shape = who.neutral + sum(strength * head.units[name] for name, strength in units.items())
    turn = rotation(spec.pitch, spec.yaw, spec.roll)
    lean = rotation(0.2 * spec.pitch, 0.3 * spec.yaw, 0.3 * spec.roll)
    follows = np.clip((3.3 - head.rest[:, 1] - 0.6 * head.rest[:, 2]) / 1.1, 0, 1)[:, None]

    def posed(points: np.ndarray, weight: np.ndarray | float) -> np.ndarray:
        about = points - scene.PIVOT
        return weight * (about @ turn.T) + (1 - weight) * (about @ lean.T) + scene.PIVOT

    vertices = posed(shape, follows)
    marks = head.vertex(np.array(VERTICES))
    parts = [(vertices, head.triangles[head.material != LASH])]
    if who.long_hair:
        hair, strips = who.long_hair
        hangs = np.clip((3.3 - hair[:, 1:2]) / 2.2, 0, 1)
        parts.append((posed(hair, hangs), strips))
    things = []
    if spec.occlusion:
        made = occluders.make(spec.occlusion, np.random.default_rng([spec.seed, 4]), who, shape[marks], vertices[marks])
        for thing in made:
            points = posed(thing.vertices, 1.0) if thing.on_head else thing.vertices
            things.append(replace(thing, vertices=points))
            parts.append((points, thing.triangles))
    parts = [((v + setting.camera.offset).astype(np.float32), t.astype(np.int32)) for v, t in parts]

    picture = _Picture(spec, head, who, units, setting, parts, things, random)
    return picture.render(parts[0][0][marks])


class _Picture:
    """The meshes of one picture in camera space, and how they are turned into pixels."""

    def __init__(self, spec, head, who, units, setting, meshes, things, random):
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.spec, self.head, self.who, self.units = spec, head, who, units
        self.setting, self.meshes, self.things, self.random = setting, meshes, things, random
        self.rays = EmbreeScene()
        for vertices, triangles in meshes:
            TriangleMesh(self.rays, vertices[triangles])
        self.first_thing = len(meshes) - len(things)

    def render(self, marks: np.ndarray) -> RenderedFace:
        size = self.spec.size
        over = max(1, round(320 / size))  # rays per pixel and side
        fine = size * over
        ahead = self.setting.camera.rays(fine)
        hits = self.rays.run(np.zeros_like(ahead), ahead, output=True)
        hit = np.flatnonzero(hits["primID"] >= 0)
        colours = scene.background(self.random, fine).reshape(-1, 3)
        what = np.zeros(fine * fine, np.uint8)
        shaded, what[hit] = self._shade(
            ahead[hit], hits["tfar"][hit], hits["geomID"][hit], hits["primID"][hit], hits["u"][hit], hits["v"][hit]
        )
        colours[hit] = shaded
        linear = colours.reshape(size, over, size, over, 3).mean((1, 3))
        parts = what.reshape(size, over, size, over)[:, over // 2, :, over // 2]
        return RenderedFace(
            pixels=self._develop(linear),
            landmarks=self.setting.camera.project(marks, size).astype(np.float32),
            visible=self._seen(marks),
            parts=np.ascontiguousarray(parts),
        )

    def _seen(self, points: np.ndarray) -> np.ndarray:
        far = np.linalg.norm(points, axis=1).astype(np.float32)
        reached = self.rays.run(np.zeros_like(points), points / far[:, None], output=True)["tfar"]
        return reached > far - 0.03

    def _develop(self, linear: np.ndarray) -> np.ndarray:
        """Exposure, lens blur, sensor noise and the sRGB curve (a power of 1/2.2)."""
        size = len(linear)
        centre = linear[size // 5 : -size // 5, size // 5 : -size // 5].mean()
        linear = linear * (self.setting.exposure / max(centre, 1e-3)) ** 0.75
        if self.setting.blur:
            linear = cv2.GaussianBlur(linear, (0, 0), self.setting.blur * size / 160)
        linear = linear / (1 + 0.25 * np.maximum(linear - 0.6, 0) / 0.4)  # highlights roll off
        shown = np.clip(linear, 0, 1) ** (1 / 2.2) + self.random.normal(0, self.setting.noise, linear.shape)
        return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)

    def _shade(self, ahead, far, mesh, triangle, u, v):
        """Linear RGB (N, 3) and part (N,) of the points that rays met."""
        normal = np.empty_like(ahead)
        albedo = np.empty_like(ahead)
        gloss = np.zeros(len(ahead), np.float32)
        open_sky = np.ones(len(ahead), np.float32)
        part = np.full(len(ahead), PARTS.index("occluder"), np.uint8)
        for number, (vertices, triangles) in enumerate(self.meshes):
            here = np.flatnonzero(mesh == number)
            if not len(here):
                continue
            weights = np.stack([1 - u[here] - v[here], u[here], v[here]], -1).astype(np.float32)
            corners = triangles[triangle[here]]
            if number == 0:
                normal[here], albedo[here], gloss[here], open_sky[here], part[here] = self._head_points(
                    vertices, corners, weights, triangle[here]
                )
            else:
                around = normals(vertices, triangles).astype(np.float32)
                normal[here] = np.einsum("nk,nkc->nc", weights, around[corners])
                if number < self.first_thing:
                    part[here] = PARTS.index("hair")
                    strand = 0.75 + 0.5 * _noise(corners[:, 0] * 7.3 + u[here] * 3, corners[:, 1] * 0.01, 0.3)
                    albedo[here] = self.who.hair * strand[:, None]
                    gloss[here] = 0.25
                else:
                    thing = self.things[number - self.first_thing]
                    albedo[here], gloss[here] = thing.colour, thing.gloss
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        facing = np.sign(-np.einsum("nc,nc->n", normal, ahead))[:, None]
        skin_like = np.isin(part, [PARTS.index(p) for p in ("body", "face", "nose", "mouth", "brows")])
        normal = np.where(skin_like[:, None], normal, normal * facing)
        return self._lit(ahead, far, normal, albedo, gloss, open_sky, skin_like), part

    def _lit(self, ahead, far, normal, albedo, gloss, open_sky, skin_like):
        light = self.setting.light
        at = ahead * (far[:, None] * np.float32(0.9998)) + normal * np.float32(0.004)
        towards = light.key + self.random.normal(0, light.softness, ahead.shape)
        towards = (towards / np.linalg.norm(towards, axis=1, keepdims=True)).astype(np.float32)
        free = (self.rays.run(at.astype(np.float32), towards, query="OCCLUDED") < 0).astype(np.float32)

        toward_key = normal @ light.key.astype(np.float32)
        # light that enters skin comes out beyond the terminator, red most
        wrap = np.where(skin_like[:, None], np.array([0.30, 0.14, 0.08], np.float32), np.float32(0.05))
        diffuse = np.clip((toward_key[:, None] + wrap) / (1 + wrap), 0, None)
        shadow = np.where(toward_key > 0, free, 1.0)[:, None]
        total = diffuse * shadow * light.key_colour
        total += np.clip(normal @ light.fill, 0, None)[:, None] * light.fill_colour * open_sky[:, None]
        up = (0.5 - 0.5 * normal[:, 1:2]).astype(np.float32)
        total += (light.ground + up * (light.sky - light.ground)) * open_sky[:, None]
        halfway = light.key - ahead
        halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
        shine = np.clip(np.einsum("nc,nc->n", normal, halfway), 0, 1)
        power = np.where(gloss > 0.5, 120, 22)
        edge = (1 - np.clip(-np.einsum("nc,nc->n", normal, ahead), 0, 1)) ** 4
        highlight = gloss * (shine**power * free + 0.25 * edge * open_sky)
        return (albedo * total * np.float32(0.8) + highlight[:, None] * light.key_colour).astype(np.float32)

    def _head_points(self, vertices, corners, weights, triangle):
        """Normal, reflectance, gloss, openness to the sky and part of points on the head's own mesh."""
        head, who = self.head, self.who
        around = normals(vertices, head.triangles).astype(np.float32)
        openness = self._openness(vertices, around)
        masks = head.masks
        columns = [around, head.rest, openness[:, None]]
        columns += [masks[n][:, None] for n in ("lips", "eyelids", "inside-mouth", "lashes")]
        values = np.einsum("nk,nkc->nc", weights, np.concatenate(columns, 1).astype(np.float32)[corners])
        normal, rest, open_sky = values[:, :3], values[:, 3:6], values[:, 6]
        lips, lids, inside, lashes = values[:, 7:].T
        x, y, z = rest.T
        material = head.material[head.material != LASH][triangle]

        albedo = sample(paint(who.seed, self.units), x, y)
        gloss = np.full(len(x), 0.10, np.float32)
        part = np.full(len(x), PARTS.index("face"), np.uint8)

        def cover(amount: np.ndarray, colour: np.ndarray) -> None:
            albedo[:] += amount[:, None] * (np.asarray(colour, np.float32) - albedo)

        lip = np.clip((lips - 0.35) / 0.3, 0, 1)
        cover(lip * 0.85, who.lips * (0.9 + 0.2 * _noise(x * 6, y * 1.5, 0.0))[:, None])
        gloss += 0.12 * lip
        cover(np.clip(lashes * 1.3 - 0.2, 0, 0.85), who.hair * 0.25)
        albedo *= (1 - 0.12 * lids)[:, None]
        cover(np.clip(inside * 1.5 - 0.3, 0, 1), np.array([0.12, 0.025, 0.025]))

        skin = material == SKIN
        nose = (np.abs(x) < 0.12 + 0.28 * np.clip(y, 0, 0.8)) & (y > -0.1) & (y < 0.82) & (z < -0.3)
        mouth = (lips > 0.4) | (inside > 0.5) | np.isin(material, (TEETH, TONGUE))
        brow_line = np.interp(np.abs(x), [0.17, 0.26, 0.42, 0.67, 0.87], [-0.2, -0.28, -0.3, -0.264, -0.208])
        brows = skin & (np.abs(y - brow_line) < 0.08) & (np.abs(x) > 0.12) & (np.abs(x) < 0.92) & (z < 0.1)
        part[nose], part[brows], part[mouth & (z < 0.3)] = (PARTS.index(p) for p in ("nose", "brows", "mouth"))
        part[y + 0.6 * z > 2.2] = PARTS.index("body")
        part[(np.abs(x) > 1.1) & (z > 0.95) | (z > 1.2)] = PARTS.index("body")

        if who.hairline is not None:
            strand = _noise(x * 2.5 + z * 2.5, y * 0.35, 0.5)
            ears = (np.abs(x) > 1.08) & (y > -0.15) & (z > 0.9) & (z < 1.6)
            amount = np.clip((above_hairline(rest, who.hairline) + 0.12 * (strand - 0.5)) / 0.1, 0, 1)
            amount *= skin & ~ears & (y < 1.3)
            cover(amount, who.hair * (0.65 + 0.7 * strand)[:, None])
            gloss += 0.12 * amount
            part[amount > 0.5] = PARTS.index("hair")
        cloth = np.clip((y + 0.25 * z - 2.75 - 0.12 * np.abs(x)) / 0.03, 0, 1)
        cover(cloth * skin, who.cloth)
        gloss *= 1 - cloth * skin
        part[(cloth > 0.5) & skin] = PARTS.index("body")

        albedo[material == TEETH] = (0.62, 0.58, 0.48)
        albedo[material == TONGUE] = (0.35, 0.10, 0.09)
        gloss[material == TEETH] = 0.3
        eye = material == EYE
        albedo[eye] = self._eyes(rest[eye])
        gloss[eye] = 0.9
        part[eye] = PARTS.index("eyes")
        return normal, albedo, gloss, open_sky, part

    def _eyes(self, rest: np.ndarray) -> np.ndarray:
        """Pupil, iris and white by the angle from the eyeball's axis."""
        outward = rest - np.where(rest[:, :1] > 0, 0.5, -0.5) * np.array([1, 0, 0], np.float32)
        angle = np.degrees(np.arccos(np.clip(-outward[:, 2] / np.linalg.norm(outward, axis=1), -1, 1)))
        iris, pupil, rim = 26.0, 10.5, 3.0
        white = np.array([0.62, 0.57, 0.54], np.float32)
        spokes = 0.75 + 0.5 * _noise(np.arctan2(outward[:, 1], outward[:, 0]) * 3, angle * 0.05, 0.0)
        colour = np.where((angle < iris)[:, None], self.who.iris * spokes[:, None], white)
        dark = np.clip(1 - np.abs(angle - iris) / rim, 0, 1) * 0.75
        dark = np.maximum(dark, np.clip((pupil + 1 - angle) / 2, 0, 1))
        return colour * (1 - dark[:, None]) + 0.004

    def _openness(self, vertices: np.ndarray, around: np.ndarray) -> np.ndarray:
        """(V,) share of the sky that each vertex of the head sees."""
        count = 12
        fixed = np.random.default_rng(0)
        sphere = fixed.normal(size=(len(vertices), count, 3))
        sphere /= np.linalg.norm(sphere, axis=2, keepdims=True)
        ways = sphere + 1.02 * around[:, None]
        ways = (ways / np.linalg.norm(ways, axis=2, keepdims=True)).astype(np.float32).reshape(-1, 3)
        starts = np.repeat(vertices + 0.01 * around, count, axis=0).astype(np.float32)
        reach = np.full(len(starts), 1.6, np.float32)
        blocked = self.rays.run(starts, ways, reach, query="OCCLUDED") >= 0
        return (1 - blocked.reshape(-1, count).mean(1)).astype(np.float32)


def _noise(x: np.ndarray, y: np.ndarray, smooth: float) -> np.ndarray:
    """Fixed noise 0..1 over the plane, 64 cells per unit; `smooth` 0..1 prefers its coarse form."""
    size = 256
    fine, coarse = _noise_tables()
    at = (y * 64).astype(np.int64) % size, (x * 64).astype(np.int64) % size
    return (1 - smooth) * fine[at] + smooth * coarse[at]


_tables: list[np.ndarray] = []


def _noise_tables() -> list[np.ndarray]:
    if not _tables:
        white = np.random.default_rng(5).random((256, 256)).astype(np.float32)
        for sigma in (1.0, 4.0):
            soft = cv2.GaussianBlur(np.tile(white, (3, 3)), (0, 0), sigma)[256:512, 256:512]
            _tables.append(np.clip(0.5 + (soft - soft.mean()) / (4 * soft.std()), 0, 1))
    return _tables
