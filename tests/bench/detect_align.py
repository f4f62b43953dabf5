"""How fast, how large and how right detect-align is.

    python tests/bench/detect_align.py speed PHOTOS [--detectors mtcnn dlib-hog] [--rounds 3] [--sizes 200 1000]
    python tests/bench/detect_align.py detectors PHOTOS [--limit 20] [--size 640 480 | --as-they-are] [--upsample 0]
    python tests/bench/detect_align.py pose RENDERED

`speed` runs the whole stage (detection, landmarks, pose, alignment, writing) against a loop in one process that does
the same work by the libraries' own APIs, one image after the other: it reads them, asks the detector for boxes,
dlib for 68 points, the pose networks for one head, and OpenCV for the aligned face. Both run in turn, each in a fresh
process and with its start counted, and the boxes are compared. Two sizes of the same work tell the start from the
rate after it; the smaller one should keep all workers busy (16 images each). Images that detectors are
shown enlarged or shrunk (see `detectors.base.view`) are so for both. Memory is what all processes of the stage hold
together, shared pages counted once. Where other work shares the machine, the CPU's rows tell more than the clock's.
`detectors` shows every image to dlib's own run of its CNN, to `dlib-cnn` and to MTCNN in turn, on one thread (and to
the latter two on a GPU, where there is one), and tells how far the first two agree.
`pose` compares head pose with the renderer's truth: from the true landmarks, and from the ones found.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fertool import artefact, console
from fertool.datasets import open_dataset
from fertool.detectors import Options, make
from fertool.detectors.base import Faces, doublings, from_rectangles, view
from fertool.detectors.dlib_hog import DlibHog
from fertool.detectors.mtcnn import Mtcnn
from fertool.faces import align, pose
from fertool.faces.images import read_image
from fertool.faces.status import OK, SEVERAL
from fertool.pretrained import dlib_dat
from fertool.settings import DetectAlign
from fertool.stages import detect_align


def loop(name: str, photos: str, limit: int, target: str) -> None:
    """The plain way: one process, one image after the other, the libraries' own APIs."""
    import cv2
    import dlib
    import torch

    from fertool.faces import pose_net

    dataset = open_dataset(photos)
    samples = dataset.samples()
    rows = np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int)
    torch.set_num_threads(1)  # as every process of the stage
    cv2.setNumThreads(1)
    predict = dlib.shape_predictor(str(dlib_dat.model_file("shape_predictor_68_face_landmarks.dat")))
    if name == "mtcnn":
        from facenet_pytorch import MTCNN

        net = MTCNN(keep_all=True)
        smallest = Mtcnn.smallest
    else:
        net = dlib.get_frontal_face_detector()
        smallest = DlibHog.smallest
    found = []
    for row in rows:
        image = read_image(samples[int(row)].path)
        shown = view(image if image.ndim == 3 else np.repeat(image[..., None], 3, 2), smallest)
        if name == "mtcnn":
            boxes, _ = net.detect(shown.pixels)
            boxes = np.empty((0, 4)) if boxes is None else boxes
        else:
            rectangles, _, _ = net.run(shown.pixels, 0 if shown.enlarged else 1, 0.0)
            corners = [(r.left() - 0.5, r.top() - 0.5, r.right() + 0.5, r.bottom() + 0.5) for r in rectangles]
            boxes = np.array(corners).reshape(-1, 4)
        boxes = shown.back(np.asarray(boxes, float).reshape(-1, 2, 2)).reshape(-1, 4)
        largest = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argmax() if len(boxes) else None
        if largest is None:
            found.append(np.full(4, np.nan))
            continue
        found.append(box := boxes[largest])
        colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
        marks = predict(colour, dlib.rectangle(*box.round().astype(int).tolist()))
        points = np.array([(p.x, p.y) for p in marks.parts()], dtype=float)
        pose_net.estimate([colour], [box], name)
        matrix = align.align(points, "eyes-mouth", 224, "similarity")
        if matrix is not None:
            cv2.warpAffine(colour, matrix, (224, 224), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    np.save(target, np.array(found))


def stage(name: str, photos: str, limit: int, target: str) -> None:
    settings = DetectAlign(detector=name)
    detect_align.run(open_dataset(photos), settings=settings, out=Path(target), limit=limit, overwrite=True)


@dataclass(frozen=True)
class Cost:
    """What a process and its children took: seconds on the clock and on all cores, and the most MB at once."""

    seconds: float
    cpu: float
    peak: float


def measure(what: str, *arguments: str) -> Cost:
    """Run one way in a fresh process."""
    before, began = _cpu(), time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, what, *arguments])
    peak = [0.0]

    def watch():
        while process.poll() is None:
            peak[0] = max(peak[0], sum(map(_held, _family(process.pid))))
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit(f"{what} {' '.join(arguments)} failed")
    seconds = time.monotonic() - began
    watcher.join()
    return Cost(seconds, _cpu() - before, peak[0])


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(p for child in children for p in _family(int(child)))]


