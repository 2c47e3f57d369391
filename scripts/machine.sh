# Sourced by install-*.sh, join.sh and their like: how a machine of the cluster is changed. Everything is shown, nothing is
# done twice, and with --dry-run nothing is done at all.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) # of the unpacked tarball, or the package's share
etc=/etc/hardway
dry_run='' changed='' # changed: whether anything was different

fail() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; exit 1; }
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
explain() { printf '\n%s\n' "$*"; }

need_root() { [ "$(id -u)" = 0 ] || [ -n "$dry_run" ] || fail "this changes the machine: run it as root (or with --dry-run)"; }

# run shows a command and runs it.
run() {
  printf '  %s\n' "$*"
  [ -n "$dry_run" ] || "$@"
}

# place copies a file to where it belongs, with its owner and mode, unless it is there already.
place() { # FROM TO [OWNER[:GROUP] [MODE]]
  local from=$1 to=$2 owner=${3:-root:root} mode=${4:-0644}
  case $owner in *:*) ;; *) owner=$owner:$owner ;; esac
  [ -f "$from" ] || fail "$from is missing"
  if cmp -s "$from" "$to" && [ "$(stat -c '%U:%G %a' "$to")" = "$owner ${mode#0}" ]; then return 0; fi
  changed=yes
  printf '  %-58s %s %s\n' "$to" "$owner" "$mode"
  [ -z "$dry_run" ] || return 0
  mkdir -p "$(dirname "$to")"
  # A running program's file cannot be written to, but replaced.
  (umask 077 && cp "$from" "$to.new")
  chown "$owner" "$to.new"
  chmod "$mode" "$to.new"
  mv "$to.new" "$to"
}

# put places what comes on standard input.
put() { # TO [OWNER [MODE]]
  local text
  text=$(mktemp)
  cat >"$text"
  place "$text" "$@"
  rm -f "$text"
}

# kept prints what a variable of an environment file says, for files that are written anew.
kept() { # VARIABLE FILE
  sed -n "s/^$1=\"\(.*\)\"\$/\1/p" "$etc/$2" 2>/dev/null || true
}

# programs installs binaries when this is an unpacked tarball; packages have done it themselves.
programs() { # NAME...
  local name
  [ -d "$here/bin" ] || return 0
  explain "Programs"
  for name in "$@"; do place "$here/bin/$name" "/usr/local/bin/$name" root 0755; done
}

# units installs unit files in the same case.
units() { # NAME...
  local name
  [ -d "$here/systemd" ] || return 0
  explain "Units, users and folders"
  for name in "$@"; do place "$here/systemd/$name" "/etc/systemd/system/$name"; done
  place "$here/systemd/hardway.sysusers.conf" /etc/sysusers.d/hardway.conf
  place "$here/systemd/hardway.tmpfiles.conf" /etc/tmpfiles.d/hardway.conf
  run systemd-sysusers hardway.conf
  run systemd-tmpfiles --create hardway.conf
}

# start_target starts a target and whatever of it is down. After a change its daemons are restarted one by one, unless they
# have just been started.
start_target() { # TARGET UNIT...
  local target=$1 unit
  shift
  explain "Start"
  run systemctl daemon-reload
  for unit in "$@"; do
    if [ -n "$changed" ] && systemctl -q is-active "$unit" 2>/dev/null; then run systemctl restart "$unit"; fi
  done
  run systemctl enable --quiet "$target" "$@"
  run systemctl start "$target" "$@"
}
