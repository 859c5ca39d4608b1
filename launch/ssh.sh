#!/usr/bin/env bash
# Starts one process of a run on each of several hosts over ssh.
#
#   launch/ssh.sh HOSTS COMMAND...
#   launch/ssh.sh node1,user@node2 .venv/bin/python -m alexnet_jax.main --config=configs/imagenet.py
#
# HOSTS is a list with commas, or a file with one host a line (# begins a comment). Process 0 runs
# on the first. What to edit, here or in the environment:
SSH=${SSH:-ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15}
REMOTE_DIR=${REMOTE_DIR:-}    # the project's folder on the hosts; unset: the same path as here
PORT=${PORT:-12421}           # of process 0; this port and the next one are used
COORDINATOR=${COORDINATOR:-}  # process 0's host as the others reach it; unset: the first host
FORWARD=${FORWARD:-}          # variables to pass on, such as "JAX_PLATFORMS XLA_FLAGS"
GRACE=${GRACE:-45}            # seconds that the others get to end by themselves after a failure
DRY_RUN=${DRY_RUN:-0}         # 1 prints the commands and starts nothing
#
# The hosts need ssh without a password, bash, and the project with its .venv in REMOTE_DIR, where
# the command runs; the run's --workdir has to be on a file system that all share, or gs://. Lines
# of output begin with [RANK HOST]. Ctrl-C and SIGTERM are passed on. When this script or a
# connection dies, the process on that host is ended, so none is left behind. After a failure the
# process that began it is named, not those that only noticed it, and its exit code is returned
# (137 for one that had to be killed). Tried on bash 5.2 with processes on one machine.

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$here/common.sh"
if [ $# -lt 2 ]; then
  echo "usage: launch/ssh.sh HOSTS COMMAND...   (HOSTS is a file, or host1,host2,...)" >&2
  exit 2
fi
listed=$1
shift
REMOTE_DIR=${REMOTE_DIR:-$(dirname "$here")}
[[ $PORT =~ ^[1-9][0-9]*$ ]] || refuse "PORT is '$PORT': expected a number, such as 12421."
[[ $GRACE =~ ^[0-9]+$ ]] || refuse "GRACE is '$GRACE': expected a number of seconds, such as 45."
read -ra ssh_words <<<"$SSH"

read_hosts() {
  local host
  if [ -f "$listed" ]; then
    mapfile -t hosts < <(sed 's/#.*//' "$listed" | tr -d '[:blank:]\r' | grep .)
  elif [[ $listed == */* ]]; then
    refuse "there is no file $listed: HOSTS is a file with one host a line, or host1,host2,..."
  else
    IFS=, read -ra hosts <<<"$listed"
  fi
  [ "${#hosts[@]}" -gt 0 ] || refuse "$listed names no host: expected one a line."
  for host in "${hosts[@]}"; do
    [[ $host =~ ^[A-Za-z0-9_][A-Za-z0-9_.@-]*$ ]] ||
      refuse "'$host' in $listed is no host: expected HOST or USER@HOST; ports go to ~/.ssh/config."
  done
}

# RANK COMMAND...: what a host's shell has to run.
remote_command() {
  local rank=$1 name
  shift
  local variables=(
    "COORDINATOR_ADDRESS=$coordinator" "NUM_PROCESSES=${#hosts[@]}" "PROCESS_ID=$rank"
  )
  for name in $FORWARD; do
    [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] ||
      refuse "FORWARD has '$name': expected names of variables, without values."
    [ -z "${!name+set}" ] || variables+=("$name=${!name}")
  done
  printf 'cd %s && exec bash launch/remote.sh %s env %s' \
    "$(quote "$REMOTE_DIR")" "$GRACE" "$(quote "${variables[@]}" "$@")"
}

read_hosts
coordinator=${COORDINATOR:-${hosts[0]#*@}}:$PORT
remote=()
for rank in "${!hosts[@]}"; do
  remote[rank]=$(remote_command "$rank" "$@") || exit 2
done
if [ "$DRY_RUN" = 1 ]; then
  for rank in "${!hosts[@]}"; do
    quote "${ssh_words[@]}" "${hosts[$rank]}" "${remote[$rank]}" && echo
  done
  exit 0
fi

inputs=() outs=() errs=()
pipes=$(mktemp -d) || refuse "no temporary folder can be made: set TMPDIR to one that exists."
trap 'rm -rf "$pipes"' EXIT

pass_signal() {
  echo "$2" >&"${inputs[$1]}"
}

end_if_stopped() {
  pass_signal "$1" CHECK
}

# Runs ssh for one rank in this subshell. The other hosts' inputs are closed in it: an input that
# stays open anywhere would not end with this script.
connect() {
  local rank=$1 descriptor
  for descriptor in "${inputs[@]}"; do
    exec {descriptor}>&-
  done
  exec "${ssh_words[@]}" "${hosts[$rank]}" "${remote[$rank]}" \
    <"$pipes/$rank" 1>&"${outs[$rank]}" 2>&"${errs[$rank]}"
}

# The programs that mark the output start before any input is open, for the same reason.
for rank in "${!hosts[@]}"; do
  open_marked "$rank ${hosts[$rank]}"
  outs[rank]=$out errs[rank]=$err
  names[rank]="process $rank on ${hosts[$rank]}"
done
catch_signals
trap : PIPE # a host that is gone
set -m
for rank in "${!hosts[@]}"; do
  mkfifo "$pipes/$rank"
  connect "$rank" &
  pids[rank]=$!
  exec {input}>"$pipes/$rank"
  inputs[rank]=$input
done
for descriptor in "${outs[@]}" "${errs[@]}"; do
  exec {descriptor}>&-
done
rm -rf "$pipes"
supervise
for rank in "${ended[@]}"; do
  [ "${codes[$rank]}" -ne 255 ] ||
    say "${names[$rank]}: 255 is ssh's own code for a connection that was refused or lost"
done
conclude
