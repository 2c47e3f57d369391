# Sourced by down.sh and up.sh after lib.sh: how what a node has made is taken away from the kernel. Containers survive the
# node agent by design, so their processes are ended here.
#
# "A node's folders" are those below which it keeps its pods: $state/node and $node_state for the first one.

# in_cgroups prints the processes in cgroups, of every hierarchy.
in_cgroups() { # CGROUP...
  local c
  for c in "$@"; do
    find "/sys/fs/cgroup/$c" /sys/fs/cgroup/*/"$c" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done | sort -un
}

# supervisors prints the pods' supervisors: what the node agent has started to keep a pod below one of the folders. A
# cluster within a container of this machine has the same folders, and other PIDs: its processes are not ours.
supervisors() { # DIR...
  local proc dir words own
  own=$(readlink /proc/self/ns/pid)
  for proc in /proc/[0-9]*; do
    command_of "${proc#/proc/}" && [ "${words[1]:-}" = supervisor ] || continue
    [ "$(readlink "$proc/ns/pid" 2>/dev/null)" = "$own" ] || continue
    for dir in "$@"; do
      case ${words[2]:-} in "$dir"/pods/*) echo "${proc#/proc/}" ;; esac
    done
  done
}

# end_all sends a signal to processes and waits for them, up to 5 s.
end_all() { # SIGNAL PID...
  local signal=$1 pid end=$((SECONDS + 5))
  shift
  for pid in "$@"; do kill -"$signal" "$pid" 2>/dev/null || true; done
  for pid in "$@"; do gone "$pid" $((end > SECONDS ? end - SECONDS : 0)) || true; done
}

# end_pods ends those that obey SIGTERM in peace.
end_pods() { # CGROUP DIR
  local keepers pid inside=()
  keepers=$(supervisors "$2")
  for pid in $(in_cgroups "$1"); do
    grep -qx "$pid" <<<"$keepers" || inside+=("$pid")
  done
  end_all TERM ${inside[@]+"${inside[@]}"}
  # shellcheck disable=SC2046 # numbers
  end_all KILL $(in_cgroups "$1") $keepers
  [ -z "$(in_cgroups "$1")$(supervisors "$2")" ] || { echo "these do not die: $(in_cgroups "$1") $(supervisors "$2")"; return 1; }
}

# unmount_below unmounts everything below folders, the innermost first.
unmount_below() { # DIR...
  local point dir
  awk '{print $5}' /proc/self/mountinfo | tac | while read -r point; do
    for dir in "$@"; do
      case $point in "$dir"/*) umount -l "$(printf '%b' "$point")" || exit 1 ;; esac
    done
  done
}

remove_cgroup() { # CGROUP
  find "/sys/fs/cgroup/$1" /sys/fs/cgroup/*/"$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
}
