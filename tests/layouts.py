"""Small datasets in their true layouts, with the odd files that real copies carry; faces are drawn, not images.

A drawn face shows its emotion by brows and mouth, so that a network can learn it; every face differs a little.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fertool.datasets.ferplus import VOTES
from fertool.labels import EMOTIONS, PROTOCOLS

USAGE = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}
FERPLUS_FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}

#: emotion -> bend of the mouth, opening of the mouth, slope of the brows, height of the brows
_LOOKS = {
    "neutral": (0, 0, 0, 0),
    "happiness": (5, 1, 0, 0),
    "sadness": (-4, 0, -2, 0),
    "surprise": (0, 5, 0, 2),
    "fear": (-3, 3, -2, 2),
    "disgust": (-3, 1, 1, -1),
    "anger": (-2, 0, 3, -1),
    "contempt": (2, 0, 2, 0),
}


def draw_face(emotion: str, seed: int, size: int = 48) -> np.ndarray:
    """A face as (size, size) grey uint8."""
    rng = np.random.default_rng(seed)
    bend, opening, slope, height = _LOOKS[emotion]
    face = np.full((96, 96), rng.integers(20, 90), np.uint8)
    x, y = (48 + rng.integers(-3, 4, 2)).tolist()
    cv2.ellipse(face, (x, y), (32, 42), 0, 0, 360, int(rng.integers(150, 220)), -1)
    for side in (-1, 1):
        eye = (x + 13 * side, y - 10)
        cv2.circle(face, eye, 4, 30, -1)
        brow = y - 20 - 2 * height
        cv2.line(face, (eye[0] - 8 * side, brow + 2 * slope), (eye[0] + 8 * side, brow), 40, 2)
    cv2.line(face, (x, y - 4), (x - 2, y + 8), 110, 2)
    mouth = np.array([(x + t, y + 24 - round(2 * bend * (t / 14) ** 2)) for t in range(-14, 15)], np.int32)
    cv2.polylines(face, [mouth], False, 50, 2)
    if opening:
        cv2.ellipse(face, (x, y + 24), (8, 2 * opening), 0, 0, 360, 50, -1)
    face = cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)
    return np.clip(face + rng.normal(0, 4, face.shape), 0, 255).astype(np.uint8)


def write_image(path: Path, image: np.ndarray) -> None:
    """Whatever characters the path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def litter(folder: Path) -> None:
    """What machines leave behind in a folder of pictures."""
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "._fer0000000.png").write_bytes(b"\0\5\26\7")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf")


def votes_for(emotion: str) -> list[int]:
    """Ten votes: eight for the emotion, one for another, one for `unknown`."""
    votes = dict.fromkeys(VOTES, 0)
    votes[emotion] = 8
    votes["neutral" if emotion != "neutral" else "sadness"] = 1
    votes["unknown"] = 1
    return list(votes.values())


def write_ferplus(root: Path, n: dict[str, int] | None = None, layout: str = "folders") -> Path:
    """FER+ in one of its three layouts; classes follow one another in the order of `ferplus8`.

    As in the real tables, one row has no name, and one name of the training faces is used by two rows.

    Args:
        n: split -> number of faces (default 16, 8, 8).
        layout: "folders" with fer2013new.csv, "labels" with a label.csv in each folder, or "pixels" with fer2013.csv.
    """
    n = n or {"train": 16, "val": 8, "test": 8}
    root.mkdir(parents=True, exist_ok=True)
    classes = PROTOCOLS["ferplus8"]
    faces = [  # split, name, emotion, pixels
        (split, f"fer{first + i:07d}.png", classes[i % 8], draw_face(classes[i % 8], first + i))
        for split, first in (("train", 0), ("val", 28_638), ("test", 32_220))
        for i in range(n.get(split, 0))
    ]
    split, name, emotion, pixels = faces[0]
    other = "anger" if emotion != "anger" else "fear"
    rows = [(split, name, votes_for(other), draw_face(other, 999))]
    rows += [(split, "", [0] * 9 + [10], np.zeros((48, 48), np.uint8))]
    rows += [(split, name, votes_for(emotion), pixels) for split, name, emotion, pixels in faces]
    if layout != "labels":
        with open(root / "fer2013new.csv", "w", newline="") as f:
            table = csv.writer(f)
            table.writerow(["Usage", "Image name", *VOTES])
            table.writerows([USAGE[split], name, *votes] for split, name, votes, _ in rows)
    if layout == "pixels":
        _write_pixels(root / "fer2013.csv", [(USAGE[split], 0, pixels) for split, _, _, pixels in rows])
        return root
    for split, name, _, pixels in faces:
        write_image(root / FERPLUS_FOLDERS[split] / name, pixels)
    for split in {face[0] for face in faces}:
        folder = root / FERPLUS_FOLDERS[split]
        litter(folder)
        if layout == "labels":
            with open(folder / "label.csv", "w", newline="") as f:
                csv.writer(f).writerows([r[1], "(0, 0, 48, 48)", *r[2]] for r in rows if r[0] == split and r[1])
    return root


