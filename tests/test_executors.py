"""Executors: the same rows from a Ray cluster of several nodes as from this machine, whatever is lost meanwhile."""

import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from ray_work import deadly, double, refusing

import fertool
from fertool import api, artefact, executors, recipe
from fertool.errors import DataError, DeviceError, UsageError
from fertool.faces.media import Sampling, named, pictures
from fertool.faces.status import HAS_IMAGE
from fertool.occlusion import classifier
from fertool.pool import WorkerDied
from fertool.settings import DetectAlign, Predict, Synthesise
from fertool.stages import evaluate, suggest_occlusion, synthesise_occlusion
from fertool.stages.predict.detection import FaceSearch, in_workers
from fertool.training.devices import Devices


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of one core each, as processes of this machine."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    yield cluster
    import ray

    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def ray_executor(cluster):
    """An executor on the cluster."""
    return executors.choose("ray", cluster.address)


def run(executor, make, arguments, n=40, chunk=4, workers=3, paths=()):
    return list(executor.process(make, arguments, iter(range(n)), workers=workers, chunk=chunk, paths=paths))


def test_all_nodes_work_and_chunks_stay_whole(ray_executor, tmp_path):
    log = tmp_path / "log"
    assert ray_executor.cores() == 3
    assert ray_executor.gpus() == []
    assert sorted(run(ray_executor, double, (log, 3))) == [(i, 2 * i) for i in range(40)]
    lines = [line.split() for line in log.read_text().splitlines()]
    workers = {int(item): pid for pid, item in lines}
    assert len(set(workers.values())) == 3
    assert all(len({workers[i] for i in range(first, first + 4)}) == 1 for first in range(0, 40, 4))


def test_no_items_start_no_worker(ray_executor, tmp_path):
    assert run(ray_executor, double, (tmp_path / "log",), n=0) == []
    assert not (tmp_path / "log").exists()


def test_a_killed_worker_is_replaced_and_its_chunk_done_again(ray_executor, tmp_path, capsys):
    assert sorted(run(ray_executor, deadly, (9, 1, tmp_path))) == [(i, 2 * i) for i in range(40)]
    assert "note: 1 worker was lost" in capsys.readouterr().err


def test_the_item_that_kills_two_workers_is_named(ray_executor, tmp_path):
    with pytest.raises(WorkerDied, match="twice") as e:
        run(ray_executor, deadly, (9, 3, tmp_path))
    assert e.value.items == [9, 10, 11]


def test_errors_of_workers_arrive(ray_executor, tmp_path):
    with pytest.raises(OSError, match="no such file") as e:
        run(ray_executor, refusing, (tmp_path,))
    assert e.value.filename == str(tmp_path / "3")
    with pytest.raises(DataError, match="absent is not there"):
        run(ray_executor, refusing, (tmp_path / "absent",))


def test_a_path_that_a_node_does_not_see_is_named_with_its_host(ray_executor, tmp_path):
    import socket

    with pytest.raises(DataError, match=f"absent is not there on {socket.gethostname()}"):
        run(ray_executor, double, (tmp_path / "log",), paths=[tmp_path / "absent"])
    assert not (tmp_path / "log").exists()


def test_another_version_on_a_node_is_refused(ray_executor, tmp_path, monkeypatch):
    monkeypatch.setattr(fertool, "__version__", "0.0.1")
    with pytest.raises(DeviceError, match=r"has fertool .*, this machine 0\.0\.1"):
        run(ray_executor, double, (tmp_path / "log",))


def test_detect_align_gives_the_same_digest_although_a_node_is_lost(cluster, ray_executor, rendered, tmp_path):
    settings = {"size": 32, "detector": "none", "landmarks": "dataset"}
    local = api.detect_align(rendered, out=tmp_path / "local.h5", **settings)
    node = cluster.add_node(num_cpus=1)
    out = tmp_path / "ray.h5"

    def lose() -> None:
        while not (partial := list(tmp_path.glob("*ray.h5*part*"))) or not partial[0].stat().st_size:
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)

    loser = threading.Thread(target=lose)
    loser.start()
    made = api.detect_align(rendered, out=out, executor="ray", ray_address=cluster.address, workers=4, **settings)
    loser.join()
    assert artefact.read(made).digest == artefact.read(local).digest


