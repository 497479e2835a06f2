#!/usr/bin/env bash
# Train on a Cloud TPU slice, of one host or of many:
#
#   PROJECT=my-project BUCKET_DIR=/mnt/runs experiments/launch/tpu_pod.sh create   # the slice, the code and the package
#   experiments/launch/tpu_pod.sh train                                            # the same command on every host
#   experiments/launch/tpu_pod.sh watch        # train, and after a pre-emption create the slice again and go on
#   experiments/launch/tpu_pod.sh delete
#
# To resume after a pre-emption: `create` and `train` again (`watch` does it by itself). Checkpoints, config and logs have
# to be on a disk that outlives the slice and that all hosts see: WORKDIR, on a Filestore share mounted by MOUNT.
# The hosts of a slice find each other without any flags.
set -euo pipefail

# ---- parameters: from the environment, else these ----
TPU_NAME=${TPU_NAME:-jaxgen}
PROJECT=${PROJECT:-$(gcloud config get-value project 2>/dev/null)}
ZONE=${ZONE:-us-central2-b}
ACCELERATOR=${ACCELERATOR:-v4-32}            # 32 cores: 16 chips on 4 hosts
RUNTIME=${RUNTIME:-tpu-ubuntu2204-base}
SPOT=${SPOT:-yes}                            # cheaper, and taken away at any time after a SIGTERM
MOUNT=${MOUNT:-sudo mkdir -p /mnt/runs && sudo mount -o rw 10.0.0.2:/share /mnt/runs}
WORKDIR=${WORKDIR:-/mnt/runs/dit}
CONFIG=${CONFIG:-configs/cifar10/dit.py}
FLAGS=${FLAGS:---config.model.denoiser.size=XL/2 --config.parallel.fsdp=-1 --config.data.data_dir=/mnt/runs/data}
REPOSITORY=${REPOSITORY:-$(git config --get remote.origin.url)}
PYTHON=${PYTHON:-python3.12}
ATTEMPTS=${ATTEMPTS:-100}                    # of `watch`

gcloud_tpu() { # gcloud_tpu COMMAND ARGUMENTS...
  local command=$1
  shift
  gcloud compute tpus tpu-vm "$command" "$TPU_NAME" --project="$PROJECT" --zone="$ZONE" "$@"
}

everywhere() { # everywhere COMMAND: on all hosts at once; its exit code is that of a host that failed
  gcloud_tpu ssh --worker=all --command="$1"
}

create() {
  local spot=()
  if [[ $SPOT == yes ]]; then spot=(--spot); fi
  gcloud_tpu create --accelerator-type="$ACCELERATOR" --version="$RUNTIME" "${spot[@]}"
  everywhere "$MOUNT; git clone -q $REPOSITORY jaxgen && cd jaxgen && $PYTHON -m venv .venv && .venv/bin/pip install -q '.[tpu]'"
}

train() {
  everywhere "cd jaxgen && .venv/bin/jaxgen train --config=$CONFIG --workdir=$WORKDIR $FLAGS"
}

remove() { gcloud_tpu delete --quiet; }

ready() { [[ $(gcloud_tpu describe --format='value(state)' 2>/dev/null) == READY ]]; }

watch() {
  local attempt code
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    if ! ready; then
      remove || true # what is left of a pre-empted slice has to go before its name can be used again
      create || { sleep 60; continue; }
    fi
    code=0
    train || code=$?
    case $code in
      0) exit 0 ;;
      2) echo "input that cannot be used, or a loss that diverged: not tried again" >&2; exit 2 ;;
      *) echo "attempt $attempt ended with $code: going on from the last checkpoint" >&2; sleep 30 ;;
    esac
  done
  exit "$code"
}

case ${1:-} in
  create | train | watch) "$1" ;;
  delete) remove ;;
  *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
