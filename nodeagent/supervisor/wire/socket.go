package wire

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Listen makes the supervisor's socket in the pod's folder dir, replacing one that a dead supervisor left.
func Listen(dir string) (*net.UnixListener, error) {
	var l *net.UnixListener
	err := inDir(dir, func(short string) error {
		addr := filepath.Join(short, SocketFile)
		if err := os.Remove(addr); err != nil && !os.IsNotExist(err) {
			return err
		}
		var err error
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: addr, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", dir, err)
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// Dial connects to the supervisor of the pod's folder dir.
func Dial(ctx context.Context, dir string) (*net.UnixConn, error) {
	var c net.Conn
	err := inDir(dir, func(short string) error {
		var d net.Dialer
		var err error
		c, err = d.DialContext(ctx, "unix", filepath.Join(short, SocketFile))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reach the pod supervisor in %s: %w", dir, err)
	}
	return c.(*net.UnixConn), nil
}

// inDir calls f with a short name for dir, for the kernel takes no socket address of more than 107 bytes.
func inDir(dir string, f func(short string) error) error {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return f("/proc/self/fd/" + strconv.Itoa(int(d.Fd())))
}