def test_occlusion_is_drawn_and_suggested_as_locally(ray_executor, faces_h5, tmp_path):
    local, cluster = executors.LocalExecutor(), ray_executor
    settings = Synthesise(severities=(0.3,), split="train")
    digests = {
        artefact.read(
            synthesise_occlusion.run(faces_h5, settings=settings, out=tmp_path / name / "faces.h5", executor=executor)
        ).digest
        for name, executor in (("local", local), ("ray", cluster))
    }
    assert len(digests) == 1
    faces = artefact.read(faces_h5)
    rows = np.flatnonzero(np.isin(faces["status"], HAS_IMAGE)).repeat(40)  # enough for workers
    results = [suggest_occlusion.guesses(classifier.shipped(), faces, rows, e) for e in (local, cluster)]
    assert (results[0] == results[1]).all()


def test_runs_are_evaluated_as_locally(ray_executor, faces_h5, tmp_path):
    faces = shutil.copy(faces_h5, tmp_path / "faces.h5")
    api.crop_regions(faces, out=tmp_path / "regions.h5")
    small = {"model": {"name": "ran", "backbone": "tiny", "size": 24}, "train_splits": ("train",), "val_split": "val"}
    run = api.train("ran", data=faces, out=tmp_path / "runs/a", epochs=1, **small)
    settings = recipe.Recipe().settings("eval", {"batch": 4})
    outputs = []
    for executor in (executors.LocalExecutor(), ray_executor):
        made = evaluate.run(run, settings=settings, devices=Devices("cpu"), executor=executor, overwrite=True)
        predictions = artefact.read(made)
        outputs.append({name: np.array(predictions[name]) for name in predictions.stored})
    assert len(outputs[0]["logits"]) > 8
    for name, column in outputs[0].items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(column, outputs[1][name], atol=1e-5)
        else:
            assert (column == outputs[1][name]).all()


def test_faces_of_images_come_in_order_as_locally(ray_executor, rendered):
    stream = list(pictures(named([str(rendered / "images")]), Sampling()))
    search = FaceSearch(DetectAlign(detector="dlib-hog", size=32), Predict(), False, "cpu")
    results = [
        list(in_workers(search, stream, 2, (), executor)) for executor in (executors.LocalExecutor(), ray_executor)
    ]
    names = [[seen.picture.name for seen in result] for result in results]
    assert names[0] == names[1] == [picture.name for picture in stream]
    pixels = [[face.pixels for seen in result for face in seen.faces] for result in results]
    assert len(pixels[0]) > 60
    assert all((a == b).all() for a, b in zip(*pixels, strict=True))


def test_a_variable_chooses_the_executor(monkeypatch):
    monkeypatch.setenv(executors.VARIABLE, "rya")
    with pytest.raises(UsageError, match="no executor 'rya'") as e:
        executors.choose()
    assert "ray" in e.value.hint
    monkeypatch.setenv(executors.VARIABLE, "local")
    assert isinstance(executors.choose(), executors.LocalExecutor)
    with pytest.raises(UsageError, match="no use with the local executor"):
        executors.choose(None, "localhost:6379")


def test_an_address_where_nothing_listens_is_one_line(rendered, tmp_path):
    command = [sys.executable, "-m", "fertool", "detect-align", str(rendered), "--out", str(tmp_path / "faces.h5")]
    result = subprocess.run(
        [*command, "--executor", "ray", "--ray-address", "127.0.0.1:9"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 5
    assert result.stderr.splitlines()[-2] == "error: nothing listens at 127.0.0.1:9: Connection refused"
    result = subprocess.run(
        [*command, "--executor", "ray", "--ray-address", "nowhere"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2


def test_without_ray_the_extra_is_named(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError")
    script = "from fertool import executors\nexecutors.choose('ray').cores()"
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.pathsep.join(sys.path)}"},
    )
    assert "DeviceError: Ray is not installed" in result.stderr
