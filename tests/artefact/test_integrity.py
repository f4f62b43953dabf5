"""What fertool wrote is what it reads: changed, damaged and hostile files are refused, and outputs have one writer."""

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
import toy
from commands import call, tell
from test_golden import write
from trials import mutations

from fertool import artefact, files, locks
from fertool.artefact import Column, reading
from fertool.artefact.storage import open_h5
from fertool.errors import ArtefactError
from fertool.stages import inspect

GOLDEN = Path(__file__).parent / "golden"
SMALL = (
    "--gpus",
    0,
    "--epochs",
    1,
    "--batch",
    24,
    "--set",
    "train.model.backbone=tiny",
    "--set",
    "train.model.size=24",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workspace with faces, regions, subsets and a run that has been scored."""
    space = tmp_path_factory.mktemp("integrity")
    faces = toy.write_all(space / "toy", train=24, test=12)
    toy.write_subsets(faces, fold=np.arange(36) % 2)
    tell("train", "ran", *SMALL, space=space)
    tell("eval", "--gpus", 0, space=space)
    return space


@pytest.fixture
def space(finished, tmp_path):
    """A copy of it to do harm to."""
    return Path(shutil.copytree(finished, tmp_path / "space"))


def refusal(*words, space, code: int = 3) -> str:
    result = call(*words, space=space)
    assert result.exit_code == code, result.output
    return result.stderr


def spoil(path: Path, name: str, how=lambda values: values[::-1]) -> None:
    with h5py.File(path, "r+") as h5:
        h5[name][...] = how(h5[name][...])


# ------------------------------------------------------------------------------------------------------ digests


@pytest.mark.parametrize(
    ("file", "column", "how"),
    [
        ("faces", "images", lambda x: 255 - x),
        ("faces", "label", lambda x: (x + 1) % 3),
        ("faces", "split", lambda x: x[::-1]),
        ("regions", "boxes", lambda x: x[:, ::-1]),
    ],
)
def test_training_and_evaluation_refuse_changed_data_by_name(space, file, column, how):
    path = space / f"toy/{file}.h5"
    spoil(path, column, how)
    for words in (("train", "ran", *SMALL, "--seed", 1), ("eval", "--gpus", 0, "--overwrite")):
        said = refusal(*words, space=space)
        assert f"{path}: changed or damaged after it was written, by the digest of: {column}" in said
    assert not list((space / "toy/runs").glob("ran-2"))
    result = _inspect(path)
    assert result.exit_code == 3
    assert f"by the digest of: {column}" in result.stderr


def _inspect(path: Path):
    from typer.testing import CliRunner

    from fertool import cli

    return CliRunner().invoke(cli.app, ["inspect", str(path), "--verify"])


def test_inspect_verify_says_that_a_file_is_as_it_was_written(finished):
    result = _inspect(finished / "toy/faces.h5")
    assert result.exit_code == 0
    assert ", verified" in result.stderr


def test_a_changed_checkpoint_is_neither_scored_nor_exported_nor_used(space):
    run = space / "toy/runs/ran-1/run.h5"
    name = next(n for n in artefact.read(run).stored if n.startswith("weights/last/"))
    spoil(run, name, lambda x: x + 1)
    for words in (
        ("eval", "--gpus", 0, "--overwrite"),
        ("export", "--format", "safetensors"),
        ("predict", GOLDEN, "--gpus", 0),
        ("train", "ran", *SMALL, "--seed", 2, "--init", run),
    ):
        assert f"by the digest of: {name}" in refusal(*words, space=space)


def test_a_file_without_digests_of_its_columns_is_verified_as_a_whole(tmp_path):
    path = Path(shutil.copy(GOLDEN / "faces-1.h5", tmp_path / "faces.h5"))
    artefact.read(path).verify()
    spoil(path, "images", lambda x: 255 - x)
    with pytest.raises(ArtefactError, match=r"the content of .*faces\.h5 does not match its digest"):
        artefact.read(path).verify()


def test_an_attribute_or_array_that_was_changed_is_refused_when_the_file_is_opened(space):
    path = space / "toy/faces.h5"
    kept = path.read_bytes()
    for change in (
        lambda h5: h5.attrs.modify("classes", np.bytes_(b'["anger", "fear", "neutral"]')),
        lambda h5: h5.attrs.modify("params", np.bytes_(b"{}")),
        lambda h5: h5.move("label", "labels"),
        lambda h5: h5.__setitem__("more", np.zeros(36)),
    ):
        path.write_bytes(kept)
        with h5py.File(path, "r+") as h5:
            change(h5)
        with pytest.raises(ArtefactError, match=r"faces\.h5"):
            artefact.read(path)


def test_a_few_rows_of_a_large_column_are_read_without_the_others(space, monkeypatch):
    path = space / "toy/faces.h5"
    spoil(path, "images", lambda x: 255 - x)
    with pytest.raises(ArtefactError, match="digest of: images"):
        artefact.read(path)["images"]
    monkeypatch.setattr(reading, "_CHEAP", 1000)
    faces = artefact.read(path)
    assert faces["images"][3].shape == (32, 32, 1)
    with pytest.raises(ArtefactError, match="digest of: images"):
        faces.verify("images")


def test_values_out_of_bounds_are_refused_also_in_files_of_others(tmp_path):
    faces = toy.write_faces(tmp_path / "toy", 4, 2)
    for name, worst in (("label", 3), ("label", -2), ("status", 9)):
        columns = {n: np.array(faces[n]) for n in faces.columns}
        columns[name][2] = worst
        made = artefact.save(tmp_path / "bad.h5", "faces", columns, params={}, classes=toy.CLASSES)
        with pytest.raises(ArtefactError, match=f"{name} holds {worst}, which is"):
            made[name]


# ----------------------------------------------------------------------------------------------- other handles


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_file_that_a_notebook_holds_open_is_read_all_the_same(space, mode):
    path = space / "toy/faces.h5"
    with h5py.File(path, mode) as notebook:
        faces = artefact.read(path)
        faces.verify()
        assert np.array_equal(notebook["images"][0], faces["images"][0])
        tell("crop-regions", "--mode", "random", "--out", space / "r.h5", space=space)
    with open_h5(path) as ours, h5py.File(path, mode) as notebook:
        assert set(ours) == set(notebook)


# -------------------------------------------------------------------------------------------------------- locks


def elsewhere(program: str) -> subprocess.Popen:
    """A process of its own that has said "ready" and waits."""
    program = f"from pathlib import Path\nfrom fertool import artefact, files, locks\n{textwrap.dedent(program)}"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("regions.h5", ("crop-regions", "--overwrite")),
        ("masks.h5", ("make-masks",)),
        ("subsets.h5", ("build-subsets", "--overwrite")),
        ("runs/ran-1", ("train", "ran", *SMALL, "--overwrite", "--out", "runs/ran-1")),
        ("runs/ran-1/predictions.h5", ("eval", "--gpus", 0, "--overwrite")),
        ("sweeps/lr", ("sweep", "ran", "--vary", "train.lr=[0.1,0.2]", "--epochs", 1, "--gpus", 0)),
    ],
)
def test_an_output_that_another_process_writes_is_refused(space, output, words, monkeypatch):
    monkeypatch.chdir(space / "toy")
    before = {p: p.read_bytes() for p in space.rglob("*.h5")}
    child = elsewhere(f"with locks.exclusive({str(space / 'toy' / output)!r}): print('ready', flush=True); input()")
    said = refusal(*words, space=space)
    assert "another fertool is writing" in said
    child.communicate("\n")
    assert {p: p.read_bytes() for p in space.rglob("*.h5")} == before
    assert not list(space.rglob("*.lock"))


def test_a_killed_writer_holds_nobody_up_and_its_rubbish_is_removed(space):
    out = space / "toy/regions.h5"
    child = elsewhere(f"""
        with locks.exclusive({str(out)!r}), files.replacing({str(out)!r}, artefact=True) as part:
            part.write_text("half")
            print("ready", flush=True)
            input()
    """)
    assert len([n for n in os.listdir(out.parent) if files.is_temporary(n)]) == 1
    child.send_signal(signal.SIGKILL)
    child.communicate()
    tell("crop-regions", "--overwrite", space=space)
    assert not [n for n in os.listdir(out.parent) if n.startswith(".")]


def test_a_temporary_file_of_a_process_that_lives_or_of_another_host_stays(tmp_path):
    with files.replacing(tmp_path / "a.csv") as part:
        part.write_text("mine")
        theirs = part.with_name(part.name.replace(files._HOST, "elsewhere"))
        theirs.write_text("theirs")
        files.sweep(tmp_path)
        assert part.exists()
    assert sorted(os.listdir(tmp_path)) == sorted([theirs.name, "a.csv"])


def test_locks_of_one_output_nest_and_leave_no_folder_behind(tmp_path):
    out = tmp_path / "new/folder/faces.h5"
    with locks.exclusive(out), locks.exclusive(out.parent / "../folder/faces.h5"):
        assert out.parent.is_dir()
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------------------ unfinished files


def begin(path):
    known = {"id": np.array(["a", "b"]), "label": np.zeros(2, "i2"), "split": ["", ""]}
    columns = {"images": Column("u1", (4, 4, 1)), "score": Column("f4")}
    return artefact.begin(path, "faces", columns=columns, known=known, params={}, classes=("x",))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h5: h5.attrs.modify("fertool_schema", 2), "has schema 2"),
        (lambda h5: h5.attrs.__delitem__("params"), "no attribute params"),
        (lambda h5: h5.__delitem__("images"), "lacks the column images"),
        (lambda h5: h5.__delitem__("score"), "has not the columns that are written now: score"),
        (lambda h5: h5.attrs.__delitem__("fertool_kind"), "not one of fertool's"),
    ],
)
def test_an_unfinished_file_that_may_be_of_use_is_never_wiped(tmp_path, change, says):
    begin(tmp_path / "faces.h5").close()
    partial = tmp_path / "faces.h5.partial"
    with h5py.File(partial, "r+") as h5:
        change(h5)
    kept = partial.read_bytes()
    with pytest.raises(ArtefactError, match=says) as e:
        begin(tmp_path / "faces.h5")
    assert "--overwrite" in e.value.hint
    assert partial.read_bytes() == kept


# ------------------------------------------------------------------------------------------------- hostile files


def _deep(h5):
    """26 groups, each twice in the one above it: 2^26 paths."""
    group = h5
    for _ in range(26):
        below = group.create_group("a")
        group["b"] = below
        group = below


def _long(h5):
    h5.create_dataset("more", (300_000_000,), "f8", chunks=(1000,), compression="gzip")


def _wide(h5):
    h5.create_dataset("more", (0, 10**12), "u1", chunks=(1, 1), maxshape=(None, None))


@pytest.mark.parametrize(
    ("harm", "says"), [(_deep, "groups that contain one another"), (_long, "declares"), (_wide, "declares")]
)
def test_files_that_would_take_for_ever_or_all_memory_are_refused(tmp_path, harm, says):
    path = Path(shutil.copy(GOLDEN / "run-1.h5", tmp_path / "run.h5"))
    with h5py.File(path, "r+") as h5:
        harm(h5)
    with pytest.raises(ArtefactError, match=says):
        artefact.read(path)


def test_zeros_in_the_heaps_of_a_file_do_not_hang(tmp_path):
    """Files of earlier versions keep texts in a heap; HDF5 steps through zeros for ever, so a child tries."""
    program = """
        import sys
        from fertool import artefact
        from fertool.errors import ArtefactError
        for path in sys.argv[1:]:
            try:
                artefact.read(path, partial=True)
            except ArtefactError:
                print("refused")
    """
    spoilt = []
    for kind in ("faces", "run", "figures"):
        kept = (GOLDEN / f"{kind}-1.h5").read_bytes()
        for start in (kept.find(b"GCOL") + 16, kept.find(b"HEAP") + 8):
            path = tmp_path / f"{kind}-{start}.h5"
            path.write_bytes(kept[:start] + bytes(512) + kept[start + 512 :])
            spoilt.append(path)
        loop, heap = bytearray(kept), kept.find(b"HEAP")
        _, free, address = struct.unpack_from("<QQQ", kept, heap + 8)
        struct.pack_into("<QQ", loop, address + free, free, 16)  # a free block that is followed by itself
        spoilt.append(tmp_path / f"{kind}-loop.h5")
        spoilt[-1].write_bytes(loop)
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, spoilt)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    assert done.stdout.count("refused") == len(spoilt)


def test_texts_lie_in_the_attributes_themselves(tmp_path):
    path = toy.write_faces(tmp_path, 4, 2).path
    with h5py.File(path) as h5:
        assert all(h5.attrs.get_id(name).dtype.kind != "O" for name in h5.attrs)
    assert b"GCOL" not in path.read_bytes()


def test_settings_longer_than_an_object_header_are_kept(tmp_path):
    params = {"track": [f"face {i}" for i in range(20_000)]}
    arrays = {"id": np.array(["a"]), "masks": np.zeros((1, 8, 2, 2), "u1")}
    made = artefact.save(tmp_path / "m.h5", "masks", arrays, params=params)
    assert made.params == params


@pytest.mark.parametrize("kind", artefact.KINDS)
def test_a_selection_of_mutations_is_refused_or_changes_nothing(tmp_path, kind):
    """The rest is in trials/mutations.py, which also runs the commands that read the files."""
    whole = write(tmp_path / "whole.h5", kind).path
    expected = mutations.content(whole)
    refused = 0
    for number in range(60):
        path = Path(shutil.copy(whole if number % 2 else GOLDEN / f"{kind}-1.h5", tmp_path / f"{number}.h5"))
        said, sealed = mutations.mutate(path, random.Random(f"{kind}/{number}"))
        try:
            artefact.read(path).verify()
            inspect.summary(path)
        except ArtefactError:
            refused += 1
            continue
        assert mutations.content(path) == expected or number % 2 == 0 or not sealed, (number, said)
    assert refused > 20


def _retype_momentum(arrays, _):
    name = next(n for n in arrays if n.startswith("optimizer/") and arrays[n].ndim == 4)
    arrays[name] = arrays[name].astype("i8")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_retype_momentum, "another shape or type"),
        (lambda a, name: a.pop(name), "Missing key"),
        (lambda a, name: a.update({name: a[name].reshape(-1)}), "size mismatch"),
        (lambda a, name: a.update({"state/rng/cpu": a["state/rng/cpu"][:9]}), "no state to go on from"),
        (lambda a, name: a.pop("state/epoch"), "no column 'state/epoch'"),
    ],
)
def test_resume_refuses_damaged_runs(space, harm, says):
    path = space / "toy/runs/ran-1/run.h5"
    run = artefact.read(path)
    arrays = {name: np.array(run[name]) for name in run.stored}
    harm(arrays, next(n for n in arrays if n.startswith("weights/last/") and arrays[n].ndim == 4))
    artefact.save(path, "run", arrays, params=run.params, inputs=run.inputs, classes=run.classes, info=run.info)
    words = [*SMALL[:2], "--epochs", 2, *SMALL[4:]]
    assert says in refusal("train", "ran", *words, "--resume", space=space)


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--subset", "nosuch"), 2), (("--set", "train.init=/no/such.pth"), 5), (("--epochs", "nan"), 4)],
)
def test_a_sweep_that_cannot_start_leaves_nothing_behind(space, words, code):
    before = sorted(space.rglob("*"))
    small = (*SMALL[:4], *SMALL[6:])
    said = refusal("sweep", "ran", "--vary", "train.lr=[0.1,0.2]", *small, *words, space=space, code=code)
    assert "No such option" not in said
    assert sorted(space.rglob("*")) == before


def test_synthesise_is_repeated_after_success(tmp_path):
    marks = np.random.default_rng(0).uniform(8, 24, (6, 68, 2)).astype("f4")
    toy.write_faces(tmp_path / "toy", 4, 2, landmarks=marks)
    words = ("build-subsets", "--synthesise", "--severity", 0.2, "--limit", 1)
    first = tell(*words, space=tmp_path)
    assert tell(*words, space=tmp_path) == first
