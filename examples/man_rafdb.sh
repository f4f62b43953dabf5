#!/usr/bin/env bash
# MAN on RAF-DB (Gan et al., IEEE Access 2020): Table 3, its two networks one after the other and its baselines.
#
#   examples/man_rafdb.sh RAFDB [options of fertool train, e.g. --gpus 1 --init vgg_face.pth]
set -euo pipefail

rafdb=$1
shift
runs=${FERTOOL_WORKSPACE:-artefacts}/raf-man/runs

fertool detect-align "$rafdb" --name raf-man --recipe man-rafdb
fertool make-masks --data raf-man --preview man-masks.png
fertool build-subsets --data raf-man

# stage 1: where the eight regions of a face lie; stage 2: the expression, with the regions but without landmarks
fertool train rasnet-rafdb --data raf-man "$@" --init none
for variant in vgg vgg-se man; do
    fertool train man-rafdb --data raf-man --variant $variant "$@"
done

fertool eval --run "$runs/man-vgg-1" --run "$runs/man-vgg-se-1" --run "$runs/man-1" --csv table3.csv
fertool visualize curves --run "$runs/rasnet-1"
fertool visualize curves --run "$runs/man-vgg-1" --run "$runs/man-vgg-se-1" --run "$runs/man-1"
