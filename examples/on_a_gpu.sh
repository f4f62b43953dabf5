#!/usr/bin/env bash
# What a machine with one GPU should do first, the most valuable steps first. Steps that are done are skipped, a cut
# training is resumed, a step that fails is reported and the next one begins: call it until all is done.
#
#   examples/on_a_gpu.sh prepare FERPLUS RAN_LISTS [FOLDER]     where fertool is installed: everything to carry there
#   examples/on_a_gpu.sh [FOLDER [STEP ...]]                    on the machine with the GPU (FOLDER: gpu)
#
# That machine needs Python 3.11 or newer, torch, torchvision, lightning, h5py, OpenCV, pandas and matplotlib; what else
# is missing comes from FOLDER/wheels. It needs no network, no dlib and no facenet-pytorch. Results: FOLDER/results.
#
# Environment variables, with what they are otherwise:
#   MINUTES=20           of one step in one call; a training is saved then, and resumed by the next call
#   CALL_MINUTES         of the whole call (no limit)
#   EPOCHS, BATCH        of the two trainings by the paper's recipe (the recipe's: 40 and 128)
#   IMAGE_SIZE=224       side of a region at the network, in pixels
#   PRECISION=32         of the trainings; bf16 is faster
#   STEPS=100            optimiser steps of the smoke trainings, and 1/10 as many in a turn of the timed ones
#   TIMED_BATCH=32       faces per timed step; each of ten processes holds one such step's memory (6 GB at 224 pixels)
#   TIMED_OPTIONS        of tests/bench/train_step.py (--switches --workers 2 8)
#   EVAL_OPTIONS         of tests/bench/eval_speed.py (--precision 32 bf16 --batch 64 256)
#   DLIB_SIZE=150, DLIB_EPOCHS=6, VARIANTS="baseline ran self relation average concat", SEEDS=0
#                        of the trainings that start from dlib's weights
#   TRAIN_OPTIONS        more options of every fertool train, e.g. "--set train.compile=true"
#   DEVICE               cuda or cpu (cuda, if there is a GPU)
#   PYTHON=python3
#   LIMIT, PYTHONS       prepare: at most so many images (all); Python versions to bring wheels for (3.11 3.12 3.13)
set -u

root=$(cd "$(dirname "$0")/.." && pwd) || exit
python=${PYTHON:-python3}
recipe=ran-ferplus
carried=(captum tqdm jinja2 pyyaml pydantic safetensors filelock scipy 'typer>=0.20')  # and what these require

die() {
    echo "error: $1" >&2
    exit "${2:-2}"
}

use() {  # FOLDER: work there
    folder=$(cd "$1" && pwd) || exit
    export FERTOOL_WORKSPACE=$folder/artefacts PYTHONPATH=$root:$folder/site${PYTHONPATH:+:$PYTHONPATH}
    runs=$FERTOOL_WORKSPACE/ferplus/runs
    results=$folder/results
}

# ------------------------------------------------------------------------------------------------------------ prepare

