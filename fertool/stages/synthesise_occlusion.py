"""build-subsets --synthesise: faces → the same faces with things drawn over them, and a subset for every degree.

The faces lie in a faces file of their own, so that a finished run is scored on them like on any other: `eval --data`.
"""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from fertool import artefact, console, executors, locks
from fertool.artefact import Artefact, Column
from fertool.errors import ArtefactError, DataError, RecipeError
from fertool.executors import Executor
from fertool.faces.status import HAS_IMAGE
from fertool.regions.points import landmarks_of, usable
from fertool.settings import CropRegions, Synthesise
from fertool.stages import crop_regions

UNCOVERED = "uncovered"  # the subset of the faces as they were
OFF = 0.03  # faces whose covered fraction is further than this from what was asked are counted

_DRAWER = 1  # raised whenever the same settings give other pictures
_MOST = 0.8  # severity up to which something is left to recognise
_CHUNK = 8  # faces a worker is given at once
_FEW = 48  # faces for which starting processes takes longer than drawing
_NAME_BYTES = 24


@locks.writes("out")
def run(
    faces: Path, *, settings: Synthesise, out: Path, executor: Executor | None = None, overwrite: bool = False
) -> Path:
    """Cover every labelled face of a split that has landmarks: each uncovered, then in each way and degree.

    What is drawn on a face depends on its id and the seed, not on the other faces. Faces that are known to be covered
    already (`occlusion` of the subsets beside them, or what rendered faces know of themselves) are left out. All rows
    belong to split test. Stopped at any moment, the same call resumes.

    Args:
        out: the faces file to write; subsets.h5 lies beside it, and regions.h5 where the faces have one.
        executor: where workers run; None: from the environment, else on this machine.

    Raises:
        RecipeError: severities that are no fractions.
        ArtefactError: faces without landmarks, or that are drawn on already; a file of other work at `out`.
        DataError: nothing to draw on.
    """
    for s in settings.severities:
        if not 0 < s <= _MOST:
            raise RecipeError(f"severity {s:g} is no fraction of a face between 0 and {_MOST:g}", "for example 0.3")
    source = artefact.read(faces, "faces")
    if "severity" in source:
        raise ArtefactError(f"the faces in {faces} have been drawn on already", "name those they were made from")
    landmarks = landmarks_of(source, "drawn occluders")
    subsets = _subsets(source)
    rows, left_out = _chosen(source, landmarks, subsets, settings)
    degrees = [(0.0, ""), *((s, kind) for kind in settings.types for s in settings.severities)]
    params = {**settings.as_dict(), "drawer": _DRAWER, "dataset": f"{source.params.get('dataset', 'faces')}-occluded"}
    parents = [source.as_parent(), *([subsets.as_parent()] if subsets else [])]
    if artefact.up_to_date(out, "faces", params, parents, overwrite=overwrite):
        console.say(f"{out} is up to date")
    else:
        source.verify()
        report_facts = {**left_out, "landmarks": landmarks.shape[1], "drawn_on": len(rows)}
        with artefact.begin(
            out,
            "faces",
            columns={
                "images": Column("u1", source["images"].shape[1:]),
                "covered": Column("f4"),
                "thing": Column(f"U{_NAME_BYTES}"),
            },
            known=_known(source, rows, degrees),
            params=params,
            inputs=parents,
            classes=source.classes,
            info={**artefact.make_info(settings.seed), "report": report_facts},
            overwrite=overwrite,
        ) as writer:
            _fill(writer, source, rows, degrees, settings, executor or executors.choose())
            writer.finish()
    made = artefact.read(out, "faces")
    _write_subsets(made, settings, overwrite)
    _write_regions(source, made, overwrite)
    return Path(out)


def summary(path: Path) -> dict:
    """Return facts: faces left out, and for each type and severity the covered fraction and the occluders."""
    made = artefact.read(path, "faces")
    kind, asked, reached, thing = (made[c] for c in ("true_occlusion", "severity", "covered", "thing"))
    degrees = []
    for name, members in _members(made).items():
        if name != UNCOVERED:
            short = np.abs(reached[members] - asked[members])
            names, counts = np.unique(thing[members].astype(str), return_counts=True)
            degrees.append(
                {
                    "subset": name,
                    "type": kind[members][0],
                    "severity": round(float(asked[members][0]), 4),
                    "faces": int(members.sum()),
                    "covered": float(reached[members].mean()),
                    "off": int((short > OFF).sum()),
                    "things": {str(n): int(c) for n, c in sorted(zip(names, counts, strict=True), key=lambda p: -p[1])},
                }
            )
    return {"path": str(path), "rows": made.rows, **made.info.get("report", {}), "degrees": degrees}


