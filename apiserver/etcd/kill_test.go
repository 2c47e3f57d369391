package etcd

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// childDir names the data directory of a child process that only writes.
const childDir = "HARDWAY_ETCD_TEST_DIR"

// TestMain turns the test binary into that child when it is asked to.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		writeForEver(dir)
	}
	os.Exit(m.Run())
}

// writeForEver prints the number of every write that etcd has acknowledged.
func writeForEver(dir string) {
	ctx := context.Background()
	s, err := Start(ctx, Options{DataDir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		if _, err := s.Client().Put(ctx, fmt.Sprintf("/registry/%06d", i), fmt.Sprint(i)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// A member that is killed at any moment has everything that it acknowledged.
func TestKilledMemberKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir() + "/etcd"
	var acknowledged int
	for round := range 3 {
		acknowledged = max(acknowledged, killAfter(t, dir, 50+100*round))
	}
	s := start(t, Options{DataDir: dir})
	defer s.Stop()
	for i := range acknowledged + 1 {
		key := fmt.Sprintf("/registry/%06d", i)
		got, err := s.Client().Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != fmt.Sprint(i) {
			t.Fatalf("of %d acknowledged writes, %s is lost: %v", acknowledged+1, key, got.Kvs)
		}
	}
}

// killAfter kills a child after it has acknowledged n writes and returns the last that it acknowledged.
func killAfter(t *testing.T, dir string, n int) int {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			t.Fatal(err)
		}
		if last == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd.Wait() //nolint:errcheck // it was killed
	if last < n {
		t.Fatalf("the child ended after %d of %d writes", last+1, n)
	}
	return last
}
