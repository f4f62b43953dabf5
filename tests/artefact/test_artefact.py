"""Artefacts: what goes in comes out, equal work has equal digests, and nothing bad is ever taken for complete."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from fertool import artefact
from fertool.artefact import Column, Parent
from fertool.errors import ArtefactError, DataError, UsageError

NAMES = ["plain.png", "mit Leerzeichen, Komma.jpg", "gesicht-ä.png", "写真.bmp", ""]
#: where a program of its own finds this module and those that tests share
IMPORTS = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
MASKS = np.arange(5 * 8 * 14 * 14, dtype="u1").reshape(5, 8, 14, 14)


def masks(path, **changes):
    arrays = {"id": np.array(NAMES), "masks": MASKS, **changes.pop("arrays", {})}
    return artefact.save(path, "masks", arrays, **{"params": {"grid": 14}, "classes": ("a", "b"), **changes})


# ------------------------------------------------------------------------------------------------ round trip


def test_columns_come_back_as_they_were(tmp_path):
    columns = {
        "id": np.array(NAMES),
        "masks": MASKS,
        "angle": np.array([0.5, -1e30, np.nan, np.inf, 3], "f4"),
        "transform": np.random.default_rng(0).random((5, 2, 3)),
        "count": np.array([-(2**31), 2**31 - 1, 0, 1, 2], "i4"),
        "flag": np.array([True, False, True, True, False]),
        "note": np.array([["x", "éé"]] * 5, dtype=object),
    }
    made = artefact.save(tmp_path / "masks.h5", "masks", columns, params={})
    back = artefact.read(made.path)
    assert back.rows == 5
    assert sorted(back.columns) == sorted(columns)
    assert list(back.ids) == NAMES
    for name, array in columns.items():
        assert back[name].shape == array.shape
        if array.dtype.kind not in "UO":
            assert back[name].dtype == array.dtype
            assert np.array_equal(back[name], array, equal_nan=array.dtype.kind == "f")
    assert back["note"].tolist() == columns["note"].tolist()


def test_header_comes_back_as_it_was(tmp_path):
    parent = Parent("faces", "faces", "raf/faces.h5", "u1", "d1")
    made = masks(tmp_path / "m.h5", params={"a": {"b": [1, None, "ü"]}}, inputs=[parent], info={"seed": 7})
    back = artefact.read(made.path, ("masks", "regions"))
    assert (back.kind, back.schema, back.complete) == ("masks", 1, True)
    assert back.params == {"a": {"b": [1, None, "ü"]}}
    assert back.inputs == (parent,)
    assert back.parent("faces") == parent
    assert back.parent("regions") is None
    assert back.classes == ("a", "b")
    assert back.info == {"seed": 7}


def test_numbers_are_mapped_into_memory_and_read_only(tmp_path):
    a = pickle.loads(pickle.dumps(masks(tmp_path / "m.h5")))
    assert isinstance(a["masks"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        a["masks"][0] = 1


def test_arrays_in_groups(tmp_path):
    arrays = {
        "weights/last/layer1.0.weight": np.ones((2, 3), "f4"),
        "weights/last/fc.bias": np.float64(2.5),
        "state/epoch": np.array(3),
        "empty": np.zeros((0, 4), "f4"),
    }
    run = artefact.save(tmp_path / "run.h5", "run", arrays, params={})
    assert set(run.group("weights/last")) == {"layer1.0.weight", "fc.bias"}
    assert run.group("weights")["last/fc.bias"] == 2.5
    assert run["state/epoch"].item() == 3
    assert run["empty"].shape == (0, 4)
    assert run.columns == ["empty"]
    with pytest.raises(ArtefactError, match="no column 'weights/best'") as e:
        run["weights/best"]
    assert "weights/last/fc.bias" in e.value.hint


def test_no_file_left_beside_the_artefact(tmp_path):
    masks(tmp_path / "m.h5")
    masks(tmp_path / "m.h5", params={"grid": 2})
    assert os.listdir(tmp_path) == ["m.h5"]
    assert artefact.read(tmp_path / "m.h5").params == {"grid": 2}


def test_a_file_that_is_replaced_while_it_is_used(tmp_path):
    """What is mapped stays what it was; what is asked for later must not come from another file."""
    old = masks(tmp_path / "m.h5")
    mapped = old["masks"]
    masks(tmp_path / "m.h5", arrays={"masks": MASKS[:, ::-1]})
    assert np.array_equal(mapped, MASKS)
    with pytest.raises(ArtefactError, match=r"m\.h5 was replaced while it was in use"):
        old["masks"]


# ---------------------------------------------------------------------------------------- digests, up to date


def test_equal_work_has_equal_digests_whenever_and_wherever_it_is_done(tmp_path):
    a = masks(tmp_path / "a.h5", info={"created": "now"})
    b = masks(tmp_path / "sub" / "b.h5", info={"created": "later"})
    assert a.digest == b.digest
    assert len(a.digest) == 32
    assert a.uid != b.uid


def test_different_anything_has_a_different_digest(tmp_path):
    parent = Parent("faces", "faces", "raf/faces.h5", "u1", "d1")
    other = Parent("faces", "faces", "raf/faces.h5", "u1", "d2")
    changed = MASKS.copy()
    changed[4, 7, 13, 13] ^= 1
    files = [
        masks(tmp_path / "0.h5"),
        masks(tmp_path / "1.h5", params={"grid": 13}),
        masks(tmp_path / "2.h5", classes=("b", "a")),
        masks(tmp_path / "3.h5", classes=None),
        masks(tmp_path / "4.h5", inputs=[parent]),
        masks(tmp_path / "5.h5", inputs=[other]),
        masks(tmp_path / "6.h5", arrays={"masks": changed}),
        masks(tmp_path / "7.h5", arrays={"more": np.zeros(5, "i4")}),
        masks(tmp_path / "8.h5", arrays={"id": np.array(NAMES[::-1])}),
        masks(tmp_path / "9.h5", arrays={"more": np.zeros(5)}),
        artefact.save(tmp_path / "10.h5", "figures", {"id": np.array(NAMES), "masks": MASKS}, params={"grid": 14}),
    ]
    assert len({f.digest for f in files}) == len(files)


def test_a_parents_path_and_uid_are_not_in_the_digest(tmp_path):
    a = masks(tmp_path / "a.h5", inputs=[Parent("faces", "faces", "here/faces.h5", "u1", "d1")])
    b = masks(tmp_path / "b.h5", inputs=[Parent("faces", "faces", "there/faces.h5", "u2", "d1")])
    assert a.digest == b.digest


def test_the_same_work_is_up_to_date(tmp_path):
    path, parent = tmp_path / "m.h5", Parent("faces", "faces", "raf/faces.h5", "u1", "d1")
    params = {"grid": 14, "pair": (1, 2)}
    assert not artefact.up_to_date(path, "masks", params, [parent])
    masks(path, params=params, inputs=[parent])
    assert artefact.up_to_date(path, "masks", {"pair": [1, 2], "grid": 14}, [parent])
    assert not artefact.up_to_date(path, "masks", params, [parent], overwrite=True)


def test_other_work_is_refused_with_all_that_differs(tmp_path):
    path = tmp_path / "m.h5"
    faces = [Parent("faces", "faces", "a/f.h5", "", "1")]
    masks(path, params={"grid": 14, "size": {"eye": 2}, "gone": 1}, inputs=faces)
    now = [Parent("faces", "faces", "b/f.h5", "", "2"), Parent("regions", "regions", "r", "", "3")]
    with pytest.raises(ArtefactError) as e:
        artefact.up_to_date(path, "masks", {"grid": 14, "size": {"eye": 3}, "new": "x"}, now)
    for part in ("size.eye 2 → 3", "gone 1 →", 'new "-" → "x"', "another faces (a/f.h5 → b/f.h5)", "regions added"):
        assert part in e.value.message
    assert "grid" not in e.value.message
    assert "--overwrite" in e.value.hint
    with pytest.raises(ArtefactError, match="faces no longer given"):
        artefact.up_to_date(path, "masks", {"grid": 14, "size": {"eye": 2}, "gone": 1}, [])
    with pytest.raises(ArtefactError, match="holds 'masks', not 'regions'"):
        artefact.up_to_date(path, "regions", {}, [])


def test_a_file_of_other_parents_is_refused_by_name(tmp_path):
    mine, other = masks(tmp_path / "mine" / "faces.h5"), masks(tmp_path / "other" / "faces.h5", params={})
    made = masks(tmp_path / "made.h5", inputs=[mine.as_parent("faces")])
    made.require_parent(mine, "faces")
    with pytest.raises(ArtefactError, match=r"made\.h5 was made from another faces file than .*other/faces\.h5"):
        made.require_parent(other, "faces")
    with pytest.raises(ArtefactError):
        made.require_parent(mine)  # it has no parent in the role "masks"


# ------------------------------------------------------------------------------------------- bad files


def foreign(path):
    with h5py.File(path, "w") as h5:
        h5["x"] = 1


def change(how):
    def made(path):
        masks(path)
        with h5py.File(path, "r+") as h5:
            how(h5)

    return made


def replace(h5, name, **data):
    del h5[name]
    h5.create_dataset(name, **data)


def truncated(path):
    masks(path)
    os.truncate(path, path.stat().st_size - 600)


def truncated_in_the_header(path):
    masks(path)
    os.truncate(path, 100)


def virtual(h5):
    layout = h5py.VirtualLayout((5,), "u1")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (5,))
    h5.create_virtual_dataset("v", layout)


def linked(link):
    return change(lambda h5: h5.__setitem__("way/out", link))


BAD = {
    "empty file": (lambda p: p.write_bytes(b""), "cannot be read"),
    "text": (lambda p: p.write_text("id,label\n"), "cannot be read"),
    "truncated": (truncated, "cannot be read|truncated"),
    "truncated in the header": (truncated_in_the_header, "cannot be read"),
    "foreign HDF5": (foreign, "not one of fertool's"),
    "newer": (change(lambda h5: h5.attrs.modify("fertool_schema", 2)), "has schema 2; this fertool .* reads up to 1"),
    "wrong kind": (change(lambda h5: h5.attrs.modify("fertool_kind", "faces")), "holds 'faces'; 'masks' is needed"),
    "incomplete": (change(lambda h5: h5.attrs.modify("complete", False)), "is not finished"),
    "external link": (linked(h5py.ExternalLink("secret.h5", "/x")), r"contains a link \(way/out\)"),
    "soft link": (linked(h5py.SoftLink("/id")), r"contains a link \(way/out\)"),
    "virtual": (change(virtual), "keeps the data of v in another file"),
    "external storage": (
        change(lambda h5: h5.create_dataset("v", (5,), "u1", external=[("/etc/passwd", 0, 5)])),
        "keeps the data of v in another file",
    ),
    "references": (
        change(lambda h5: h5.create_dataset("r", data=[h5["id"].ref] * 5, dtype=h5py.ref_dtype)),
        "contains objects in r",
    ),
    "ragged rows": (change(lambda h5: h5.create_dataset("r", (5,), h5py.vlen_dtype("i4"))), "contains objects in r"),
    "named type": (change(lambda h5: h5.__setitem__("t", np.dtype("f4"))), "contains t, which is no array"),
    "no shape": (change(lambda h5: h5.create_dataset("r", data=h5py.Empty("f4"))), "r, which has no shape"),
    "unequal lengths": (change(lambda h5: h5.create_dataset("r", data=[1, 2])), r"different lengths: \[2, 5\]"),
    "missing column": (change(lambda h5: h5.__delitem__("masks")), "lacks the column masks"),
    "missing columns": (change(lambda h5: (h5.pop("masks"), h5.pop("id"))), "lacks the columns id, masks"),
    "missing attribute": (change(lambda h5: h5.attrs.pop("digest")), "cannot be read"),
    "broken JSON": (change(lambda h5: h5.attrs.modify("params", "{")), "cannot be read"),
    "JSON of another type": (
        change(lambda h5: h5.attrs.modify("info", "[1]")),
        "info: input should be a valid dictionary",
    ),
    "group inside itself": (
        change(lambda h5: h5.create_group("g").__setitem__("up", h5["/"])),
        "groups that contain one another",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, case):
    make, says = BAD[case]
    make(tmp_path / "bad.h5")
    with pytest.raises(ArtefactError, match=says) as e:
        artefact.read(tmp_path / "bad.h5", "masks")
    assert "bad.h5" in e.value.message
    assert "\n" not in e.value.message + (e.value.hint or "")


def test_a_link_is_refused_without_opening_what_it_names(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # whoever opened this would hang
    linked(h5py.ExternalLink(str(fifo), "/x"))(tmp_path / "bad.h5")
    with pytest.raises(ArtefactError, match="contains a link"):
        artefact.read(tmp_path / "bad.h5")


def test_text_of_any_length_from_elsewhere_is_read_not_mapped(tmp_path):
    change(lambda h5: replace(h5, "id", data=NAMES, dtype=h5py.string_dtype()))(tmp_path / "m.h5")
    assert list(artefact.read(tmp_path / "m.h5").ids) == NAMES


def test_compressed_columns_from_elsewhere_are_read(tmp_path):
    change(lambda h5: replace(h5, "masks", data=MASKS, compression="gzip"))(tmp_path / "m.h5")
    assert np.array_equal(artefact.read(tmp_path / "m.h5")["masks"], MASKS)


def test_text_that_is_not_utf8(tmp_path):
    foreign = change(lambda h5: (h5.attrs.pop("digests"), replace(h5, "id", data=np.array([b"\xff"] * 5))))
    foreign(tmp_path / "m.h5")
    h5py.File(tmp_path / "m.h5", "r+").attrs["seal"] = ""
    with pytest.raises(ArtefactError, match="text in id is not UTF-8"):
        _ = artefact.read(tmp_path / "m.h5").ids


def test_a_missing_file_and_its_unfinished_one(tmp_path):
    with pytest.raises(ArtefactError, match="there is no file") as e:
        artefact.read(tmp_path / "m.h5")
    assert e.value.hint is None
    begin(tmp_path / "m.h5").close()
    with pytest.raises(ArtefactError, match="there is no file") as e:
        artefact.read(tmp_path / "m.h5")
    assert "m.h5.partial beside it is unfinished" in e.value.hint


# ------------------------------------------------------------------------------------- row by row

ROWS = 40


def begin(path, rows=ROWS, **changes):
    return artefact.begin(
        path,
        "faces",
        **{
            "columns": {"images": Column("u1", (16, 16, 1)), "note": Column("U6")},
            "known": {
                "id": np.array([f"ä {i}" for i in range(rows)]),
                "label": np.arange(rows) % 2,
                "split": ["test"] * rows,
            },
            "params": {"size": 16},
            "classes": ("a", "b"),
            **changes,
        },
    )


def fill(writer, stop=None):
    for row in writer.pending[:stop]:
        writer.write(row, 1 + row % 3, images=np.full((16, 16, 1), row % 256), note=f"é{row}")


def test_rows_in_any_order(tmp_path):
    writer = begin(tmp_path / "faces.h5")
    for row in np.random.default_rng(0).permutation(ROWS):
        writer.write(row, 1, images=np.full((16, 16, 1), row), note="dreißig")
    made = writer.finish()
    assert made.complete
    assert made["images"][:, 3, 3, 0].tolist() == list(range(ROWS))
    assert made["label"].tolist() == [0, 1] * (ROWS // 2)
    assert made.ids[3] == "ä 3"
    assert set(made["status"]) == {1}
    assert set(made["note"]) == {"dreiß"}, "text that is too long is cut at a whole character: 6 bytes, not 7"
    assert os.listdir(tmp_path) == ["faces.h5"]


def test_a_row_of_the_wrong_shape_is_a_mistake_of_ours(tmp_path):
    writer = begin(tmp_path / "faces.h5")
    with pytest.raises(ValueError, match=r"images: a row has shape \(16, 16, 1\), not \(16, 16\)"):
        writer.write(0, 1, images=np.zeros((16, 16)))
    with pytest.raises(RuntimeError, match="40 rows .* pending"):
        writer.finish()


def test_stopped_and_resumed_equals_uninterrupted(tmp_path):
    whole = begin(tmp_path / "whole.h5")
    fill(whole)
    writer = begin(tmp_path / "parts.h5")
    fill(writer, 13)
    writer.close()
    assert not (tmp_path / "parts.h5").exists()
    again = begin(tmp_path / "parts.h5")
    assert len(again.pending) == ROWS - 13
    fill(again)
    assert again.finish().digest == whole.finish().digest


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    """kill -9 while rows are written; every row that has a status is whole."""
    program = textwrap.dedent(f"""
        import sys, time; sys.path[:0] = {IMPORTS!r}
        from pathlib import Path
        from test_artefact import begin, fill
        writer = begin(Path(sys.argv[1]), rows=20_000)
        print("begun", flush=True)
        fill(writer, 19_000)
        time.sleep(60)
    """)
    path = tmp_path / "faces.h5"
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begun\n"
    for overwrite in (False, True):
        with pytest.raises(ArtefactError, match="another fertool is writing"):
            begin(path, rows=20_000, overwrite=overwrite)
    time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL

    with pytest.raises(ArtefactError):
        artefact.read(path)
    with pytest.raises(ArtefactError, match="is not finished"):
        artefact.read(artefact.partial_path(path))
    resumed = begin(path, rows=20_000)
    done = np.flatnonzero(resumed.status)
    assert 0 < len(done) < 20_000
    partial = artefact.read(artefact.partial_path(path), partial=True)
    assert (partial["images"][done] == (done % 256)[:, None, None, None]).all()
    uninterrupted = begin(tmp_path / "other.h5", rows=20_000)
    fill(resumed)
    fill(uninterrupted)
    assert resumed.finish().digest == uninterrupted.finish().digest


def test_an_unfinished_file_of_other_settings_is_kept_until_told(tmp_path):
    writer = begin(tmp_path / "faces.h5")
    fill(writer, 5)
    writer.close()
    with pytest.raises(ArtefactError, match="unfinished and has other settings: size 16 → 20") as e:
        begin(tmp_path / "faces.h5", params={"size": 20})
    assert "--overwrite" in e.value.hint
    with closing(begin(tmp_path / "faces.h5", params={"size": 20}, overwrite=True)) as fresh:
        assert len(fresh.pending) == ROWS


def test_a_damaged_unfinished_file_is_begun_anew(tmp_path):
    begin(tmp_path / "faces.h5").close()
    os.truncate(tmp_path / "faces.h5.partial", 50)
    writer = begin(tmp_path / "faces.h5")
    fill(writer)
    assert writer.finish().complete


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_unfinished_file_of_somebody_elses_is_kept(tmp_path, link, overwrite):
    partial = tmp_path / "faces.h5.partial"
    mine = tmp_path / "notes.txt" if link else partial
    mine.write_text("mine, and not one of fertool's files")
    if link:
        partial.symlink_to(mine)
    with pytest.raises(UsageError, match="did not write it"):
        begin(tmp_path / "faces.h5", overwrite=overwrite)
    assert mine.read_text() == "mine, and not one of fertool's files"
    partial.unlink()
    partial.write_bytes(bytes(5000) + b"what a power cut left")
    begin(tmp_path / "faces.h5").close()
    assert artefact.read(partial, "faces", partial=True).rows == ROWS


def test_a_writer_whose_file_was_replaced_does_not_seal_the_other_one(tmp_path):
    writer = begin(tmp_path / "faces.h5")
    fill(writer)
    os.rename(tmp_path / "faces.h5.partial", tmp_path / "aside")
    begin(tmp_path / "faces.h5").close()
    with pytest.raises(ArtefactError, match="began .* anew"):
        writer.finish()
    assert not (tmp_path / "faces.h5").exists()


# ------------------------------------------------------------------------------------- no room, no permission


def limited(tmp_path, program):
    """Run a program that may write files of 100 kB at most, which is how a full disk looks from inside."""
    limit = textwrap.dedent(f"""
        import resource, signal, sys; sys.path[:0] = {IMPORTS!r}
        from pathlib import Path
        import numpy as np
        from fertool import artefact
        from fertool.errors import DataError
        from test_artefact import begin, fill
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        folder = Path({str(tmp_path)!r})
        def only(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    """)
    command = [sys.executable, "-c", limit + textwrap.dedent(program)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_full_disk(tmp_path):
    """Saving, laying out and writing rows: one line each, no rubbish left; what was written can be resumed."""
    begin(tmp_path / "rows.h5", rows=400).close()  # laid out while there was room
    journal = artefact.read(tmp_path / "rows.h5.partial", partial=True).stored["status"].offset
    said = limited(
        tmp_path,
        f"""
        journal = {journal}
        """
        """
        only(50_000)
        big = {"id": np.array(["a"] * 400), "masks": np.ones((400, 8, 14, 14), "u1")}
        small = {"id": np.array([f"{i:0300d}" for i in range(400)]), "masks": np.ones((400, 8, 1, 1), "u1")}
        def writing():
            writer = begin(folder / "rows.h5", rows=400)
            only(journal + 150)
            fill(writer)
        for work in (lambda: artefact.save(folder / "a.h5", "masks", big, params={}),
                     lambda: artefact.save(folder / "b.h5", "masks", small, params={}),
                     lambda: begin(folder / "c.h5", rows=400),
                     writing):
            try:
                work()
            except DataError as e:
                print(e.message, "|", e.hint)
        """,
    ).splitlines()
    assert len(said) == 4
    for line, name in zip(said, ("a.h5", "b.h5", "c.h5.partial", "rows.h5"), strict=True):
        assert line.startswith(f"cannot write {tmp_path / name}: ")
        assert "make room" in line
    assert os.listdir(tmp_path) == ["rows.h5.partial"]
    writer = begin(tmp_path / "rows.h5", rows=400)
    assert len(writer.pending) == 250
    fill(writer)
    whole = begin(tmp_path / "whole.h5", rows=400)
    fill(whole)
    assert writer.finish().digest == whole.finish().digest


@pytest.mark.parametrize("write", [masks, begin])
def test_a_place_that_cannot_be_written(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write") as e:
        write(tmp_path / "file" / "m.h5")
    assert "--workspace" in e.value.hint


def test_a_read_only_folder(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        folder = Path("/proc/self/task")  # the superuser may write anywhere but here
    with pytest.raises(DataError, match="cannot write") as e:
        masks(folder / "m.h5")
    assert "--workspace" in e.value.hint


@pytest.mark.parametrize(
    ("rows", "ids", "fits"), [([2, 0], [2, 0], True), ([5, 0], [2, 0], False), ([2, 0], [0, 2], False)]
)
def test_rows_of_predictions_are_those_of_their_faces(tmp_path, rows, ids, fits):
    columns = {"id": np.array(NAMES), "images": np.zeros((5, 4, 4, 1), "u1"), "status": np.ones(5, "u1")}
    columns |= {"label": np.zeros(5, "i2"), "split": np.array(["test"] * 5)}
    faces = artefact.save(tmp_path / "faces.h5", "faces", columns, params={}, classes=("a", "b"))
    columns = {"id": np.array(NAMES)[ids], "row": np.array(rows), "status": np.ones(2, "u1")}
    columns |= {"label": np.zeros(2, "i2"), "logits": np.zeros((2, 2), "f4")}
    made = artefact.save(
        tmp_path / "p.h5", "predictions", columns, params={}, inputs=[faces.as_parent()], classes=("a", "b")
    )
    if fits:
        made.require_parent(faces)
    else:
        with pytest.raises(ArtefactError, match="its rows are not those of"):
            made.require_parent(faces)


def test_masks_are_bytes(tmp_path):
    with pytest.raises(ArtefactError, match="masks holds bool, not bytes"):
        masks(tmp_path / "masks.h5", arrays={"masks": MASKS > 3})
