package node

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of /proc/stat: the kernel shows it to programs as 1/100 s, whatever it counts in itself.
const clockTick = 10 * time.Millisecond

// Usage is what everything on the node uses together.
type Usage struct {
	CPU        time.Duration // since the machine started
	Memory     int64         // bytes that are not free
	Available  int64         // bytes that could be had without swapping
	WorkingSet int64         // bytes that could not
	BootedAt   time.Time
}

// ReadUsage measures the node.
func ReadUsage() (Usage, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Usage{}, err
	}
	memory, err := meminfo()
	if err != nil {
		return Usage{}, err
	}
	u := Usage{
		Memory: memory["MemTotal"] - memory["MemFree"], Available: memory["MemAvailable"],
		WorkingSet: memory["MemTotal"] - memory["MemAvailable"],
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 8 && f[0] == "cpu":
			for _, i := range []int{1, 2, 3, 6, 7, 8} { // user, nice, system, irq, softirq, steal; not idle and iowait
				n, err := strconv.ParseInt(f[i], 10, 64)
				if err != nil {
					return u, fmt.Errorf("read /proc/stat: %w", err)
				}
				u.CPU += time.Duration(n) * clockTick
			}
		case len(f) == 2 && f[0] == "btime":
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return u, fmt.Errorf("read /proc/stat: %w", err)
			}
			u.BootedAt = time.Unix(n, 0)
		}
	}
	return u, nil
}
