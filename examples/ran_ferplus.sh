#!/usr/bin/env bash
# RAN on FERPlus (Wang et al., TIP 2020): Table II (occlusion and head pose) and Table IV (ablation, with and without
# alignment), from a FERPlus folder and the folder of the authors' released lists.
#
#   examples/ran_ferplus.sh FERPLUS RAN_LISTS [options of fertool train, e.g. --gpus 2 --init msceleb.pth]
set -euo pipefail

ferplus=$1
lists=$2
shift 2

# aligned faces, and the pictures as they are ("align off" in Table IV)
fertool detect-align "$ferplus" --name ferplus --recipe ran-ferplus
fertool detect-align "$ferplus" --name ferplus-unaligned --recipe ran-ferplus-unaligned

for data in ferplus ferplus-unaligned; do
    fertool crop-regions --data $data
    fertool build-subsets --data $data --lists "$lists"
    for variant in baseline self relation ran; do
        fertool train ran --data $data --variant $variant "$@"
    done
done

# Table II: the whole system beside its baseline, on all faces, occluded ones and turned ones
runs=${FERTOOL_WORKSPACE:-artefacts}/ferplus/runs
fertool eval --run "$runs/ran-baseline-1" --run "$runs/ran-1" \
    --subset occlusion --subset pose30 --subset pose45 --csv table2.csv

# Table IV: every row, aligned and not
for data in ferplus ferplus-unaligned; do
    runs=${FERTOOL_WORKSPACE:-artefacts}/$data/runs
    fertool eval --run "$runs/ran-baseline-1" --run "$runs/ran-self-1" --run "$runs/ran-relation-1" \
        --run "$runs/ran-1" --csv "table4-$data.csv"
done

# Figure 6: which regions count, without and with the region-biased loss
runs=${FERTOOL_WORKSPACE:-artefacts}/ferplus/runs
fertool visualize regions --run "$runs/ran-relation-1" --run "$runs/ran-1" --subset occlusion
fertool visualize confusion --run "$runs/ran-baseline-1" --run "$runs/ran-1" --subset occlusion