def report(summary: dict) -> None:
    """Print them."""
    console.say(f"{summary['path']}: {summary['rows']:,} pictures of {summary['drawn_on']:,} faces")
    reasons = {
        "unlabelled": "without a label",
        "without_landmarks": "without landmarks",
        "covered_already": "covered already",
        "beyond_limit": "beyond --limit",
    }
    if told := [f"{summary[k]:,} {words}" for k, words in reasons.items() if summary[k]]:
        console.say(f"left out: {', '.join(told)}")
    if summary["landmarks"] != 68:
        console.say(
            f"{summary['landmarks']} landmarks tell no outline: that of a frontal head was laid over them. Things sit "
            "less exactly on turned faces, and the covered fraction is of that outline (68 are better)"
        )
    columns = ("subset", "faces", "covered", f"off by > {100 * OFF:g} %", "drawn")
    rows = [
        (
            d["subset"],
            f"{d['faces']:,}",
            f"{100 * d['covered']:.1f} %",
            f"{d['off']:,}",
            ", ".join(f"{n} {thing}" for thing, n in list(d["things"].items())[:3]),
        )
        for d in summary["degrees"]
    ]
    console.show(console.table("Drawn over faces", columns, rows))
    name = Path(summary["path"]).parent.name
    console.say(f"score runs on them: fertool eval --data {name} --subset all; then fertool visualize robustness")


# --------------------------------------------------------------------------------------------------------- rows


def _subsets(source: Artefact) -> Artefact | None:
    """Return the subsets beside the faces, where they say who is occluded."""
    path = source.path.with_name("subsets.h5")
    if not path.is_file():
        return None
    found = artefact.read(path, "subsets")
    if "occlusion" not in found:
        return None
    found.require_parent(source)
    return found


def _chosen(
    source: Artefact, landmarks: np.ndarray, subsets: Artefact | None, settings: Synthesise
) -> tuple[np.ndarray, dict[str, int]]:
    """Return the rows to draw on, in the order of the faces, and how many were left out for which reason."""
    in_split = (source["split"] == settings.split) & np.isin(source["status"], HAS_IMAGE)
    if not in_split.any():
        there = ", ".join(sorted({s for s in source["split"] if s})) or "none"
        raise DataError(
            f"{source.path} has no faces with a picture in split {settings.split!r}", f"its splits are: {there}"
        )
    covered = np.asarray(subsets["occlusion"]) if subsets else np.zeros(source.rows, bool)
    if "true_occlusion" in source:
        covered = covered | (source["true_occlusion"] != "")
    left_out, kept = {}, in_split
    for reason, good in (
        ("unlabelled", np.asarray(source["label"]) >= 0),
        ("without_landmarks", usable(landmarks)),
        ("covered_already", ~covered),
    ):
        left_out[reason] = int((kept & ~good).sum())
        kept = kept & good
    rows = np.flatnonzero(kept)
    if settings.limit and settings.limit < len(rows):
        left_out["beyond_limit"] = len(rows) - settings.limit
        shuffled = sorted(rows, key=lambda row: _dice(settings.seed, str(source.ids[row])))
        rows = np.sort(shuffled[: settings.limit])
    if not len(rows):
        raise DataError(
            f"no face of split {settings.split!r} in {source.path} can be drawn on: "
            + ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in left_out.items() if n),
            "name another split: --set synthesise.split=train",
        )
    return rows, {"beyond_limit": 0, **left_out}


def _dice(seed: int, name: str) -> bytes:
    """Return an order of faces that depends on nothing but their names."""
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()


def _subset_name(kind: str, severity: float) -> str:
    return f"{kind}-{severity:g}" if kind else UNCOVERED


def _known(source: Artefact, rows: np.ndarray, degrees: list[tuple[float, str]]) -> dict[str, np.ndarray]:
    """Return everything but the pixels: the columns of the faces, repeated for each degree."""
    n = len(degrees)
    ids = [f"{source.ids[row]}@{_subset_name(kind, s)}" for row in rows for s, kind in degrees]
    known = {"id": np.array(ids, object), "source_id": np.repeat(source.ids[rows], n)}
    known["source_row"] = np.repeat(rows, n).astype("i4")
    known["true_occlusion"] = np.tile(np.array([kind for _, kind in degrees], object), len(rows))
    known["severity"] = np.tile(np.array([s for s, _ in degrees], "f4"), len(rows))
    known["split"] = np.full(len(ids), "test", object)
    for name in source.columns:
        if name not in (*known, "images", "status", *artefact.UNHASHED):
            known[name] = np.repeat(np.asarray(source[name])[rows], n, axis=0)
    return known