def write_fer2013_csv(root: Path, n: dict[str, int] | None = None, name: str = "fer2013.csv") -> Path:
    """FER2013; with the name icml_face_data.csv in that release's order and spelling of the header."""
    root.mkdir(parents=True, exist_ok=True)
    classes = PROTOCOLS["fer2013_7"]
    rows = [
        (USAGE[split], i % 7, draw_face(classes[i % 7], 100 * len(split) + i))
        for split, count in (n or {"train": 14, "val": 7, "test": 7}).items()
        for i in range(count)
    ]
    _write_pixels(root / name, rows, icml=name.startswith("icml"))
    return root


def _write_pixels(path: Path, rows: Sequence[tuple[str, int, np.ndarray]], icml: bool = False) -> None:
    with open(path, "w") as f:
        f.write("emotion, Usage, pixels\n" if icml else "emotion,pixels,Usage\n")
        for usage, emotion, pixels in rows:
            numbers = " ".join(map(str, pixels.ravel().tolist()))
            f.write(f"{emotion},{usage},{numbers}\n" if icml else f"{emotion},{numbers},{usage}\n")


def write_rafdb(root: Path, n: dict[str, int] | None = None, images: Sequence[str] = ("aligned", "original")) -> Path:
    """RAF-DB with all its annotations; the list of labels ends its lines as Windows does."""
    classes = PROTOCOLS["rafdb7"]
    lines = []
    for split, count in (n or {"train": 14, "test": 7}).items():
        for i in range(count):
            stem = f"{split}_{i + 1:0{5 if split == 'train' else 4}d}"
            lines.append(f"{stem}.jpg {i % 7 + 1}\r\n")
            face = draw_face(classes[i % 7], 100 * len(split) + i, 100)
            if "aligned" in images:
                write_image(root / "Image/aligned" / f"{stem}_aligned.jpg", np.dstack([face] * 3))
            if "original" in images:
                photograph = np.full((160, 180, 3), 90, np.uint8)
                photograph[30:130, 40:140] = face[..., None]
                write_image(root / "Image/original" / f"{stem}.jpg", photograph)
            points = [(74.5, 69.0), (101.5, 69.0), (88.0, 85.0), (75.0, 105.0), (101.0, 105.0)]
            traits = f"{i % 3}\n{i % 3}\n{i % 5}\n"
            _write(root, "manual", f"{stem}_manu_attri", "".join(f"{x}\t{y}\n" for x, y in points) + traits)
            outline = [(90 + 30 * np.cos(a), 80 + 40 * np.sin(a)) for a in np.linspace(0, 6, 37)]
            _write(root, "auto", f"{stem}_auto_attri", "".join(f"{x:.3f} {y:.3f}\n" for x, y in outline))
            _write(root, "boundingbox", f"{stem}_boundingbox", "45.0 35.5 135.0 125.5 \n")
    (root / "EmoLabel").mkdir(parents=True, exist_ok=True)
    (root / "EmoLabel/list_patition_label.txt").write_text("".join(lines), newline="")
    for folder in images:
        litter(root / "Image" / folder)
    (root / ".DS_Store").write_bytes(b"\0")
    return root


def _write(root: Path, kind: str, name: str, text: str) -> None:
    path = root / "Annotation" / kind / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_folder(
    root: Path,
    per_class: int = 2,
    splits: Sequence[str] = ("train", "test"),
    classes: Sequence[str] = ("Happy", "sad", "3_anger", "Surprise"),
    size: int = 48,
) -> Path:
    """split/class/picture; with `splits=("",)` class/picture, with `classes=("",)` pictures only."""
    for s, split in enumerate(splits):
        for c, name in enumerate(classes):
            emotion = _plain(name)
            for i in range(per_class):
                picture = ("näh, 1.jpg", "bild 2.PNG", "写真3.bmp", "d.jpeg")[i % 4].replace(".", f"-{i}.")
                write_image(root / split / name / picture, draw_face(emotion, 1000 * s + 100 * c + i, size))
            litter(root / split / name)
    (root / "readme.txt").write_text("no picture\n")
    return root