def _held(pid: int) -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0.0)


def speed(photos: str, detectors: list[str], rounds: int, sizes: tuple[int, int]) -> None:
    there = len(open_dataset(photos).samples())
    few, many = sizes
    if not few < many <= there:
        raise SystemExit(f"{photos} has {there:,} images: --sizes must be two numbers up to that, smaller first")
    rows = []
    for name in detectors:
        costs: dict[tuple[str, int], list[Cost]] = {(way, n): [] for way in ("loop", "stage") for n in sizes}
        with tempfile.TemporaryDirectory() as folder:
            targets = {"loop": f"{folder}/boxes.npy", "stage": f"{folder}/faces.h5"}
            for _ in range(rounds):
                for n in sizes:
                    for way, target in targets.items():
                        costs[way, n].append(measure(way, name, photos, str(n), target))
            expected, boxes = np.load(targets["loop"]), np.array(artefact.read(targets["stage"])["bbox"])
        other = int((np.isnan(expected) != np.isnan(boxes)).any(axis=1).sum())
        apart = np.nanmax(np.abs(expected - boxes)[np.isfinite(expected + boxes).all(axis=1)], axis=1)
        far = int((apart > 0.5).sum())
        assert other + far < 0.01 * many, f"{other} faces found by one of both only, {far} boxes differ"
        console.say(
            f"{name}: {np.isfinite(boxes[:, 0]).sum()} faces in {many}; {other} found by one of both only, {far} boxes "
            f"more than 0.5 px apart, median {np.median(apart):.2g}"
        )
        rows += [(name, *row) for row in _compare(costs, few, many)]
    console.show(
        console.table(
            f"detect-align against a loop in one process, {photos}, medians of {rounds} rounds",
            ("detector", "measured", "loop", "stage", "times"),
            rows,
        )
    )


def _compare(costs: dict[tuple[str, int], list[Cost]], few: int, many: int) -> list[tuple]:
    """Rows of what is measured, the loop's, the stage's, and how many times better the stage is."""

    def typical(way: str, n: int, what: str) -> float:
        return statistics.median(getattr(cost, what) for cost in costs[way, n])

    def each(way: str, what: str) -> float:
        return (typical(way, many, what) - typical(way, few, what)) / (many - few)

    def both(name: str, of: Callable[[str], float], *, more_is_better: bool = False) -> tuple:
        loop, ours = of("loop"), of("stage")
        return name, loop, ours, ours / loop if more_is_better else loop / ours

    return [
        *(both(f"seconds for {n:,}", lambda way, n=n: typical(way, n, "seconds")) for n in (few, many)),
        both("seconds to start", lambda way: typical(way, few, "seconds") - few * each(way, "seconds")),
        both("then images per second", lambda way: 1 / each(way, "seconds"), more_is_better=True),
        both("CPU seconds to start", lambda way: typical(way, few, "cpu") - few * each(way, "cpu")),
        both("then CPU ms per image", lambda way: 1000 * each(way, "cpu")),
        both("most MB held", lambda way: typical(way, many, "peak")),
    ]


def detectors(photos: str, limit: int, size: tuple[int, int] | None, upsample: int) -> None:
    import dlib
    import torch

    from fertool.detectors import dlib_cnn

    torch.set_num_threads(1)
    own = dlib.cnn_face_detection_model_v1(str(dlib_dat.model_file(dlib_cnn.FILE)))

    def dlibs_own(image: np.ndarray) -> Faces:
        shown = view(image, dlib_cnn.DlibCnn.smallest)
        found = own(np.ascontiguousarray(shown.pixels), doublings(shown, upsample))
        rectangles = [(f.rect.left(), f.rect.top(), f.rect.right(), f.rect.bottom()) for f in found]
        return from_rectangles(shown, rectangles, [f.confidence for f in found])

    ways: dict[str, Callable[[np.ndarray], Faces]] = {"dlib's own": dlibs_own}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for name in ("dlib-cnn", "mtcnn"):
            net = make(name, Options(upsample=upsample, device=device))
            ways[name if device == "cpu" else f"{name}, GPU"] = lambda image, net=net: next(iter(net.detect([image])))
    samples = open_dataset(photos).samples()
    images, answers = 0, {name: [] for name in ways}
    costs = {name: [0.0, 0.0] for name in ways}
    for row in np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int):
        image = read_image(samples[int(row)].path)
        image = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
        image = image if size is None else _letterbox(image, *size)
        images += 1
        for name, find in ways.items():
            began, clock = time.process_time(), time.monotonic()
            answers[name].append(find(image))
            if images > 1:  # the first one sets things up
                costs[name][0] += time.process_time() - began
                costs[name][1] += time.monotonic() - clock
    _agreement(answers["dlib's own"], answers["dlib-cnn"])
    rows = []
    for name, (cpu, seconds) in costs.items():
        found = sum(len(f) > 0 for f in answers[name])
        each, clock = 1000 * cpu / (images - 1), 1000 * seconds / (images - 1)
        rows.append((name, found, each, clock, costs["dlib's own"][0] / cpu))
    shown = "as they are" if size is None else f"{size[0]}×{size[1]}"
    console.show(
        console.table(
            f"{images} images of {photos}, {shown}, upsample {upsample}, one thread",
            ("detector", "images with a face", "CPU ms an image", "ms an image", "CPU: times as fast as dlib's own"),
            rows,
        )
    )


