#!/usr/bin/env bash
# A run on the workers of a Cloud TPU VM, a process on each.
#
#   launch/tpu_vm.sh setup            # copies the last commit to all workers and installs it
#   launch/tpu_vm.sh run COMMAND...   # starts the command on all and shows their output
#   launch/tpu_vm.sh stop             # SIGTERM to all, SIGKILL to what is left after STOP_SECONDS
#   launch/tpu_vm.sh status           # what runs on each worker
#
#   launch/tpu_vm.sh run .venv/bin/python -m alexnet_jax.main --workdir=gs://BUCKET/RUN \
#     --config=configs/imagenet.py
#
# What to edit, here or in the environment:
TPU_NAME=${TPU_NAME:-}                 # has to be given, as does the zone
ZONE=${ZONE:-}
PROJECT=${PROJECT:-}                   # unset: gcloud's own setting
REMOTE_DIR=${REMOTE_DIR:-alexnet}      # the project's folder on the workers, seen from the home
PYTHON_VERSION=${PYTHON_VERSION:-3.11} # which uv installs; that of the machines may be older
GRACE=${GRACE:-45}                     # seconds that the others get after a failure
STOP_SECONDS=${STOP_SECONDS:-120}      # from SIGTERM to SIGKILL, for a checkpoint
GCLOUD=${GCLOUD:-gcloud}
DRY_RUN=${DRY_RUN:-0}                  # 1 prints the commands and does nothing
#
# The processes find each other through the TPU (ALEXNET_CLUSTER=tpu is set). SIGTERM and Ctrl-C
# become SIGTERM on all workers. Lines of output begin with [HOST]; after a failure the worker that
# began it is named and its exit code returned. If this script itself is killed, or the connection
# is lost, the workers go on: `stop` ends them. Tried with a stand-in for gcloud, not on a TPU.

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$here/common.sh"
pid_file=$here/../tpu_vm.pid

usage() {
  echo "usage: launch/tpu_vm.sh setup | run COMMAND... | stop | status" >&2
  exit 2
}

# On a worker.

# The pid of the run here; fails if there is none.
running() {
  local pid
  pid=$(cat "$pid_file" 2>/dev/null) && kill -0 "$pid" 2>/dev/null && echo "$pid"
}

worker_setup() { # PYTHON_VERSION
  local jax
  cd "$here/.." || exit 1
  jax=$(sed -n 's/^jax==/jax[tpu]==/p' requirements.txt)
  python3 -m pip install --user --quiet uv &&
    python3 -m uv venv --quiet --allow-existing --python "$1" .venv &&
    python3 -m uv pip install --quiet --python .venv/bin/python -r requirements.txt "$jax" &&
    say "ready on $HOSTNAME"
}

worker_run() {
  local code pid
  running >/dev/null &&
    refuse "a run is going on on $HOSTNAME: end it with launch/tpu_vm.sh stop"
  cd "$here/.." || exit 1
  open_marked "$HOSTNAME"
  set -m
  ALEXNET_CLUSTER=tpu "$@" </dev/null 1>&"$out" 2>&"$err" &
  pid=$!
  echo "$pid" >"$pid_file"
  echo "$program: worker $HOSTNAME starts"
  exec {out}>&- {err}>&-
  exec {message_fd}>&2 2>/dev/null # without bash's own line on a killed child
  while kill -0 "$pid"; do # wait would return when the process is stopped, too
    sleep 0.2
  done
  wait "$pid"
  code=$?
  rm -f "$pid_file"
  wait "${markers[@]}"
  echo "$program: worker $HOSTNAME ended with code $code"
  exit "$code"
}

worker_stop() { # SECONDS: 0 kills at once
  local pid deadline=$((SECONDS + $1))
  pid=$(running) || { say "nothing runs on $HOSTNAME"; return; }
  [ "$1" -eq 0 ] || kill -TERM -- "-$pid"
  while kill -0 "$pid" 2>/dev/null; do
    if is_stopped "$pid" || [ "$SECONDS" -ge "$deadline" ]; then
      say "$(worker_status) and does not end: killing it"
      kill -KILL -- "-$pid"
      break
    fi
    sleep 0.2
  done
  say "ended on $HOSTNAME"
}

worker_status() {
  local pid
  if ! pid=$(running); then
    echo "$HOSTNAME: nothing runs"
  elif is_stopped "$pid"; then
    echo "$HOSTNAME: process $pid is stopped"
  else
    echo "$HOSTNAME: process $pid runs"
  fi
}

# Here.

