#!/usr/bin/env bash
# Runs one process on a host for launch/ssh.sh, which starts it there; nothing to edit.
#
#   launch/remote.sh GRACE COMMAND...
#
# ssh passes no signals on without a terminal, so they come as lines on the standard input: TERM,
# INT, KILL, and CHECK, which kills the process if it is stopped (then the code is 147). When the
# input ends, ssh.sh or the connection is gone: the process gets SIGTERM, and SIGKILL GRACE seconds
# later. Returns the command's exit code.

set -u
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ $# -lt 2 ] || ! [[ $1 =~ ^[0-9]+$ ]]; then
  echo "usage: launch/remote.sh GRACE COMMAND...   (launch/ssh.sh starts it)" >&2
  exit 2
fi
grace=$1
shift

signal() {
  kill "-$1" -- "-$child" 2>/dev/null
}

end_if_stopped() {
  is_stopped "$child" || return
  found_stopped=1
  signal KILL
}

# One line of the input, or the end of it. A line may come in parts.
listen() {
  local line
  if read -r -t 0.2 line; then
    line=$partial$line partial=""
    case $line in
      TERM | INT) signal "$line" ;;
      KILL | CHECK) end_if_stopped ;;&
      KILL) signal KILL ;;
    esac
  elif [ $? -le 128 ]; then # above it: no whole line within 0.2 seconds
    deadline=$((SECONDS + grace))
    signal TERM
  else
    partial+=$line
  fi
}

found_stopped="" deadline="" partial=""
trap 'signal TERM' TERM INT HUP
set -m # a process group of its own; without it the command would ignore SIGINT
"$@" </dev/null &
child=$!
# Bash's own lines on a killed child are left out: ssh.sh tells of it.
exec 2>/dev/null
while kill -0 "$child"; do
  if [ -z "$deadline" ]; then
    listen
  else
    end_if_stopped
    [ "$SECONDS" -lt "$deadline" ] || signal KILL
    sleep 0.2
  fi
done
wait "$child"
code=$?
signal KILL # what it may have left behind
[ -z "$found_stopped" ] || code=$STOPPED
exit "$code"
