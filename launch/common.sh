# shellcheck shell=bash disable=SC2034
# What the launchers do alike: local.sh, ssh.sh, remote.sh and tpu_vm.sh source it.
#
# A launcher keeps the pids of its children in `pids`, by rank, and their names for people in
# `names`; each child leads a process group of its own. It has two functions for supervise():
#   pass_signal RANK SIGNAL    signal one process
#   end_if_stopped RANK        kill it if it is stopped (SIGSTOP); nothing else ends such a process
# A process that was stopped is known by stopped[RANK], or by the code STOPPED.

if [ "${BASH_VERSINFO[0]}${BASH_VERSINFO[1]}" -lt 44 ]; then
  echo "launch/ needs bash 4.4 or newer, this is ${BASH_VERSION}." >&2
  exit 2
fi

PREEMPTED=75 # the command saved a checkpoint after SIGTERM; the same command goes on
STOPPED=147  # 128 + SIGSTOP, by which no process can end
program=${0##*/}
message_fd=
pids=() names=() codes=() stopped=() overdue=() ended=() markers=()

say() {
  echo "$program: $*" >&"${message_fd:-2}"
}

refuse() {
  say "$*"
  exit 2
}

# Words for any POSIX shell, also over two of them; $'...' of bash's %q is not known to all.
quote() {
  local word words=()
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    words+=("$word")
  done
  printf '%s' "${words[*]}"
}

# PID: whether it is stopped (not traced, which is t).
is_stopped() {
  local state
  if [ -d /proc/self ]; then
    state=$(cat "/proc/$1/stat" 2>/dev/null)
    state=${state##*) }
  else
    state=$(ps -o stat= -p "$1" 2>/dev/null)
  fi
  [[ $state == T* ]]
}

# LABEL: opens descriptors `out` and `err`, whose lines appear here after [LABEL].
open_marked() {
  exec {out}> >(trap '' INT TERM HUP && exec sed -u "s/^/[$1] /")
  markers+=($!)
  exec {err}> >(trap '' INT TERM HUP && exec sed -u "s/^/[$1] /" >&2)
  markers+=($!)
}

# CODE: what became of a process, to follow its name.
outcome() {
  case $1 in
    3) echo "ended with code 3: it lost another process" ;;
    5) echo "ended with code 5: it was stuck, see the stacks that its watchdog printed" ;;
    134) echo "ended with code 134: jax's runtime aborted it, as when another process is lost" ;;
    "$PREEMPTED") echo "ended with code $1: pre-empted, its checkpoint is saved" ;;
    *)
      if [ "$1" -gt 128 ] && kill -l $(($1 - 128)) >/dev/null 2>&1; then
        echo "was killed by signal $(($1 - 128)) ($(kill -l $(($1 - 128))))"
      else
        echo "ended with code $1"
      fi
      ;;
  esac
}

# Sets `cause` to the rank that explains the end of all, "" if none failed: one that was stopped,
# else the first that failed by itself, or never ended; last those that only noticed.
find_cause() {
  local rank order
  cause=
  for order in stopped own overdue noticed preempted; do
    for rank in "${ended[@]}"; do
      case $order,${stopped[$rank]:-},${overdue[$rank]:-},${codes[$rank]} in
        stopped,1,*) ;;
        own,,,0 | own,,,3 | own,,,134 | own,,,"$PREEMPTED") continue ;;
        own,,,*) ;;
        overdue,*,1,*) ;;
        noticed,*,3 | noticed,*,134) ;;
        preempted,*,"$PREEMPTED") ;;
        *) continue ;;
      esac
      cause=$rank
      return
    done
  done
}

# Watches the children until all have ended. After the first failure the others get GRACE seconds.
# Meanwhile bash's own lines on killed children are left out: say() tells of them by their ranks.
supervise() {
  local rank deadline=
  exec {message_fd}>&2 2>/dev/null
  while [ "${#pids[@]}" -gt 0 ]; do
    [ -z "$asked" ] || pass_on_what_was_asked
    for rank in "${!pids[@]}"; do
      kill -0 "${pids[$rank]}" 2>/dev/null && continue
      settle "$rank"
      [ "${codes[$rank]}" -eq 0 ] || deadline=${deadline:-$((SECONDS + GRACE))}
    done
    if [ -n "$deadline" ]; then
      for rank in "${!pids[@]}"; do
        end_overdue "$rank" "$deadline"
      done
    fi
    sleep 0.2
  done
  wait "${markers[@]}" # for the last lines of output
  exec 2>&"$message_fd"
}

settle() {
  local rank=$1 pid=${pids[$1]} code
  wait "$pid" 2>/dev/null
  code=$?
  kill -KILL -- "-$pid" 2>/dev/null # what it may have left behind
  unset "pids[$rank]"
  ended+=("$rank")
  codes[rank]=$code
  if [ "$code" -eq "$STOPPED" ] && [ -z "${stopped[$rank]:-}" ]; then
    stopped[rank]=1
    say "${names[$rank]} is stopped and does not answer: it was killed"
  elif [ "$code" -ne 0 ] && [ -z "${stopped[$rank]:-}${overdue[$rank]:-}" ]; then
    say "${names[$rank]} $(outcome "$code")"
  fi
}

end_overdue() {
  local rank=$1 late=$((SECONDS - $2))
  end_if_stopped "$rank"
  if [ "$late" -ge 0 ] && [ -z "${overdue[$rank]:-}${stopped[$rank]:-}" ]; then
    overdue[rank]=1
    say "${names[$rank]} did not end within $GRACE seconds of another's failure: killing it"
    pass_signal "$rank" KILL
  elif [ "$late" -ge 10 ]; then
    kill -KILL -- "-${pids[$rank]}" 2>/dev/null
  fi
}

# Names the cause and ends with its code.
conclude() {
  find_cause
  [ -n "$cause" ] || exit 0
  local code=${codes[$cause]} name=${names[$cause]}
  if [ -n "${stopped[$cause]:-}" ]; then
    say "the run ended because $name is stopped and does not answer"
    exit 137
  elif [ -n "${overdue[$cause]:-}" ]; then
    say "the run ended because $name did not end with the others"
    exit 137
  elif [ "$code" -eq "$PREEMPTED" ]; then
    say "pre-empted, the checkpoint is saved: the same command goes on"
  else
    say "the run ended because $name $(outcome "$code")"
  fi
  exit "$code"
}

# TERM and INT are passed on, and a closed terminal as TERM: supervise() does it, since a trap may
# run while processes are still being started.
catch_signals() {
  asked=
  trap 'asked=TERM' TERM HUP
  trap 'asked=INT' INT
}

pass_on_what_was_asked() {
  local rank signal
  signal=$asked asked=""
  for rank in "${!pids[@]}"; do
    pass_signal "$rank" "$signal"
  done
}
