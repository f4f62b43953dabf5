"""Worker processes: every item once, errors as they were, and a name for what killed a worker."""

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from fertool import pool
from fertool.errors import DataError


def squarer(offset):
    return lambda items: (item * item + offset for item in items)


def careless(_):
    def work(items):
        for item in items:
            if item == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

    return work


def fussy(_):
    def work(items):
        for item in items:
            if item == 7:
                raise DataError("seven is not wanted", "take another")
            yield item

    return work


def leaver(_):
    raise SystemExit(3)


def sleeper(folder):
    def work(items):
        (Path(folder) / str(os.getpid())).touch()
        return (time.sleep(0.01) or item for item in items)

    return work


def visible_gpu(_):
    name = os.environ.get("CUDA_VISIBLE_DEVICES")

    def work(items):
        time.sleep(0.5)  # the other workers get a chunk too
        return [(os.getpid(), name) for _ in items]

    return work


def gather(results, into):
    for item, _ in results:
        into.append(item)


def test_workers_take_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    gpus = ["3", "GPU-1b"]
    seen = {r for _, r in pool.process(visible_gpu, (1,), range(4), workers=4, chunk=1, gpus=gpus)}
    assert len(seen) == 4
    assert sorted(name for _, name in seen) == ["3", "3", "GPU-1b", "GPU-1b"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


def test_every_item_once():
    with closing(pool.process(squarer, (1,), iter(range(100)), workers=2, chunk=7)) as results:
        assert sorted(results) == [(i, i * i + 1) for i in range(100)]
    assert list(pool.process(squarer, (1,), [], workers=2, chunk=7)) == []


def test_a_killed_worker_is_named_with_what_it_was_at():
    done = []
    with pytest.raises(pool.WorkerDied) as caught:
        gather(pool.process(careless, (0,), range(10), workers=1, chunk=5), done)
    assert done == [0, 1, 2, 3, 4, 5, 6]
    assert caught.value.items == [7, 8, 9]
    assert caught.value.how == "signal 9, SIGKILL"
    assert caught.value.exit_code == 3
    assert "close other programs" in caught.value.hint


def test_an_error_in_a_worker_comes_home():
    with pytest.raises(DataError, match="seven is not wanted") as caught:
        list(pool.process(fussy, (0,), range(10), workers=2, chunk=2))
    assert caught.value.hint == "take another"
    assert "test_pool.py" in caught.value.__notes__[0]  # where it was raised
    with pytest.raises(pool.WorkerDied, match="exit code 3"):
        list(pool.process(leaver, (0,), range(3), workers=1, chunk=1))


def test_workers_end_with_their_caller(tmp_path):
    results = pool.process(sleeper, (str(tmp_path),), range(1000), workers=2, chunk=3)
    with closing(results):
        for _ in range(50):
            next(results)
        running = [int(p.name) for p in tmp_path.iterdir()]
        assert len(running) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in running)
    assert not any(Path(f"/proc/{pid}").exists() for pid in running)


def threaded(name):
    return lambda items: (os.environ.get(name) for _ in items)


def test_numpy_has_one_thread_in_a_worker_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    told = {name: set() for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    for name, values in told.items():
        values.update(value for _, value in pool.process(threaded, (name,), range(4), workers=2, chunk=1))
    assert told == {"OPENBLAS_NUM_THREADS": {"1"}, "OMP_NUM_THREADS": {"3"}}
    assert "OPENBLAS_NUM_THREADS" not in os.environ