prepare() {  # FERPLUS RAN_LISTS [FOLDER]
    [[ $# -ge 2 ]] || die "prepare needs the FERPlus folder and the folder of RAN's lists"
    local ferplus lists limit=() version options
    ferplus=$(realpath -e "$1") && lists=$(realpath -e "$2") || exit
    mkdir -p "${3:-gpu}/wheels" && use "${3:-gpu}" || exit
    [[ -n ${LIMIT:-} ]] && limit=(--limit "$LIMIT")

    "$python" -m fertool detect-align "$ferplus" --name ferplus --recipe "$recipe" "${limit[@]}" || exit
    "$python" -m fertool crop-regions --data ferplus || exit
    "$python" -m fertool build-subsets --data ferplus --lists "$lists" || exit
    "$python" - "$folder" <<'PYTHON' || exit
import shutil, sys
from fertool.backbones.dlib_resnet import weights_file
shutil.copy(weights_file().path, sys.argv[1])
PYTHON
    for version in ${PYTHONS-3.11 3.12 3.13}; do
        options=(--quiet --only-binary=:all: --python-version "$version" --dest "$folder/wheels")
        options+=(--platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64)
        "$python" -m pip download "${options[@]}" "${carried[@]:1}" || exit
        "$python" -m pip download "${options[@]}" --no-deps "${carried[0]}" || exit
    done
    du -sh "$folder"/*
    echo "carry $folder and $root, then there: examples/on_a_gpu.sh $(basename "$folder")"
}

install_wheels() {  # where a package is missing: all of them, in a folder of their own
    "$python" -c 'import sys
from importlib.util import find_spec
sys.exit(any(find_spec(name) is None for name in sys.argv[1:]))' \
        captum jinja2 yaml pydantic safetensors filelock scipy typer && return
    local options=(--quiet --no-index --find-links "$folder/wheels" --target "$folder/site" --upgrade)
    if ! "$python" -m pip install "${options[@]}" "${carried[@]:1}" ||
        ! "$python" -m pip install "${options[@]}" --no-deps "${carried[0]}"; then
        die "the wheels of $folder/wheels do not fit $("$python" -V); prepare with PYTHONS=... for it"
    fi
}

# ------------------------------------------------------------------------------------------------- how a step is run

child="" stopped="" deadline=0

run() {  # COMMAND ...: run it within what is left of the step's time; 124 if it had to be stopped
    local left=$((deadline - SECONDS)) code
    [[ -z $stopped ]] || return 130
    ((left > 0)) || return 124
    timeout --kill-after=60 "$left" "$@" &
    child=$!
    while :; do  # a signal ends the waiting, not the command, which saves first
        wait "$child"
        code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    child=""
    return "$code"
}

fertool() {
    run "$python" -m fertool "$@"
}

bench() {  # NAME [OPTION ...]
    run "$python" "$root/tests/bench/$1.py" "${@:2}"
}

is_done() {  # STEP ...
    local step
    for step; do [[ -e $results/$step/done ]] || return 1; done
}

train() {  # RUN [OPTION ...]: train it, or resume it
    local resume=() extra
    [[ -e $runs/$1/run.h5 ]] && resume=(--resume)
    read -ra extra <<<"${TRAIN_OPTIONS:-}"
    fertool train "$recipe" --data ferplus --out "$runs/$1" --precision "${PRECISION:-32}" \
        --set train.checkpoint_minutes=2 "${resume[@]}" "${extra[@]}" "${@:2}"
}

score() {  # TABLE RUN ...: accuracy on all faces and on the subsets
    local named=() name
    for name in "${@:2}"; do named+=(--run "$runs/$name"); done
    fertool eval "${named[@]}" --subset all --csv "$results/$1.csv"
}

report() {  # PAGE RUN ...
    local named=() name
    for name in "${@:2}"; do named+=(--run "$runs/$name"); done
    fertool report "${named[@]}" --out "$results/$1.html"
}

# ----------------------------------------------------------------------------------------------------------- the steps

perform() {  # STEP: 75 if it has to wait for others
    local steps=${STEPS:-100} size=${IMAGE_SIZE:-224} timed paper=() dlib variant options seeded
    timed=(--device "$device" --batch "${TIMED_BATCH:-32}" --size "$size" --steps "$((steps / 10 + 1))")
    timed+=(--json "$results/$1.json")
    [[ -n ${EPOCHS:-} ]] && paper+=(--epochs "$EPOCHS")
    [[ -n ${BATCH:-} ]] && paper+=(--batch "$BATCH")
    paper+=(--set "train.model.size=$size")
    case $1 in
    doctor)
        nvidia-smi || true
        fertool doctor
        ;;
    smoke)  # both networks a few steps long, and evaluated
        for variant in baseline ran; do
            train "smoke-$variant" --variant "$variant" "${paper[@]}" --set "train.iterations=$steps" || return
        done
        score "$1" smoke-baseline smoke-ran
        ;;
    step-times)  # fertool's step beside a loop over crops, precisions, torch.compile
        read -ra options <<<"${TIMED_OPTIONS---switches --workers 2 8}"
        bench train_step "${timed[@]}" "${options[@]}"
        ;;
    train-baseline | train-ran)
        train "ferplus-${1#train-}" --variant "${1#train-}" "${paper[@]}"
        ;;
    scores)
        is_done train-baseline train-ran || return 75
        score "$1" ferplus-baseline ferplus-ran && report "$1" ferplus-baseline ferplus-ran
        ;;
    eval-speed)
        is_done smoke || return 75
        read -ra options <<<"${EVAL_OPTIONS---precision 32 bf16 --batch 64 256}"
        bench eval_speed "$runs/smoke-ran" "${options[@]}" --json "$results/$1.json"
        ;;
    share-gpu)  # two trainings on the one GPU
        bench share_gpu "${timed[@]}" --precision "${PRECISION:-32}"
        ;;
    dlib-scores)
        options=()
        for seeded in ${SEEDS:-0}; do
            for variant in $variants; do
                is_done "dlib-$variant-$seeded" || return 75
                options+=("dlib-$variant-$seeded")
            done
        done
        score "$1" "${options[@]}" && report "$1" "${options[@]}"
        ;;
    dlib-*-*)  # dlib's face recognition weights
        dlib=(--init "$folder/dlib_face_recognition_resnet_model_v1.dat" --epochs "${DLIB_EPOCHS:-6}" --batch 64)
        dlib+=(--set train.model.backbone=dlib-resnet29 --set "train.model.size=${DLIB_SIZE:-150}")
        dlib+=(--lr 0.00005 --set train.optimizer=adam --set train.weight_decay=0)
        dlib+=(--set train.lr_unit=fraction --set "train.lr_milestones=[0.6,0.85]")
        variant=${1#dlib-}
        train "$1" --variant "${variant%-*}" --seed "${1##*-}" "${dlib[@]}"
        ;;
    *) return 2 ;;
    esac
}

attempt() {  # STEP: perform it, keep its log, mark it done or say how it ended
    local log=$results/$1/log.txt began=$SECONDS code state
    mkdir -p "$results/$1"
    echo "$(date +%T) $1"
    deadline=$((SECONDS + step_seconds))
    ((deadline <= end)) || deadline=$end
    echo "--- $(date)" >>"$log"
    perform "$1" >>"$log" 2>&1
    code=$?
    case $code in
    0) state='done' ;;
    75) state='waiting' ;;
    124) state='cut' ;;
    *) state=${stopped:+stopped} ;;
    esac
    if [[ -z $state ]]; then
        state="failed ($code)"
        tail -n 3 "$log" >&2
    fi
    printf '%s\t%d\n' "$state" "$((SECONDS - began))" >>"$results/$1/attempts"
    [[ $state != 'done' ]] || touch "$results/$1/done"
}

summary() {  # a line for every step: how it ended, the seconds of all attempts, the last line of its log
    local step state seconds
    printf '%-18s %-12s %8s  %s\n' step state seconds "last line of its log"
    for step in "${all[@]}"; do
        state=- seconds=0
        if [[ -e $results/$step/attempts ]]; then
            state=$(tail -n 1 "$results/$step/attempts" | cut -f 1)
            seconds=$(awk -F '\t' '{ sum += $2 } END { print sum }' "$results/$step/attempts")
        fi
        is_done "$step" && state='done'
        printf '%-18s %-12s %8s  %s\n' "$step" "$state" "$seconds" \
            "$(grep -Esv '^(→.*|[[:space:]]*)$' "$results/$step/log.txt" | tail -n 1 | tr -d '\r' | cut -c 1-100)"
    done
}

# ---------------------------------------------------------------------------------------------------------------- main

if [[ ${1:-} == prepare ]]; then
    prepare "${@:2}"
    exit
fi

[[ -d ${1:-gpu} ]] || die "there is no folder ${1:-gpu}; make it with: examples/on_a_gpu.sh prepare FERPLUS RAN_LISTS"
use "${1:-gpu}"
shift || true
[[ -e $FERTOOL_WORKSPACE/ferplus/faces.h5 ]] || die "$folder has no artefacts/ferplus/faces.h5; prepare it first"

variants=${VARIANTS:-baseline ran self relation average concat}
all=(doctor smoke step-times train-baseline train-ran scores eval-speed share-gpu)
for seed in ${SEEDS:-0}; do
    for variant in $variants; do all+=("dlib-$variant-$seed"); done
done
all+=(dlib-scores)
steps=("$@")
(($#)) || steps=("${all[@]}")
for step in "${steps[@]}"; do
    [[ " ${all[*]} " == *" $step "* ]] || die "there is no step $step; steps: ${all[*]}"
done

mkdir -p "$results"
exec 9>>"$results/.lock"
flock -n 9 || die "another call is at work in $folder"
install_wheels
device=${DEVICE:-$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')} || exit
[[ $device == cpu ]] && export CUDA_VISIBLE_DEVICES=
step_seconds=$(awk "BEGIN { print int(60 * ${MINUTES:-20}) }")
end=$(awk "BEGIN { print int(60 * ${CALL_MINUTES:-1000000}) }")

trap 'stopped=yes; [[ -z $child ]] || kill -TERM "$child"' INT TERM
failed=0
for step in "${steps[@]}"; do
    is_done "$step" && continue
    if [[ -n $stopped ]] || ((SECONDS >= end)); then break; fi
    attempt "$step"
done
trap - INT TERM
summary | tee "$results/summary.txt"
[[ -z $stopped ]] || exit 130
for step in "${steps[@]}"; do is_done "$step" || failed=1; done
exit "$failed"
