#!/usr/bin/env bash
# Makes the image of the container that holds a pod's namespaces below containerd:  pause.sh ARCHIVE
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/pause.c" <<'END'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int signal) { _exit(0); }
static void reap(int signal) { while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) {
  signal(SIGINT, leave), signal(SIGTERM, leave), signal(SIGCHLD, reap);
  for (;;) pause();
}
END
gcc -static -Os -s -o "$dir/pause" "$dir/pause.c"
tar -C "$dir" --owner=0 --group=0 -cf "$dir/layer.tar" pause
printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/pause"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)" >"$dir/config.json"
echo '[{"Config":"config.json","RepoTags":["hardway.test/pause:1"],"Layers":["layer.tar"]}]' >"$dir/manifest.json"
tar -C "$dir" -cf "$1" manifest.json config.json layer.tar
