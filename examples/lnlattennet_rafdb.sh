#!/usr/bin/env bash
# LNLAttenNet on RAF-DB (Shi et al., Machine Intelligence Research 2023): Table IV, the whole network and its three
# ablations; and how the weights of the sixteen regions of one face move while it learns (Fig. 11 and 12).
#
#   examples/lnlattennet_rafdb.sh RAFDB [options of fertool train, e.g. --gpus 1]
set -euo pipefail

rafdb=$1
shift
runs=${FERTOOL_WORKSPACE:-artefacts}/raf-lnl/runs

fertool detect-align "$rafdb" --name raf-lnl --recipe lnlattennet-rafdb
fertool build-subsets --data raf-lnl

for variant in single local non-local; do
    fertool train lnlattennet-rafdb --data raf-lnl --variant $variant "$@"
done
fertool train lnlattennet-rafdb --data raf-lnl "$@" \
    --set "train.track=[test_0001]" --set train.track_every=250

fertool eval --run "$runs/lnlattennet-single-1" --run "$runs/lnlattennet-local-1" \
    --run "$runs/lnlattennet-non-local-1" --run "$runs/lnlattennet-1" --csv table4.csv
fertool inspect "$runs/lnlattennet-1/run.h5"
fertool visualize confusion --run "$runs/lnlattennet-1"