tpu_vm() {
  local words=("$GCLOUD" compute tpus tpu-vm "$@" "--zone=$ZONE" --worker=all)
  [ -z "$PROJECT" ] || words+=("--project=$PROJECT")
  if [ "$DRY_RUN" = 1 ]; then
    quote "${words[@]}" && echo
  else
    "${words[@]}" </dev/null
  fi
}

# WORDS: tpu_vm.sh with them, on every worker.
on_workers() {
  tpu_vm ssh "$TPU_NAME" \
    "--command=cd $(quote "$REMOTE_DIR") && exec bash launch/tpu_vm.sh worker $(quote "$@")"
}

setup() {
  local folder code=0
  folder=$(mktemp -d)
  if [ "$DRY_RUN" = 1 ]; then
    echo "git -C $(quote "$here/..") archive --output=alexnet.tar.gz HEAD"
  else
    git -C "$here/.." archive --output="$folder/alexnet.tar.gz" HEAD ||
      refuse "the project is no git checkout: setup copies its last commit."
  fi
  tpu_vm scp "$folder/alexnet.tar.gz" "$TPU_NAME:alexnet.tar.gz" &&
    tpu_vm ssh "$TPU_NAME" \
      "--command=mkdir -p $(quote "$REMOTE_DIR") && tar -xzf alexnet.tar.gz -C $(quote "$REMOTE_DIR")" &&
    on_workers setup "$PYTHON_VERSION" || code=1
  rm -rf "$folder"
  exit "$code"
}

run() {
  local pipe line partial="" deadline="" lines gcloud_pid code
  local asked="" started=""
  number=0
  if [ "$DRY_RUN" = 1 ]; then
    on_workers run "$@"
    echo "# at SIGTERM:"
    on_workers stop "$STOP_SECONDS"
    exit
  fi
  pipe=$(mktemp -d) || refuse "no temporary folder can be made: set TMPDIR to one that exists."
  mkfifo "$pipe/lines"
  trap 'asked=1' TERM INT HUP
  set -m # Ctrl-C at a terminal is for this script alone
  on_workers run "$@" >"$pipe/lines" 2>&1 &
  gcloud_pid=$!
  exec {lines}<"$pipe/lines"
  rm -rf "$pipe"
  while :; do
    if read -r -t 1 line <&"$lines"; then
      line=$partial$line partial=""
      printf '%s\n' "$line"
      [[ $line != "$program: worker "*" starts" ]] || started=1
      note_end "$line"
      [ "${#ended[@]}" -eq 0 ] || [ "${codes[-1]}" -eq 0 ] ||
        deadline=${deadline:-$((SECONDS + GRACE))}
    elif [ $? -le 128 ]; then
      break
    else
      partial+=$line
    fi
    if [ -n "$asked" ] && [ -n "$started" ]; then # before, it would reach nobody
      asked=""
      say "SIGTERM to all workers"
      on_workers stop "$STOP_SECONDS" >&2 &
    fi
    if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
      say "not all workers ended within $GRACE seconds of the first failure: killing the rest"
      overdue_from=$number deadline=$((SECONDS + 600))
      on_workers stop 0 &
    fi
  done
  wait "$gcloud_pid"
  code=$?
  wait
  find_cause
  [ -z "$cause" ] || conclude
  [ "$code" -eq 0 ] || say "gcloud ended with code $code, and no worker told of a failure"
  exit "$code"
}

# LINE: if it is a worker's last one, its end is kept.
note_end() {
  [[ $1 =~ ^tpu_vm\.sh:\ worker\ ([^ ]+)\ ended\ with\ code\ ([0-9]+)$ ]] || return
  names[number]="worker ${BASH_REMATCH[1]}"
  codes[number]=${BASH_REMATCH[2]}
  ended+=("$number")
  [ -z "${overdue_from:-}" ] || overdue[number]=1
  number=$((number + 1))
}

[ $# -gt 0 ] || usage
step=$1
shift
if [ "$step" = worker ]; then
  case ${1:-} in
    setup | run | stop | status) "worker_$1" "${@:2}" ;;
    *) usage ;;
  esac
  exit
fi
case $step,$# in
  setup,0 | stop,0 | status,0 | run,[1-9]*) ;;
  *) usage ;;
esac
if [ -z "$TPU_NAME" ] || [ -z "$ZONE" ]; then
  refuse "TPU_NAME and ZONE have to be set, as in TPU_NAME=alexnet ZONE=us-central2-b $0 $step"
fi
[[ $GRACE$STOP_SECONDS =~ ^[0-9]+$ ]] ||
  refuse "GRACE is '$GRACE' and STOP_SECONDS '$STOP_SECONDS': expected numbers of seconds."
case $step in
  setup) setup ;;
  run) run "$@" ;;
  stop) on_workers stop "$STOP_SECONDS" ;;
  status) on_workers status ;;
esac
