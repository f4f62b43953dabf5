#!/usr/bin/env bash
# The seven stages on rendered faces, one command each: from images to evaluated predictions on two cores.
#
#   examples/quickstart.sh [FOLDER] [options of fertool train, e.g. --epochs 2]
set -euo pipefail

folder=${1:-quickstart}
shift || true
export FERTOOL_WORKSPACE="$folder/artefacts"

fertool render "$folder/rendered" --people "${PEOPLE:-40}" --size 128
fertool datasets check rendered "$folder/rendered"

fertool detect-align "$folder/rendered" --recipe ran-rendered
fertool make-masks --preview "$folder/masks.png"
fertool crop-regions --preview "$folder/regions.png"
fertool build-subsets

fertool train ran --variant baseline "$@"
fertool train ran "$@"

fertool eval --run ran-baseline-1 --run ran-1 --subset all --csv "$folder/scores.csv"
fertool visualize regions --run ran-1
fertool visualize confusion --run ran-baseline-1 --run ran-1
fertool visualize curves --run ran-baseline-1 --run ran-1
fertool report --run ran-baseline-1 --run ran-1 --out "$folder/report.html"
