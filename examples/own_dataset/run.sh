#!/usr/bin/env bash
# A dataset of your own, from its files to an evaluated network.
#
#   examples/own_dataset/run.sh [FOLDER] [options of fertool train, e.g. --epochs 2]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-own_dataset}
shift || true
export FERTOOL_WORKSPACE="$folder/artefacts"

python "$here/make_takes.py" "$folder/takes"
fertool datasets check "$here/studio.py:Studio" "$folder/takes"

fertool detect-align "$folder/takes" --dataset "$here/studio.py:Studio" \
    --detector none --landmarks none --align none --size 48
fertool crop-regions --mode fixed
fertool train ran --variant baseline --epochs 3 --batch 16 \
    --set train.model.backbone=tiny --set train.model.size=32 "$@"
fertool eval --csv "$folder/scores.csv"
