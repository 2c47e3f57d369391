#!/bin/sh
# Keeps one daemon running, as systemd would, on machines where systemd is not PID 1.
#
#   supervise.sh STATE NAME COMMAND...
#
# Writes STATE/run/NAME.pid (the daemon) and STATE/run/NAME.supervisor.pid (this), appends what the daemon prints to
# STATE/log/NAME.log. A daemon that ends is started again after 0.2 s, and after up to 5 s when it keeps ending at
# once. One that ends with status 2 has a bad configuration and is left down. (A Go panic would end with 2 as well;
# GOTRACEBACK=crash makes it end by a signal.) SIGTERM is passed on; this ends when the daemon has. When this dies by
# SIGKILL, the kernel sends the daemon SIGTERM.
set -u
state=$1 name=$2
shift 2
log=$state/log/$name.log pidfile=$state/run/$name.pid
stopping='' child='' sleeper='' delay=0.2
export GOTRACEBACK=crash
ulimit -c 0
echo $$ >"$state/run/$name.supervisor.pid"

stop() {
  stopping=yes
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
  [ -z "$sleeper" ] || kill "$sleeper" 2>/dev/null
}
trap stop TERM INT

say() { printf '%s supervise: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >>"$log"; }

# Old output is put away before a start once it is over 16 MiB; one generation is kept.
put_away() {
  [ ! -f "$log" ] || [ "$(stat -c %s "$log")" -lt 16777216 ] || mv "$log" "$log.1"
}

while [ -z "$stopping" ]; do
  put_away
  started=$(date +%s)
  setpriv --pdeathsig TERM -- "$@" >>"$log" 2>&1 </dev/null &
  child=$!
  echo "$child" >"$pidfile"
  [ -z "$stopping" ] || kill -TERM "$child" 2>/dev/null # the signal came before there was a child
  wait "$child"
  status=$?
  while kill -0 "$child" 2>/dev/null; do # a signal ends wait early
    wait "$child"
    status=$?
  done
  child=''
  rm -f "$pidfile"
  [ -z "$stopping" ] || break
  if [ "$status" = 2 ]; then
    say "$name ended with status 2: its configuration is bad, it stays down"
    break
  fi
  [ $(($(date +%s) - started)) -lt 10 ] || delay=0.2
  say "$name ended with status $status, starting it again in $delay s"
  sleep "$delay" &
  sleeper=$!
  wait "$sleeper"
  sleeper=''
  case $delay in 0.2) delay=0.5 ;; 0.5) delay=1 ;; 1) delay=2 ;; *) delay=5 ;; esac
done
rm -f "$state/run/$name.supervisor.pid"