def _plain(name: str) -> str:
    from fertool.datasets.disk import emotion

    return emotion(name) or EMOTIONS[0]


def write_csv(root: Path, n: int = 8, separator: str = ",", name: str = "labels.csv") -> Path:
    """A table as spreadsheets write it (BOM, CRLF) beside a folder of pictures; gives the table.

    Columns: split, path, label, subject, age (numbers), light (texts), quality (numbers, one missing).
    """
    root.mkdir(parents=True, exist_ok=True)
    with open(root / name, "w", encoding="utf-8-sig", newline="") as f:
        table = csv.writer(f, delimiter=separator)
        table.writerow(["Split", "path", "Label", "subject", "Age", "light", "quality"])
        for i in range(n):
            emotion = ("happy", "Sadness", "anger", "surprised")[i % 4]
            path = Path("pictures") / f"gesicht {i}, ä.png"
            write_image(root / path, draw_face(_plain(emotion), i))
            split = "train" if i % 4 < 3 else "Validation"
            quality = "" if i == 0 else f"{i / 2}"
            table.writerow([split, path, emotion, f"p{i % 2}", 20 + i, "dark", quality])
    return root / name


CELEBA_ATTRIBUTES = (  # all forty, in the order of the list
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks"),
    *("Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
    *("Wearing_Necklace", "Wearing_Necktie", "Young"),
)


def write_celeba(root: Path, n: int = 12, layout: str = "folders", pictures: bool = True) -> Path:
    """CelebA; of every six pictures four are of train, one of val, one of test.

    Attribute j of picture i is 1 where i + j is a multiple of seven. The left eye of it lies at (60 + i % 20, 109).

    Args:
        layout: "folders" (Anno, Eval, Img), "flat" (all lists at the top) or "csv" (as at Kaggle).
        pictures: whether to draw them.
    """
    names = [f"{i + 1:06d}.jpg" for i in range(n)]
    attributes = [[1 if (i + j) % 7 == 0 else -1 for j in range(40)] for i in range(n)]
    partition = [[(0, 0, 0, 0, 1, 2)[i % 6]] for i in range(n)]
    points = [[60 + i % 20, 109, 106, 113, 77, 142, 73, 152, 108, 154] for i in range(n)]
    axes = [f"{p}_{axis}" for p in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
    lists = {
        "Anno/list_attr_celeba": (CELEBA_ATTRIBUTES, attributes),
        "Eval/list_eval_partition": (["partition"], partition),
        "Anno/list_landmarks_align_celeba": (axes, points),
    }
    for path, (header, rows) in lists.items():
        path = root / (path if layout == "folders" else path.split("/")[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        if layout == "csv":
            lines = [",".join(["image_id", *header])]
            lines += [",".join(map(str, [name, *row])) for name, row in zip(names, rows, strict=True)]
        else:
            lines = [] if header == ["partition"] else [str(n), " ".join(header) + " "]
            gap = " " if header == ["partition"] else "  "
            lines += [gap.join(map(str, [name, *row])) for name, row in zip(names, rows, strict=True)]
        path.with_suffix(".csv" if layout == "csv" else ".txt").write_text("\n".join([*lines, ""]))
    folder = {"folders": "Img/img_align_celeba", "flat": "img_align_celeba"}.get(layout, "img_align_celeba/" * 2)
    if pictures:
        for i, name in enumerate(names):
            photograph = np.full((218, 178, 3), 90, np.uint8)
            photograph[40:170, 24:154] = draw_face("happiness" if i % 2 else "neutral", i, 130)[..., None]
            write_image(root / folder / name, photograph)
        litter(root / folder)
    (root / ".DS_Store").write_bytes(b"\0")
    return root


def write_ckplus(root: Path, subjects: int = 4, layout: str = "") -> Path:
    """CK+: seven recordings of every subject, one of each emotion, and one without an emotion.

    Recordings have 4 to 10 frames; with the layout "archives" every archive lies in a folder of its own name.
    Landmark k of frame n lies at (k + n, 2 k).
    """
    images, emotions, landmarks = (
        root / (f"{archive}/{name}" if layout == "archives" else name)
        for archive, name in (
            ("extended-cohn-kanade-images", "cohn-kanade-images"),
            ("Emotion_labels", "Emotion"),
            ("Landmarks", "Landmarks"),
        )
    )
    codes = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
    for s in range(subjects):
        subject = f"S{5 * s + 5:03d}"
        for code in range(8):
            recording, count = f"{code + 1:03d}", 4 + code % 7
            for n in range(1, count + 1):
                stem = f"{subject}_{recording}_{n:08d}"
                emotion = codes[code] if 2 * n > count else "neutral"
                write_image(images / subject / recording / f"{stem}.png", draw_face(emotion, 100 * s + n, 64))
                marks = "".join(f"   {k + n:.7e}   {2 * k:.7e} \n" for k in range(68))
                path = landmarks / subject / recording / f"{stem}_landmarks.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(marks)
            litter(images / subject / recording)
            folder = emotions / subject / recording
            folder.mkdir(parents=True)
            if code:
                (folder / f"{stem}_emotion.txt").write_text(f"   {code:.7e}\n")
        litter(images / subject)
    return root


def write_rafd(root: Path, subjects: Sequence[int] = (1, 2, 73), layout: str = "") -> Path:
    """RaFD: every image of some people, in one folder or, with the layout "sorted", in one for each expression."""
    natives = {  # as the names say it
        "angry": "anger", "contemptuous": "contempt", "disgusted": "disgust", "fearful": "fear",
        "happy": "happiness", "neutral": "neutral", "sad": "sadness", "surprised": "surprise",
    }  # fmt: skip
    for i, subject in enumerate(subjects):
        kind = ("Caucasian_female", "Moroccan_male", "Kid_male")[i % 3]
        for native, emotion in natives.items():
            photograph = np.full((64, 42, 3), 230, np.uint8)
            photograph[14:49, 3:38] = draw_face(emotion, subject, 35)[..., None]
            for angle in (0, 45, 90, 135, 180):
                for gaze in ("frontal", "left", "right"):
                    name = f"Rafd{angle:03d}_{subject:02d}_{kind}_{native}_{gaze}.jpg"
                    write_image(root / (native if layout == "sorted" else "") / name, photograph)
    litter(root)
    return root


def write_sfew(root: Path, n: dict[str, int] | None = None, layout: str = "both") -> Path:
    """SFEW: frames of videos and, with the layout "both", the aligned faces beside them.

    Args:
        n: split -> pictures of each class; of test (never labelled) seven times as many.
        layout: "both", "original", "aligned", or "nested" (the aligned faces inside Train, Val and Test).
    """
    for split, count in (n or {"Train": 3, "Val": 2, "Test": 1}).items():
        for c, native in enumerate(("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")):
            for i in range(count):
                name = f"AlexEmma_{1000 * c + i:09d}_{i:08d}.png"
                face = draw_face(_plain(native), 100 * c + i, 64)
                frame = np.full((72, 90, 3), 60, np.uint8)
                frame[4:68, 13:77] = face[..., None]
                folder = "" if split == "Test" else native
                aligned = f"{split}/{split}_Aligned_Faces" if layout == "nested" else f"{split}_Aligned_Faces"
                if layout in ("both", "original"):
                    write_image(root / split / folder / name, frame)
                if layout != "original":
                    write_image(root / aligned / folder / name, face)
    for folder in (p for p in root.rglob("*") if p.is_dir()):
        (folder / ".DS_Store").write_bytes(b"\0")
    return root


def write_affectnet(root: Path, per_class: int = 2, layout: str = "lists") -> Path:
    """AffectNet: of every expression `per_class` faces for training and one for validation.

    Face n lies in the box (2, 3, 60, 61); its valence is n / 100, its arousal -n / 100, landmark k at (k + n, 2 k).

    Args:
        layout: "lists" (of which that of the validation split has no header; there are rows of the codes 8 to 10, too),
            or "npy".
    """
    native = [*EMOTIONS, "none", "uncertain", "no face"]
    for split, name, count in (("train_set", "training", per_class), ("val_set", "validation", 1)):
        rows = []
        for n, code in enumerate([c for c in range(11 if layout == "lists" else 8) for _ in range(count)]):
            face = draw_face(native[code] if code < 8 else "neutral", 100 * count + n, 64)
            points = np.array([(k + n, 2.0 * k) for k in range(68)])
            if layout == "lists":
                path = f"{n % 3}/{count}{n:04d}abc.jpg"
                marks = ";".join(f"{v:.2f}" for v in points.ravel())
                rows.append(f"{path},2,3,58,58,{marks},{code},{n / 100},{-n / 100}")
                write_image(root / "Manually_Annotated_Images" / path, face)
                continue
            write_image(root / split / "images" / f"{n}.jpg", face)
            notes = root / split / "annotations"
            notes.mkdir(exist_ok=True)
            np.save(notes / f"{n}_exp.npy", np.array(str(code)))  # as shipped: texts, but for the landmarks
            np.save(notes / f"{n}_val.npy", np.array(str(n / 100)))
            np.save(notes / f"{n}_aro.npy", np.array(str(-n / 100)))
            np.save(notes / f"{n}_lnd.npy", points.ravel())
        if layout == "lists":
            header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
            header += "expression,valence,arousal"
            lists = root / "Manually_Annotated_file_lists"
            lists.mkdir(exist_ok=True)
            lines = [header, *rows] if name == "training" else rows
            (lists / f"{name}.csv").write_text("".join(f"{line}\r\n" for line in lines), newline="")
    litter(root)
    return root


def write_mmi(root: Path, subjects: int = 2, layout: str = "videos") -> Path:
    """MMI: six recordings of every subject, one of each emotion, then one of the profile and one without an emotion.

    A recording has 9 frames: neutral at both ends. In every second one an action unit is at its apex from frame 6 to 7.

    Args:
        layout: "videos" (.avi) or "pictures".
    """
    codes = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    session = 0
    for s in range(subjects):
        for r in range(8):
            session += 1
            folder, name = root / "Sessions" / str(session), f"S{s + 1:03d}-{r + 1:03d}"
            emotion, view = codes[r % 6], "1" if r == 6 else "0"
            drawn = [draw_face(emotion if 4 <= n <= 7 else "neutral", 10 * session + n, 96) for n in range(1, 10)]
            folder.mkdir(parents=True)
            if layout == "videos":
                film = cv2.VideoWriter(str(folder / f"{name}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 96))
                for face in drawn:
                    film.write(np.dstack([face] * 3))
                film.release()
            else:
                for n, face in enumerate(drawn, start=1):
                    write_image(folder / f"{name}_{n:04d}.png", face)
            tags = "" if r == 7 else f'<Metatag Name="Emotion" Value="{r % 6 + 1}"/>'
            head = '<?xml version="1.0" encoding="UTF-8"?>'
            (folder / f"{name}.xml").write_text(f'{head}<doc><Metatag Name="Subject" Value="{s + 1}"/>{tags}</doc>')
            (folder / "session.xml").write_text(f'{head}<session><track trackNumber="1" view="{view}"/></session>')
            if r % 2:
                marks = "".join(
                    f'<Marker Frame="{f}" Type="{t}"/>' for f, t in ((1, 0), (3, 1), (6, 2), (8, 3), (9, 0))
                )
                units = f'<ActionUnit Number="12">{marks}</ActionUnit>'
                (folder / f"{name}-oao_aucs.xml").write_text(
                    f"{head}<FaceVideoAnnotation>{units}</FaceVideoAnnotation>"
                )
    litter(root / "Sessions")
    return root


def write_oulu_casia(root: Path, people: int = 2, layout: str = "OriginalImg") -> Path:
    """Oulu-CASIA: 5 frames of every person and expression, in visible light and in near infrared.

    Args:
        layout: folders above VL and NI; "top" for none.
    """
    above = root if layout == "top" else root / layout
    for p in range(people):
        for emotion in ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise"):
            for n in range(5):
                face = draw_face(_plain(emotion) if n > 1 else "neutral", 10 * p + n, 48)
                for light in ("VL", "NI"):
                    write_image(above / light / "Strong" / f"P{p + 1:03d}" / emotion / f"{n:03d}.jpeg", face)
        litter(above / "VL" / "Strong" / f"P{p + 1:03d}")
    return root


def write_fedro(root: Path, layout: str = "folders") -> Path:
    """FED-RO: two faces of each of the seven emotions, in folders or, with the layout "table", listed in labels.csv."""
    top = root / "FED-RO"
    natives = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
    if layout == "folders":
        write_folder(top, splits=("",), classes=natives)
        return root
    for i in range(14):
        write_image(top / "images" / f"{i}.jpg", draw_face(_plain(natives[i % 7]), i))
    lines = [f"images/{i}.jpg,{natives[i % 7]}\n" for i in range(14)]
    (top / "labels.csv").write_text("path,label\n" + "".join(lines))
    return root


def write_happei(root: Path, n: int = 3) -> Path:
    """HAPPEI: images of two people each."""
    for i in range(n):
        pair = [draw_face(emotion, i, 64) for emotion in ("happiness", "neutral")]
        write_image(root / "HAPPEI" / "images" / f"group {i}.jpg", np.hstack(pair))
    litter(root / "HAPPEI")
    return root
