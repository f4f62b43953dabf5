#!/usr/bin/env bash
# The visual-attention CNN on RaFD's five poses (Sun et al., Neurocomputing 2018): the rows of Table 5, each over the
# five folds of people that the paper lists.
#
#   examples/va_cnn_rafd.sh RAFD [options of fertool train, e.g. --gpus 1]
set -euo pipefail

rafd=$1
shift
runs=${FERTOOL_WORKSPACE:-artefacts}/rafd-pose/runs

fertool detect-align "$rafd" --name rafd-pose --recipe va-cnn-rafd-pose
fertool build-subsets --data rafd-pose --recipe va-cnn-rafd-pose

for variant in baseline gap va-cnn; do
    fertool train va-cnn-rafd-pose --data rafd-pose --variant $variant --folds all "$@"
done

fertool eval --folds --run "$runs/va-cnn-baseline-fold0-1" --run "$runs/va-cnn-gap-fold0-1" \
    --run "$runs/va-cnn-fold0-1" --csv table5.csv
