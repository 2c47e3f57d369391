package podworker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/serve/logs"
)

const (
	hostHosts       = "/etc/hosts"
	maxMessage      = 4096 // bytes of a termination message
	maxMessageLines = 80   // when it is taken from the log
	maxMessageLog   = 2048
)

// writeFiles makes the files that are mounted into a container: those that all containers of the pod share, once, and
// the one for its termination message.
func (w *worker) writeFiles(pod *corev1.Pod, node compose.Node, ips []string, container string, attempt int) error {
	w.files.Lock()
	defer w.files.Unlock()
	dir := w.Volumes.PodDir(w.uid)
	var host []byte
	if pod.Spec.HostNetwork {
		var err error
		if host, err = os.ReadFile(hostHosts); err != nil {
			return err
		}
	}
	hosts, err := compose.Hosts(pod, node, ips, string(host))
	if err != nil {
		return err
	}
	hostname, _, err := compose.Hostname(pod, node)
	if err != nil {
		return err
	}
	resolv, warning := compose.ResolvConf(pod, node.DNS)
	if warning != "" && !w.warned[warning] {
		w.warned[warning] = true
		reason := "DNSConfigForming"
		if strings.Contains(warning, "ClusterDNS") {
			reason = "MissingClusterDNS"
		}
		w.Note(pod, nil, corev1.EventTypeWarning, reason, "%s", warning)
	}
	for target, text := range map[string]string{"/etc/hosts": hosts, "/etc/hostname": hostname + "\n", "/etc/resolv.conf": resolv} {
		if err := writeOnce(compose.NodeFile(dir, target), text); err != nil {
			return err
		}
	}
	logDir := filepath.Dir(compose.LogPath(node.LogDir, w.namespace, w.name, w.uid, container, attempt))
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return err
	}
	return touch(compose.MessageFile(dir, container, attempt))
}

// writeOnce writes a file unless it says so already. It is written in place: containers have it mounted.
func writeOnce(path, text string) error {
	if have, err := os.ReadFile(path); err == nil && string(have) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// touch makes an empty file that any user of the container may write.
func touch(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return err
	}
	return os.Chmod(path, 0o666)
}

// message returns a function that reads the termination message of an ended container, once.
func (w *worker) message(pod *corev1.Pod) func(runtime.Status) string {
	return func(c runtime.Status) string {
		text, ok := w.messages[c.ID]
		if !ok {
			text = w.readMessage(pod, c)
			w.messages[c.ID] = text
		}
		return text
	}
}

func (w *worker) readMessage(pod *corev1.Pod, c runtime.Status) string {
	text, err := readEnd(compose.MessageFile(w.Volumes.PodDir(w.uid), c.Name, c.Attempt))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Sprintf("Error on reading termination message: %v", err)
	}
	spec := FindContainer(pod, c.Name)
	if text != "" || c.ExitCode == 0 || spec == nil || spec.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError {
		return text
	}
	text, err = logs.Tail(c.LogPath, maxMessageLines, maxMessageLog)
	if err != nil {
		return fmt.Sprintf("Error on reading termination message from logs: %v", err)
	}
	return text
}

// readEnd reads the last bytes of a file that a container wrote. A container may have put anything there: links are
// not followed and only a regular file is read.
func readEnd(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", err
	}
	buf := make([]byte, min(info.Size(), maxMessage))
	n, err := f.ReadAt(buf, info.Size()-int64(len(buf)))
	if n == len(buf) {
		err = nil
	}
	return strings.ToValidUTF8(string(buf[:n]), "\uFFFD"), err
}

// removeFiles removes the pod's folder and logs.
func (w *worker) removeFiles() error {
	links, err := filepath.Glob(filepath.Join(w.LinksDir, fmt.Sprintf("%s_%s_*-*.log", w.name, w.namespace)))
	errs := []error{err}
	dir := compose.LogDir(w.Node().LogDir, w.namespace, w.name, w.uid)
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && strings.HasPrefix(target, dir+"/") {
			errs = append(errs, os.Remove(l))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(dir), w.Volumes.Remove(w.uid))...)
}