def _letterbox(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image scaled into a size, with its edges repeated beside it."""
    import cv2

    scale = min(width / image.shape[1], height / image.shape[0])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    image = image[:height, :width]
    down, right = height - image.shape[0], width - image.shape[1]
    return cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE)


def _agreement(expected: list[Faces], found: list[Faces]) -> None:
    """Say how many faces of dlib's own run were found again, and how far boxes and scores are apart."""
    pixels, scores = [], []
    for theirs, ours in zip(expected, found, strict=True):
        for box, score in zip(theirs.boxes, theirs.scores, strict=True):
            apart = np.abs(ours.boxes - box).max(axis=1, initial=0)
            pixels.append(apart.min(initial=np.inf))
            scores.append(abs(ours.scores[apart.argmin()] - score) if len(ours) else np.inf)
    counts = sum(len(a) == len(b) for a, b in zip(expected, found, strict=True))
    near, alike = sum(p <= 1 for p in pixels), sum(s <= 1e-3 for s in scores)
    console.say(
        f"dlib-cnn finds as many faces as dlib's own run in {counts} of {len(found)} images; of {len(pixels)} faces "
        f"{near} boxes lie within 1 pixel (furthest {max(pixels, default=0):.3g}) and {alike} scores within 0.001 "
        f"(furthest {max(scores, default=0):.2g})"
    )


def pose_table(folder: str) -> None:
    data = open_dataset(folder, "rendered")
    samples = data.samples()
    truth = np.array([[s.extra[f"true_{a}"] for a in ("pitch", "yaw", "roll")] for s in samples])
    marked = np.array([pose.estimate(s.landmarks)[0] for s in samples])
    tables = {"true landmarks": marked}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("mtcnn", "dlib-hog"):
            made = detect_align.run(
                data, settings=DetectAlign(detector=name, size=64), out=Path(scratch) / "faces.h5", overwrite=True
            )
            faces = artefact.read(made)
            found = np.isin(faces["status"], (OK, SEVERAL))
            tables[f"found: {name}, ert68"] = np.where(found[:, None], faces["pose"], np.nan)
    rows = []
    for name, angles in tables.items():
        for low, high in ((0, 15), (15, 30), (30, 45), (45, 90)):
            inside = (np.abs(truth[:, 1]) >= low) & (np.abs(truth[:, 1]) < high)
            apart = np.abs(angles - truth)[inside]
            known = np.isfinite(apart[:, 0])
            means = np.nanmean(apart, axis=0) if known.any() else np.full(3, np.nan)
            rows.append((name, f"{low}-{high}°", int(inside.sum()), int((~known).sum()), *map(float, means)))
    columns = ("landmarks", "|yaw|", "faces", "missed", "pitch °", "yaw °", "roll °")
    console.show(console.table("mean absolute error of head pose on rendered faces", columns, rows))


if __name__ == "__main__":
    if sys.argv[1:2] in (["loop"], ["stage"]):
        name, photos, limit, target = sys.argv[2:]
        {"loop": loop, "stage": stage}[sys.argv[1]](name, photos, int(limit), target)
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed")
    fast.add_argument("photos")
    fast.add_argument("--detectors", nargs="+", default=["mtcnn", "dlib-hog"])
    fast.add_argument("--rounds", type=int, default=3)
    fast.add_argument("--sizes", type=int, nargs=2, default=[200, 1000], metavar=("FEW", "MANY"))
    beside = commands.add_parser("detectors")
    beside.add_argument("photos")
    beside.add_argument("--limit", type=int, default=20)
    beside.add_argument("--size", type=int, nargs=2, default=[640, 480], metavar=("WIDTH", "HEIGHT"))
    beside.add_argument("--as-they-are", action="store_true")
    beside.add_argument("--upsample", type=int, default=0)
    turned = commands.add_parser("pose")
    turned.add_argument("rendered")
    given = parser.parse_args()
    if given.command == "speed":
        speed(given.photos, given.detectors, given.rounds, given.sizes)
    elif given.command == "detectors":
        size = None if given.as_they_are else tuple(given.size)
        detectors(given.photos, given.limit, size, given.upsample)
    else:
        pose_table(given.rendered)
