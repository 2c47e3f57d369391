package supervisor

import (
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func notifyChild(c chan<- os.Signal) { signal.Notify(c, syscall.SIGCHLD) }

// deadChildren lists the children of this process that have ended and were not waited for.
func deadChildren() []int {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	var dead []int
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue // the thread ended
		}
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && isZombie(pid) {
				dead = append(dead, pid)
			}
		}
	}
	return dead
}

// isZombie reads the state letter behind the name in /proc/<pid>/stat.
func isZombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(b[max(0, strings.LastIndexByte(string(b), ')')):]), " ")
	return ok && strings.HasPrefix(rest, "Z")
}
