# Sourced by up.sh, down.sh and import.sh: where things are, and which processes are ours.
#
# HARDWAY_STATE names another folder than .hardway for everything that a cluster writes, HARDWAY_BIN other programs than
# those that were built into .hardway/bin. Only one cluster runs on a machine at a time: the ports are upstream's.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/.hardway
bin=${HARDWAY_BIN:-$build/bin}
state=${HARDWAY_STATE:-$build}
pki=$state/pki
conf=$state/conf
run=$state/run
log=$state/log
node_state=/run/hardway # sandboxes and supervisors of pods: sockets and pinned namespaces, gone after a reboot
cgroup=hardway

# owner prints the state folder of the cluster whose pods, links and rules are on this machine: their names are the same
# for every cluster, so nobody else may touch them.
owner() { cat "$node_state/owner" 2>/dev/null || true; }

daemons=(apiserver controllers scheduler nodeagent netproxy dns) # in the order of their start
service_range=10.32.0.0/24
pod_range=10.200.0.0/16
cluster_dns=10.32.0.10
lan=${HARDWAY_LAN:-10.240.0} # 'make up NODES=n': the network that the nodes share, as three numbers; node k has .k

# further_nodes prints the names of the nodes beyond the first that this cluster has: node2, node3, ...
further_nodes() {
  local k count
  count=$(cat "$conf/nodes" 2>/dev/null) || count=1
  for ((k = 2; k <= count; k++)); do echo "node$k"; done
}

fail() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; exit 1; }

need_root() {
  [ "$(id -u)" = 0 ] || fail "pods, networks and mounts need root: run 'sudo make $1'"
}

# command_of sets words to the command line of a process; it fails when the process is gone.
command_of() { # PID
  { mapfile -d '' -t words <"/proc/$1/cmdline"; } 2>/dev/null && [ ${#words[@]} -gt 0 ]
}

# A daemon of the first node or of the control plane is called by its name, one of a further node NAME@NODE.

# find_daemon sets pid to that of a daemon of this cluster, if it runs. A pid file alone is not believed: the number may
# belong to somebody else by now.
find_daemon() { # NAME
  local words
  pid=''
  { read -r pid <"$run/$1.pid"; } 2>/dev/null && command_of "$pid" && [ "${words[0]}" = "$bin/hardway-${1%@*}" ]
}

# find_supervisor does so for what watches it.
find_supervisor() { # NAME
  local words
  pid=''
  { read -r pid <"$run/$1.supervisor.pid"; } 2>/dev/null && command_of "$pid" &&
    [ "${words[*]:1:3}" = "$root/scripts/supervise.sh $state $1" ]
}

# runs tells whether a process is there and not merely waiting to be collected by its parent.
runs() { # PID
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null && [[ ${stat##*) } != Z* ]]
}

# gone waits until a process has ended, up to a number of seconds.
gone() { # PID SECONDS
  local end=$((SECONDS + $2))
  while runs "$1"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}

# stop_daemon ends a daemon and its supervisor; the daemon has 20 s to do it in peace.
stop_daemon() { # NAME
  local supervisor='' daemon='' pid
  ! find_supervisor "$1" || supervisor=$pid
  ! find_daemon "$1" || daemon=$pid
  [ -n "$supervisor$daemon" ] || return 0
  [ -z "$supervisor" ] || kill -TERM "$supervisor" 2>/dev/null || true
  [ -n "$supervisor" ] || [ -z "$daemon" ] || kill -TERM "$daemon" 2>/dev/null || true
  if [ -n "$daemon" ] && ! gone "$daemon" 20; then
    echo "$1 did not stop within 20 s, killing it" >&2
    kill -KILL "$daemon" 2>/dev/null || true
    gone "$daemon" 5 || true
  fi
  [ -z "$supervisor" ] || gone "$supervisor" 5 || true
  rm -f "$run/$1.pid" "$run/$1.supervisor.pid"
}

now() { date +%s%N; }
seconds() { # NANOSECONDS: with two decimals
  printf '%d.%02d' $(($1 / 1000000000)) $(($1 / 10000000 % 100))
}

# step runs a command, shows its name and how long it took; its output is shown when it fails (always with V=1).
# A failure ends the script, or with keep_going=yes is remembered in failed.
step() { # NAME COMMAND...
  local name=$1 start status output
  shift
  start=$(now)
  printf '  %-34s' "$name"
  set +e
  output=$(set -e; "$@" 2>&1)
  status=$?
  set -e
  printf ' %7s s\n' "$(seconds $(($(now) - start)))"
  [ -z "$output" ] || [ "$status${V:-}" = 0 ] || printf '%s\n' "$output" | sed 's/^/      /'
  [ $status != 0 ] || return 0
  failed=yes
  [ -n "${keep_going:-}" ] || exit 1
}