# ------------------------------------------------------------------------------------------------------- drawing


def _fill(
    writer: artefact.Writer,
    source: Artefact,
    rows: np.ndarray,
    degrees: list[tuple[float, str]],
    settings: Synthesise,
    executor: Executor,
) -> None:
    """Draw what is not drawn yet, face by face."""
    n = len(degrees)
    faces = np.unique(writer.pending // n)
    workers = min(executor.cores(), -(-len(faces) // _CHUNK)) if len(faces) > _FEW else 0
    items = ((int(i), int(rows[i])) for i in faces)
    drawn: Generator[tuple[Any, Any], None, None]
    if workers:
        work = (source, degrees, settings.seed)
        drawn = executor.process(make, work, items, workers=workers, chunk=_CHUNK, paths=[source.path])
    else:
        draw = make(source, degrees, settings.seed)
        drawn = (answer for item in items for answer in [(item, next(draw([item])))])
    status = source["status"]
    with console.progress("draw", len(faces), "face") as advance, closing(drawn):
        for (i, row), pictures in drawn:
            for j, (image, covered, thing) in enumerate(pictures):
                if writer.status[i * n + j] == artefact.PENDING:
                    values = {"images": image, "covered": covered, "thing": thing}
                    writer.write(i * n + j, int(status[row]), **values)
            advance()


def make(
    source: Artefact, degrees: list[tuple[float, str]], seed: int
) -> Callable[[Iterable[tuple[int, int]]], Iterator[list[tuple[np.ndarray, float, str]]]]:
    """Yield what a process of its own does: (place, row) -> image, covered fraction and thing for every degree."""
    import cv2

    from fertool.occlusion.draw import cover

    cv2.setNumThreads(1)
    images, landmarks, enlarged = source["images"], source["landmarks"], enlargement(source)

    def work(items: Iterable[tuple[int, int]]) -> Iterator[list[tuple[np.ndarray, float, str]]]:
        for _, row in items:
            image = np.asarray(images[row])
            pictures = []
            for kind in dict.fromkeys(kind for _, kind in degrees):
                severities = [s for s, k in degrees if k == kind]
                if not kind:
                    pictures.append((image, 0.0, ""))
                    continue
                key, blur = f"{seed}/{source.ids[row]}", blur_of(enlarged[row])
                for one in cover(image, landmarks[row], kind, severities, key=key, blur=blur):
                    pictures.append((one.image, one.covered, one.thing))
            yield pictures

    return work


def enlargement(faces: Artefact) -> np.ndarray:
    """Return (N,) how many pixels of a face one pixel of its image became; 1 where that is not known."""
    if "transform" not in faces:
        return np.ones(faces.rows)
    scale = np.sqrt(np.abs(np.linalg.det(np.asarray(faces["transform"])[:, :, :2])))
    return np.where(np.isfinite(scale), scale, 1.0)


def blur_of(enlarged: float) -> float:
    """Return how blurred a face is that has been enlarged so much, as a sigma in its pixels."""
    return 0.45 * float(min(enlarged, 8)) if enlarged > 1 else 0.0


# -------------------------------------------------------------------------------------------------------- beside


def _members(made: Artefact) -> dict[str, np.ndarray]:
    """Return subset -> its rows, in the order in which they were drawn."""
    kind, severity = made["true_occlusion"], np.asarray(made["severity"]).astype(float).round(4)
    wanted = [("", 0.0), *((k, round(s, 4)) for k in made.params["types"] for s in made.params["severities"])]
    return {_subset_name(k, s): (kind == k) & (severity == s) for k, s in wanted}


def _write_subsets(made: Artefact, settings: Synthesise, overwrite: bool) -> None:
    out, params = made.path.with_name("subsets.h5"), {"synthesised": settings.as_dict()}
    if artefact.up_to_date(out, "subsets", params, [made.as_parent()], overwrite=overwrite):
        return
    columns = {"id": made.ids, "occlusion_type": made["true_occlusion"], "severity": np.asarray(made["covered"])}
    artefact.save(
        out, "subsets", {**columns, **_members(made)}, params=params, inputs=[made.as_parent()], classes=made.classes
    )


def _write_regions(source: Artefact, made: Artefact, overwrite: bool) -> None:
    """Write regions as those of the original faces, for networks with regions."""
    theirs = source.path.with_name("regions.h5")
    if theirs.is_file():
        params = artefact.read(theirs, "regions").params
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in params.items() if k != "regions"}
        settings = CropRegions(**{**given, "materialize": False})
        crop_regions.run(made.path, settings=settings, out=made.path.with_name("regions.h5"), overwrite=overwrite)
