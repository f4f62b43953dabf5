"""Every script in examples/ as a user would start it, at small size."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from layouts import write_celeba, write_fer2013_csv, write_ferplus, write_rafd, write_rafdb

from fertool import artefact
from fertool.labels import PROTOCOLS

ROOT = Path(__file__).parent.parent


def start(script: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a script with the `fertool` of this Python first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / script), *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def read(table: Path) -> list[dict[str, str]]:
    with open(table, newline="") as f:
        return list(csv.DictReader(f))


def test_no_example_is_forgotten():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    tested |= {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}

    tested.add("slurm")  # in training/test_slurm.py
    assert {p.stem for p in (ROOT / "examples").iterdir() if p.suffix in (".sh", ".py") or p.is_dir()} <= tested


def test_quickstart(tmp_path):
    start("quickstart.sh", "q", "--epochs", "1", cwd=tmp_path, PEOPLE="6")
    runs = tmp_path / "q/artefacts/rendered/runs"
    assert sorted(r.name for r in runs.iterdir()) == ["ran-1", "ran-baseline-1"]
    rows = read(tmp_path / "q/scores.csv")
    assert {"all", "occlusion", "pose30"} <= {r["subset"] for r in rows}
    assert {r["run"] for r in rows} == {"ran-1", "ran-baseline-1"}
    assert all((runs / "ran-1/figures" / f"{name}.png").stat().st_size for name in ("regions",))
    assert artefact.read(tmp_path / "q/artefacts/rendered/masks.h5", "masks").rows == 6 * 21


def test_ran_ferplus(tmp_path):
    write_ferplus(tmp_path / "ferplus", {"train": 16, "val": 8, "test": 16}, layout="labels")
    lists = tmp_path / "lists" / "FERplus_dir"
    lists.mkdir(parents=True)
    test = [(i % 8, f"fer{32_220 + i:07d}") for i in range(16)]
    (lists / "jianfei_occlusion_list.txt").write_text("".join(f"{c}_{n}.png 8 {c % 4}\r\n" for c, n in test[:8]))
    for angle, listed in ((30, test[4:]), (45, test[8:])):
        (lists / f"pose_{angle}_ferplus_list.txt").write_text("".join(f"{c}/{n}.jpg\n" for c, n in listed))

    small = ["--epochs", "1", "--batch", "8", "--set", "train.model.backbone=tiny", "--set", "train.model.size=32"]
    done = start("ran_ferplus.sh", "ferplus", "lists", *small, cwd=tmp_path)
    assert "8 of 605" in done.stderr

    table2 = {(r["run"], r["subset"]): r for r in read(tmp_path / "table2.csv")}
    assert table2["ran-1", "occlusion"]["n_total"] == "8"
    assert table2["ran-1", "pose30"]["n_total"] == "12"
    assert table2["ran-baseline-1", "pose45"]["n_total"] == "8"
    for data in ("ferplus", "ferplus-unaligned"):
        rows = read(tmp_path / f"table4-{data}.csv")
        assert [r["run"] for r in rows] == ["ran-baseline-1", "ran-self-1", "ran-relation-1", "ran-1"]
        faces = artefact.read(tmp_path / "artefacts" / data / "faces.h5", "faces")
        assert faces.classes == PROTOCOLS["ferplus8"]


SHORT = ["--batch", "8", "--set", "train.iterations=2"]


def test_man_rafdb(tmp_path):
    write_rafdb(tmp_path / "raf")
    start("man_rafdb.sh", "raf", *SHORT, "--set", "train.model.channels=4", cwd=tmp_path)
    runs = tmp_path / "artefacts/raf-man/runs"
    assert sorted(r.name for r in runs.iterdir()) == ["man-1", "man-vgg-1", "man-vgg-se-1", "rasnet-1"]
    made = artefact.read(runs / "man-1/run.h5", "run")
    assert made.parent("pretrained_part").digest == artefact.read(runs / "rasnet-1/run.h5").digest
    assert {r["run"] for r in read(tmp_path / "table3.csv")} == {"man-vgg-1", "man-vgg-se-1", "man-1"}
    assert (tmp_path / "man-masks.png").stat().st_size


def test_lnlattennet_rafdb(tmp_path):
    write_rafdb(tmp_path / "raf", images=("aligned",))
    small = ["--set", "train.model.channels=4", "--set", "train.model.size=64"]
    start("lnlattennet_rafdb.sh", "raf", *SHORT, *small, cwd=tmp_path)
    assert len({r["run"] for r in read(tmp_path / "table4.csv")}) == 4
    trace = artefact.read(tmp_path / "artefacts/raf-lnl/runs/lnlattennet-1/run.h5").group("trace")
    assert trace["global"].shape == (1, 1, 16)


def test_ws_lgrn_rafdb(tmp_path):
    write_celeba(tmp_path / "celeba", n=60)
    write_fer2013_csv(tmp_path / "fer")
    write_rafdb(tmp_path / "raf", images=("aligned",))
    small = [w for v in ("blocks=[1,1,1]", "growth=4", "stem=4") for w in ("--set", f"train.model.{v}")]
    start("ws_lgrn_rafdb.sh", "celeba", "fer", "raf", *SHORT, *small, cwd=tmp_path)
    runs = {data: tmp_path / f"artefacts/{data}/runs" for data in ("celeba", "fer2013-ws", "raf-ws")}
    stage1 = artefact.read(runs["celeba"] / "amg-1/run.h5")
    for data in ("fer2013-ws", "raf-ws"):
        assert artefact.read(runs[data] / "ws-lgrn-1/run.h5").parent("pretrained_part").digest == stage1.digest
    assert read(tmp_path / "table4.csv")[0]["n_total"] == "7"


def test_va_cnn_rafd(tmp_path):
    write_rafd(tmp_path / "rafd", subjects=(1, 16, 30, 44, 58))
    small = ["--set", "train.model.width=32", "--set", "train.model.height=32"]
    start("va_cnn_rafd.sh", "rafd", *SHORT, *small, cwd=tmp_path)
    rows = read(tmp_path / "table5.csv")
    pooled = {r["system"]: r["n_total"] for r in rows if r["fold"] == "pooled"}
    assert pooled == dict.fromkeys(("va-cnn-baseline", "va-cnn-gap", "va-cnn"), "525")


def test_python_api(tmp_path):
    words = [sys.executable, str(ROOT / "examples/python_api.py"), str(tmp_path / "out"), "0.3"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ran-baseline-1 {'all'" in done.stdout
    assert (tmp_path / "out/report.html").exists()


def test_own_dataset(tmp_path):
    start("own_dataset/run.sh", "o", cwd=tmp_path)
    faces = artefact.read(tmp_path / "o/artefacts/takes/faces.h5", "faces")
    assert (faces.rows, faces.classes) == (60, ("neutral", "happiness", "surprise"))
    assert faces.params["dataset"] == "studio"
    assert read(tmp_path / "o/scores.csv")[0]["n_total"] == "20"


def test_own_network(tmp_path):
    assert len((ROOT / "examples/own_network/grid_attention.py").read_text().splitlines()) < 80
    start("own_network/run.sh", "o", "--epochs", "1", cwd=tmp_path, PEOPLE="6", IMAGES="7")
    run = tmp_path / "o/artefacts/rendered/runs/grid-attention-1"
    assert artefact.read(run / "predictions.h5", "predictions")["attention_grid"].shape[1:] == (12, 12)
    assert all((run / f"figures/{name}.png").stat().st_size for name in ("attention",))
    assert {r["run"] for r in read(tmp_path / "o/scores.csv")} == {"grid-attention-1", "grid-attention-average-1"}
    assert "grid-attention-average-1" in (tmp_path / "o/report.html").read_text()
