"""Slurm allocations and torchrun: who starts the processes, and that they train, or align faces, like one."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import layouts
import numpy as np
import pytest
import toy

from fertool import artefact
from fertool.launch import is_first_process, launch

SCRIPTS = Path(__file__).parents[2] / "examples/slurm"

#: what sbatch sets in its script, with no process started by srun
BATCH = {
    "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
    "SLURM_NNODES": "1", "SLURM_JOB_NAME": "fertool",
}  # fmt: skip

#: srun as far as one machine can play it: SLURM_NNODES nodes, SLURM_NTASKS_PER_NODE tasks on each, a step's variables
SRUN = """#!/usr/bin/env bash
nodes=$SLURM_NNODES each=$SLURM_NTASKS_PER_NODE
while [[ $1 = -* ]]; do shift; done
export SLURM_STEP_ID=0 SLURM_STEP_NODELIST="127.0.0.[1-$nodes]" SLURM_STEP_TASKS_PER_NODE="$each(x$nodes)"
export SLURM_STEP_NUM_TASKS=$((nodes * each)) SLURM_NTASKS=$((nodes * each))
pids=()
for ((i = 0; i < nodes * each; i++)); do
    SLURM_PROCID=$i SLURM_LOCALID=$((i % each)) SLURM_NODEID=$((i / each)) "$@" &
    pids+=($!)
done
echo "${pids[@]}" > "$PIDS"
code=0
trap 'kill "${pids[@]}"' TERM
for pid in "${pids[@]}"; do
    wait $pid || code=$?
    while kill -0 $pid 2>/dev/null; do wait $pid; done  # a signal has ended the first wait
done
exit $code
"""

TRAIN = (
    "--set", "train.model.backbone=tiny", "--set", "train.model.size=24", "--epochs", "2", "--batch", "16",
    "--lr", "0.005",
)  # fmt: skip


@pytest.fixture
def cluster(tmp_path):
    """A workspace with faces `toy`, a path with stand-ins of Slurm's commands, an environment without launcher."""
    toy.write_all(tmp_path / "artefacts/toy", train=39, test=17)
    commands = tmp_path / "bin"
    commands.mkdir()
    fertool = f'#!/usr/bin/env bash\nexec {sys.executable} -m fertool "$@"\n'
    scancel = '#!/usr/bin/env bash\nkill -TERM $(cat "$PIDS")\n'
    scontrol = '#!/usr/bin/env bash\necho "$@" > "$PIDS.requeued"\n'
    for name, text in {"srun": SRUN, "fertool": fertool, "scancel": scancel, "scontrol": scontrol}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "TORCHELASTIC", "MASTER_"))}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        outside.pop(name, None)
    return {
        **outside,
        "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "FERTOOL_WORKSPACE": str(tmp_path / "artefacts"),
        "PIDS": str(tmp_path / "pids"),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }


def execute(environment, *words, ok=True, **more) -> str:
    """Run a command with further variables; return its stderr."""
    done = subprocess.run([*map(str, words)], env={**environment, **more}, capture_output=True, text=True, timeout=300)
    assert (done.returncode == 0) == ok, done.stderr[-3000:]
    return done.stderr


def run_of(environment, name):
    return artefact.read(Path(environment["FERTOOL_WORKSPACE"]) / "toy/runs" / name / "run.h5", "run")


def assert_like_one(environment, name):
    """The weights are those of one process, up to rounding; a step moves them by 0.01."""
    execute(environment, "fertool", "train", "ran", "--data", "toy", "--gpus", "0", *TRAIN)
    one, other = toy.weights(run_of(environment, "ran-1")), toy.weights(run_of(environment, name))
    for key, values in one.items():
        assert np.allclose(other[key], values, atol=1e-4), key


def assert_printed_once(stderr, where):
    assert len(re.findall(r"faces to train on", stderr)) == 1, stderr
    assert where in stderr
    assert len(re.findall(r"^ +epoch ", stderr, re.M)) == 1, stderr


@pytest.mark.parametrize("more", [{}, {"SLURM_NTASKS_PER_NODE": "1"}, {"SLURM_JOB_NAME": "bash"}])
def test_batch_script_spawns_the_processes(cluster, more):
    script = SCRIPTS / "train_one_node.sbatch"
    stderr = execute(cluster, "bash", script, "ran", "toy", *TRAIN, "--cpu-processes", 2, **{**BATCH, **more})
    assert_printed_once(stderr, "2 × cpu")
    if not more:
        assert_like_one(cluster, "ran-slurm-4711")


def test_tasks_of_two_nodes_train_like_one(cluster):
    script = SCRIPTS / "train_several_nodes.sbatch"
    nodes = {**BATCH, "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "1"}
    stderr = execute(cluster, "bash", script, "ran", "toy", *TRAIN, **nodes)
    assert_printed_once(stderr, "2 × cpu")
    assert_like_one(cluster, "ran-slurm-4711")


def test_ray_on_two_nodes_aligns_like_one_machine(cluster, tmp_path):
    layouts.write_folder(tmp_path / "images", per_class=4)
    words = (tmp_path / "images", "--detector", "none", "--landmarks", "none", "--align", "none", "--size", "32")
    execute(cluster, "fertool", "detect-align", *words, "--name", "one")
    nodes = {**BATCH, "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURMD_NODENAME": socket.gethostname()}
    script = SCRIPTS / "detect_align_on_ray.sbatch"
    stderr = execute(cluster, "bash", script, *words, "--name", "two", **nodes)
    assert "ray: " in stderr, stderr
    one, two = (artefact.read(tmp_path / "artefacts" / name / "faces.h5", "faces") for name in ("one", "two"))
    assert one.digest == two.digest
    assert not [pid for pid in Path(cluster["PIDS"]).read_text().split() if Path("/proc", pid).exists()]


def test_other_number_of_tasks_is_refused(cluster):
    words = ("srun", "fertool", "train", "ran", "--data", "toy", "--gpus", 0, *TRAIN)
    stderr = execute(cluster, *words, ok=False, **{**BATCH, "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "2"})
    assert "error: srun started 2 processes on 1 node; --cpu-processes 1 --nodes 1 needs 1 on each of 1" in stderr
    assert "hint: add --cpu-processes 2 --nodes 1, or start it with srun --nodes 1 --ntasks-per-node 1" in stderr
    assert "bug" not in stderr


def test_torchrun_on_two_machines_trains_like_one_and_one_process_resumes(cluster):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = Path(cluster["FERTOOL_WORKSPACE"]) / "toy/runs/two"
    machines = [
        subprocess.Popen(
            [
                sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(i),
                "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "fertool",
                "train", "ran", "--data", "toy", "--gpus", "0", "--nodes", "2", "--out", str(out), *TRAIN,
            ],
            env=cluster, stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    said = [machine.communicate(timeout=300)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert_printed_once("".join(said), "2 × cpu")
    assert_like_one(cluster, "two")
    longer = ("--epochs", "3", "--resume", "--out", out)
    execute(cluster, "fertool", "train", "ran", "--data", "toy", "--gpus", "0", *TRAIN, *longer)
    assert len(run_of(cluster, "two")["history/loss"]) == 3


def test_first_process(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert launch() is None
    assert is_first_process(), "inside an allocation nothing has been started"
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "5")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "2(x2),1")
    assert launch().layout == (2, 2, 1)
    assert not is_first_process()
