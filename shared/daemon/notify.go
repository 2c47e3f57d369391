package daemon

import (
	"context"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// NotifyReady tells systemd, if it started this process, that the daemon serves.
func NotifyReady() {
	systemd.SdNotify(false, systemd.SdNotifyReady) //nolint:errcheck // without systemd there is nobody to tell
}

// NotifyStopping tells systemd that the daemon is about to end.
func NotifyStopping() {
	systemd.SdNotify(false, systemd.SdNotifyStopping) //nolint:errcheck // as above
}

// Watchdog feeds systemd's watchdog from the liveness checks until ctx ends. Without one it only waits.
func Watchdog(h *Health) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		interval, err := systemd.SdWatchdogEnabled(false)
		if err != nil || interval == 0 {
			<-ctx.Done()
			return nil
		}
		tick := time.NewTicker(interval / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if h.alive(ctx) {
					systemd.SdNotify(false, systemd.SdNotifyWatchdog) //nolint:errcheck // as above
				}
			}
		}
	}
}

func (h *Health) alive(ctx context.Context) bool {
	for _, c := range h.checks("livez") {
		if c.test(ctx) != nil {
			return false
		}
	}
	return true
}
