#!/usr/bin/env bash
# Starts a run on Google Kubernetes Engine, or any other Kubernetes, a process for each pod.
#
#   IMAGE=REGISTRY/alexnet:1 launch/gke.sh [MODULE FLAGS...]
#   IMAGE=REGISTRY/alexnet:1 launch/gke.sh alexnet_jax.main --config=configs/cifar10.py ...
#
# Build and push the image first:
#   docker build -f launch/Dockerfile --build-arg JAX_EXTRA=cuda13 -t REGISTRY/alexnet:1 .
#   docker push REGISTRY/alexnet:1
#
# What to edit, here or in the environment (the rest is in gke_jobset.yaml and k8s_job.yaml):
NAME=${NAME:-alexnet}               # of the run, its Service and its pods
NAMESPACE=${NAMESPACE:-default}
IMAGE=${IMAGE:-}                    # has to be given
PROCESSES=${PROCESSES:-2}           # pods, each on a machine of its own if it takes all its GPUs
GPUS=${GPUS:-8}                     # for each process; 0 for processors alone
CPUS=${CPUS:-16}
MEMORY=${MEMORY:-64Gi}
CLAIM=${CLAIM:-alexnet}             # a PersistentVolumeClaim that all pods can write, at /storage
PORT=${PORT:-12421}                 # of process 0; this port and the next one are used
MAX_RESTARTS=${MAX_RESTARTS:-20}    # after failures; pre-emptions are not counted
JOBSET=${JOBSET:-1}                 # 0: a plain indexed Job, where JobSet is not installed
KUBECTL=${KUBECTL:-kubectl}
DRY_RUN=${DRY_RUN:-0}               # 1 prints the manifest and the command and applies nothing
#
# This script ends when the cluster has the run; a pod gets SIGTERM from Kubernetes. To follow and
# to end it: kubectl logs --follow NAME-workers-0-0-..., kubectl delete jobset NAME. Delete an old
# run before its name is used again. The manifests agree with the schemas of JobSet (August 2026)
# and Kubernetes; they were not tried on a cluster.

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$here/common.sh"
[ $# -gt 0 ] || set -- alexnet_jax.main --config=configs/imagenet.py \
  --config.data.path=/storage/imagenet --workdir="/storage/runs/$NAME"

[ -n "$IMAGE" ] || refuse "IMAGE is not set: name the image that launch/Dockerfile built, as" \
  "IMAGE=REGISTRY/alexnet:1 launch/gke.sh"
# Names of pods are longer by up to 15 letters, and 63 is their limit.
[[ $NAME =~ ^[a-z]([-a-z0-9]{0,40}[a-z0-9])?$ ]] ||
  refuse "NAME is '$NAME': expected at most 42 small letters, digits and -, a letter first."
for variable in PROCESSES PORT; do
  [[ ${!variable} =~ ^[1-9][0-9]*$ ]] ||
    refuse "$variable is '${!variable}': expected a number, at least 1."
done
for variable in GPUS MAX_RESTARTS; do
  [[ ${!variable} =~ ^(0|[1-9][0-9]*)$ ]] || refuse "$variable is '${!variable}': expected a number."
done
for variable in NAMESPACE IMAGE CPUS MEMORY CLAIM; do
  [[ ${!variable} =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] ||
    refuse "$variable is '${!variable}': expected a plain name or number."
done

# The words of the command as a list of YAML, which is one of JSON too.
as_list() {
  local word words=()
  for word in "$@"; do
    [[ $word != *[[:cntrl:]]* ]] || refuse "a word of the command has a line break or a tab in it."
    word=${word//'$'/'$$'} # Kubernetes replaces $(NAME), and $$ by $
    word=${word//\\/\\\\}
    words+=("\"${word//\"/\\\"}\"")
  done
  local IFS=,
  printf '[%s]' "${words[*]}"
}

template=$here/gke_jobset.yaml
[ "$JOBSET" = 1 ] || template=$here/k8s_job.yaml
# shellcheck disable=SC2034 # used by their names below
ARGS=$(as_list "$@") || exit 2
# shellcheck disable=SC2034
BACKOFF_LIMIT=$(((MAX_RESTARTS + 1) * PROCESSES - 1))
manifest=$(grep -v '^#' "$template")
for variable in NAME IMAGE PROCESSES GPUS CPUS MEMORY CLAIM PORT MAX_RESTARTS BACKOFF_LIMIT ARGS; do
  manifest=${manifest//"\${$variable}"/"${!variable}"}
done

if [ "$DRY_RUN" = 1 ]; then
  printf '%s\n# %s\n' "$manifest" "$KUBECTL apply --namespace=$NAMESPACE --filename=-"
  exit 0
fi
command -v "$KUBECTL" >/dev/null || refuse "$KUBECTL is not installed: see kubernetes.io/docs/tasks/tools."
exec "$KUBECTL" apply --namespace="$NAMESPACE" --filename=- <<<"$manifest"
