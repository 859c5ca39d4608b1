#!/usr/bin/env bash
# Starts N processes of one run on this machine, for trying what several hosts would do.
#
#   launch/local.sh N COMMAND...
#   launch/local.sh 2 .venv/bin/python -m alexnet_jax.main --config=configs/quickstart.py
#
# Each process finds COORDINATOR_ADDRESS, NUM_PROCESSES and PROCESS_ID in its environment, which
# alexnet_jax.main reads. JAX_NUM_CPU_DEVICES=2 gives every process two simulated devices.
# DRY_RUN=1 prints the commands. Ctrl-C and SIGTERM are passed on. When one process fails, its rank
# is named, the others are ended after GRACE seconds (45), and its exit code is returned.
# Tried on bash 5.2.

set -u
if [ $# -lt 2 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh N COMMAND...   (N is the number of processes)" >&2
  exit 2
fi
processes=$1
shift

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 30000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}
coordinator=127.0.0.1:$(free_port)

if [ "${DRY_RUN:-0}" = 1 ]; then
  for ((i = 0; i < processes; i++)); do
    echo "COORDINATOR_ADDRESS=$coordinator NUM_PROCESSES=$processes PROCESS_ID=$i ${*@Q}"
  done
  exit 0
fi

pids=()
for ((i = 0; i < processes; i++)); do
  COORDINATOR_ADDRESS=$coordinator NUM_PROCESSES=$processes PROCESS_ID=$i \
    "$@" > >(sed -u "s/^/[$i] /") 2> >(sed -u "s/^/[$i] /" >&2) &
  pids+=($!)
done
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM
trap 'kill -INT "${pids[@]}" 2>/dev/null' INT

# Look at each in turn; after the first failure the others get GRACE seconds to notice by themselves.
failed=0
deadline=
while [ "${#pids[@]}" -gt 0 ]; do
  for i in "${!pids[@]}"; do
    kill -0 "${pids[$i]}" 2>/dev/null && continue
    wait "${pids[$i]}" 2>/dev/null
    code=$?
    unset "pids[$i]"
    if [ "$code" -ne 0 ] && [ "$failed" -eq 0 ]; then
      echo "local.sh: process $i ended with code $code" >&2
      failed=$code
      deadline=$((SECONDS + ${GRACE:-45}))
    fi
  done
  if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ] && [ "${#pids[@]}" -gt 0 ]; then
    kill -KILL "${pids[@]}" 2>/dev/null
  fi
  sleep 0.2
done
wait 2>/dev/null # for the last lines of output
exit "$failed"
