#!/usr/bin/env bash
# Starts N processes of one run on this machine, for trying what several hosts would do.
#
#   launch/local.sh N COMMAND...
#   launch/local.sh 2 .venv/bin/python -m alexnet_jax.main --config=configs/quickstart.py
#
# What to edit, here or in the environment:
GRACE=${GRACE:-45}     # seconds that the others get to end by themselves after a failure
DRY_RUN=${DRY_RUN:-0}  # 1 prints the commands and starts nothing
#
# Each process finds COORDINATOR_ADDRESS, NUM_PROCESSES and PROCESS_ID in its environment, which
# all commands read. JAX_NUM_CPU_DEVICES=2 gives every process two simulated devices. Ctrl-C and
# SIGTERM are passed on. After a failure the process that began it is named, not those that only
# noticed it, and its exit code is returned (137 for one that had to be killed). Tried on bash 5.2.

set -u
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ $# -lt 2 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh N COMMAND...   (N is the number of processes)" >&2
  exit 2
fi
processes=$1
shift

# Prints a port; it and the next one are free.
free_ports() {
  local port
  while :; do
    port=$((20000 + RANDOM % 30000))
    answers "$port" || answers $((port + 1)) || break
  done
  echo "$port"
}

answers() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

coordinator=127.0.0.1:$(free_ports)
if [ "$DRY_RUN" = 1 ]; then
  for ((rank = 0; rank < processes; rank++)); do
    echo "COORDINATOR_ADDRESS=$coordinator NUM_PROCESSES=$processes PROCESS_ID=$rank ${*@Q}"
  done
  exit 0
fi

pass_signal() {
  kill "-$2" -- "-${pids[$1]}" 2>/dev/null
}

end_if_stopped() {
  [ -z "${stopped[$1]:-}" ] && is_stopped "${pids[$1]}" || return
  stopped[$1]=1
  say "${names[$1]} is stopped and does not answer: killing it"
  pass_signal "$1" KILL
}

catch_signals
set -m # a process group for each; without it they would ignore SIGINT
for ((rank = 0; rank < processes; rank++)); do
  open_marked "$rank"
  COORDINATOR_ADDRESS=$coordinator NUM_PROCESSES=$processes PROCESS_ID=$rank \
    "$@" </dev/null 1>&"$out" 2>&"$err" &
  pids[rank]=$!
  names[rank]="process $rank"
  exec {out}>&- {err}>&-
done
supervise
conclude
