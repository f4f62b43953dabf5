#!/usr/bin/env bash
# A network of your own on rendered faces: trained, evaluated, drawn and reported by the ordinary commands.
#
#   examples/own_network/run.sh [FOLDER] [options of fertool train, e.g. --epochs 2]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-own_network}
shift || true
export FERTOOL_WORKSPACE="$folder/artefacts"
export FERTOOL_PLUGINS="$here/grid_attention.py:GridAttention"   # eval, visualize and report may load it

fertool render "$folder/rendered" --people "${PEOPLE:-20}" --per-person "${IMAGES:-21}" --size 64
fertool detect-align "$folder/rendered" --detector none --landmarks none --align none --size 64

train=(fertool train "$here/grid_attention.py:GridAttention" --epochs 5 --batch 16 --lr 0.02)
"${train[@]}" "$@"
"${train[@]}" --variant average "$@"

fertool eval --run grid-attention-1 --run grid-attention-average-1 --csv "$folder/scores.csv"
fertool visualize attention --run grid-attention-1
fertool visualize confusion --run grid-attention-1 --run grid-attention-average-1
fertool report --run grid-attention-1 --run grid-attention-average-1 --out "$folder/report.html"
