#!/usr/bin/env bash
# WS-LGRN on RAF-DB (Zhang et al., IJCAI 2020): eyes and mouth located from CelebA's attributes; the network
# that requires them, first on FER2013, then on RAF-DB (Table 4).
#
#   examples/ws_lgrn_rafdb.sh CELEBA FER2013 RAFDB [options of fertool train, e.g. --gpus 1]
set -euo pipefail

celeba=$1 fer2013=$2 rafdb=$3
shift 3
workspace=${FERTOOL_WORKSPACE:-artefacts}

# stage 1: the Attention Map Generator
fertool detect-align "$celeba" --name celeba --recipe amg-celeba
fertool make-masks --data celeba
fertool train amg-celeba --data celeba "$@"

# stage 2: pre-training, then fine-tuning with a new classifier
fertool detect-align "$fer2013" --name fer2013-ws --recipe ws-lgrn-fer2013
fertool train ws-lgrn-fer2013 --data fer2013-ws "$@"

fertool detect-align "$rafdb" --name raf-ws --recipe ws-lgrn-rafdb
fertool build-subsets --data raf-ws
fertool train ws-lgrn-rafdb --data raf-ws --init "$workspace/fer2013-ws/runs/ws-lgrn-1/run.h5" "$@"

fertool eval --run "$workspace/raf-ws/runs/ws-lgrn-1" --csv table4.csv
fertool visualize confusion --run "$workspace/raf-ws/runs/ws-lgrn-1"
