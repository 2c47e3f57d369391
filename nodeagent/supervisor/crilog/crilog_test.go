package crilog

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 5, time.UTC)

func open(t *testing.T, o Options) *Log {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "pod", "0.log")
	}
	if o.Now == nil {
		o.Now = func() time.Time { return noon }
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestRecords(t *testing.T) {
	const p = "2026-07-01T12:00:00.000000005Z stdout "
	long := strings.Repeat("x", maxText)
	tests := []struct {
		name   string
		writes []string
		want   string
	}{
		{"a line", []string{"hello\n"}, p + "F hello\n"},
		{"two lines at once", []string{"a\nb\n"}, p + "F a\n" + p + "F b\n"},
		{"a line in pieces", []string{"he", "l", "lo\n"}, p + "F hello\n"},
		{"an empty line", []string{"\n"}, p + "F \n"},
		{"an unfinished line", []string{"half"}, p + "P half\n"},
		{"nothing", nil, ""},
		{"a line as long as may be", []string{long + "\n"}, p + "F " + long + "\n"},
		{"a line too long", []string{long + "yz\n"}, p + "P " + long + "\n" + p + "F yz\n"},
		{"a line too long, in pieces", []string{long[:10], long[:maxText-10], "yz\n"}, p + "P " + long + "\n" + p + "F yz\n"},
		{"carriage returns stay", []string{"a\r\n"}, p + "F a\r\n"},
		{"bytes that are no text", []string{"\xff\x00\n"}, p + "F \xff\x00\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := open(t, Options{})
			s := l.Stream("stdout")
			for _, w := range tt.writes {
				if n, err := s.Write([]byte(w)); n != len(w) || err != nil {
					t.Errorf("write: %d, %v", n, err)
				}
			}
			s.Close()
			got, err := os.ReadFile(l.opts.Path)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestRotation(t *testing.T) {
	tick := noon
	record := len("2026-07-01T12:00:00.000000005Z stdout F 12345\n")
	l := open(t, Options{MaxBytes: int64(10 * record), MaxFiles: 3, Now: func() time.Time { tick = tick.Add(time.Second); return tick }})
	s := l.Stream("stdout")
	for i := range 45 {
		fmt.Fprintf(s, "%05d\n", i)
	}
	s.Close()
	files, err := filepath.Glob(l.opts.Path + "*")
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, %v", files, err)
	}
	var all strings.Builder
	for _, f := range append(files[1:], files[0]) { // the current file has the shortest name but the newest records
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if f != l.opts.Path && len(b) != 10*record {
			t.Errorf("%s was cut at %d bytes, want exactly %d", f, len(b), 10*record)
		}
		all.Write(b)
	}
	var numbers []string
	for _, m := range regexp.MustCompile(`F (\d+)\n`).FindAllStringSubmatch(all.String(), -1) {
		numbers = append(numbers, m[1])
	}
	if len(numbers) != 25 || numbers[0] != "00020" || numbers[24] != "00044" {
		t.Errorf("kept %v", numbers)
	}
}

func TestOneBigWriteIsCutAcrossFiles(t *testing.T) {
	l := open(t, Options{MaxBytes: 1000, MaxFiles: 100})
	s := l.Stream("stdout")
	fmt.Fprint(s, strings.Repeat("0123456789\n", 500))
	files, err := filepath.Glob(l.opts.Path + "*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || len(b) > 1000 {
			t.Errorf("%s has %d bytes, %v", f, len(b), err)
		}
		n += strings.Count(string(b), "F 0123456789\n")
	}
	if n != 500 {
		t.Errorf("%d of 500 records are there in %d files", n, len(files))
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	for _, text := range []string{"first\n", "second\n"} {
		l := open(t, Options{Path: path})
		fmt.Fprint(l.Stream("stderr"), text)
		l.Close()
	}
	b, err := os.ReadFile(path)
	if err != nil || strings.Count(string(b), "stderr F") != 2 {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestStreamsTogether(t *testing.T) {
	l := open(t, Options{MaxBytes: 5000, MaxFiles: 1000, Now: time.Now})
	var wg sync.WaitGroup
	for _, name := range []string{"stdout", "stderr"} {
		wg.Go(func() {
			s := l.Stream(name)
			for i := range 1000 {
				fmt.Fprintf(s, "%s %d\n", name, i)
			}
			s.Close()
		})
	}
	wg.Wait()
	files, err := filepath.Glob(l.opts.Path + "*")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^\S+Z (stdout|stderr) F (stdout|stderr) \d+$`)
	n := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			m := line.FindStringSubmatch(strings.TrimSuffix(l, "\n"))
			if m == nil || m[1] != m[2] {
				t.Fatalf("broken record %q", l)
			}
			n++
		}
	}
	if n != 2000 {
		t.Errorf("%d records of 2000", n)
	}
}

// TestDiskFull writes to a device that is always full: the container must not notice.
func TestDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("SKIP:", err)
	}
	l := open(t, Options{Path: "/dev/full"})
	s := l.Stream("stdout")
	for range 10 {
		if n, err := s.Write([]byte("x\n")); n != 2 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	if lost := l.Close(); lost != 10 {
		t.Errorf("%d lost records were counted, want 10", lost)
	}
}
