package robustness

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// write and read are requests of the time given in milliseconds.
func write(key, value string, base, version int64, start, end int) Op {
	return Op{Key: key, Write: true, Value: value, Base: base, Version: version, Start: ms(start), End: ms(end)}
}
func read(key, value string, version int64, start, end int) Op {
	return Op{Key: key, Value: value, Version: version, Start: ms(start), End: ms(end)}
}
func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func with(op Op, o Outcome) Op { op.Outcome = o; return op }

func TestRegisters(t *testing.T) {
	created := write("a", "1", 0, 10, 0, 5)
	for name, test := range map[string]struct {
		ops     []Op
		watches []Watch
		final   State
		gone    bool
		want    string // a part of the complaint; empty: none
	}{
		"written, read, written": {ops: []Op{created, read("a", "1", 10, 6, 8), write("a", "2", 10, 20, 9, 12)}, final: State{20, "2"}},
		"a read beside a write may see either": {ops: []Op{created, write("a", "2", 10, 20, 6, 20), read("a", "2", 20, 7, 8), read("a", "1", 10, 6, 9)},
			final: State{20, "2"}},
		"a stale read":                         {ops: []Op{created, write("a", "2", 10, 20, 6, 8), read("a", "1", 10, 9, 12)}, final: State{20, "2"}, want: "returned version 10, but version 20"},
		"a lost update":                        {ops: []Op{created, write("a", "2", 10, 20, 6, 8), write("a", "3", 10, 30, 7, 9)}, final: State{30, "3"}, want: "version 20 lies between"},
		"a lost write at the end":              {ops: []Op{created, write("a", "2", 10, 20, 6, 8)}, final: State{10, "1"}, want: "ends at version 10"},
		"gone":                                 {ops: []Op{created}, gone: true, want: "nobody deleted it"},
		"deleted":                              {ops: []Op{created, {Key: "a", Write: true, Delete: true, Start: ms(6), End: ms(7)}}, gone: true},
		"deleted, and back":                    {ops: []Op{created, {Key: "a", Write: true, Delete: true, Start: ms(6), End: ms(7)}}, final: State{10, "1"}, want: "deletion was acknowledged"},
		"a deletion that may have happened":    {ops: []Op{created, {Key: "a", Write: true, Delete: true, Outcome: Unknown}}, gone: true},
		"an unknown write that took place":     {ops: []Op{created, with(write("a", "2", 10, 0, 6, 9), Unknown), read("a", "2", 20, 10, 11)}, final: State{20, "2"}},
		"an unknown write that did not":        {ops: []Op{created, with(write("a", "2", 10, 0, 6, 9), Unknown), read("a", "1", 10, 10, 11)}, final: State{10, "1"}},
		"a refused write that took place":      {ops: []Op{created, with(write("a", "2", 10, 0, 6, 9), Refused), read("a", "2", 20, 10, 11)}, final: State{20, "2"}, want: "was refused"},
		"from nowhere":                         {ops: []Op{created, read("a", "9", 20, 10, 11)}, final: State{20, "9"}, want: "nobody wrote"},
		"one version, two values":              {ops: []Op{created, read("a", "2", 10, 10, 11)}, final: State{10, "1"}, want: "for one and"},
		"acknowledged with a version it isn't": {ops: []Op{created, read("a", "1", 11, 10, 11)}, final: State{11, "1"}, want: "acknowledged as version 10"},
		"a watcher saw what was lost": {ops: []Op{created, with(write("a", "2", 10, 0, 6, 9), Unknown)}, watches: []Watch{{Events: []Event{{Key: "a", Version: 20, Value: "2"}}}},
			final: State{10, "1"}, want: "ends at version 10"},
	} {
		t.Run(name, func(t *testing.T) {
			final := map[string]State{"a": test.final}
			if test.gone {
				final = nil
			}
			got := strings.Join(Registers(test.ops, test.watches, final), "\n")
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestWatches(t *testing.T) {
	ops := []Op{write("a", "1", 0, 10, 0, 1), write("b", "2", 0, 20, 0, 1), with(write("b", "3", 20, 0, 1, 2), Unknown),
		{Key: "a", Write: true, Delete: true}}
	a, b := Event{Key: "a", Version: 10, Value: "1"}, Event{Key: "b", Version: 20, Value: "2"}
	unsure, gone := Event{Key: "b", Version: 25, Value: "3"}, Event{Key: "a", Version: 30, Deleted: true}
	for name, test := range map[string]struct {
		watch Watch
		want  string
	}{
		"everything":        {Watch{Until: 30, Events: []Event{a, b, unsure, gone}}, ""},
		"all that is sure":  {Watch{Until: 30, Events: []Event{a, b, gone}}, ""},
		"a hole":            {Watch{Until: 30, Events: []Event{a, gone}}, "never told of version 20 of b"},
		"a deletion missed": {Watch{Until: 30, Events: []Event{a, b}}, "never told that a was deleted"},
		"twice":             {Watch{Until: 30, Events: []Event{a, a, b, gone}}, "version 10 of a after version 10"},
		"back in time":      {Watch{Until: 30, Events: []Event{b, a, gone}}, "version 10 of a after version 20"},
		"listed anew":       {Watch{Until: 30, Gaps: []Gap{{5, 25}}, Events: []Event{gone}}, ""},
		"a hole beside":     {Watch{Until: 30, Gaps: []Gap{{15, 25}}, Events: []Event{gone}}, "version 10 of a"},
		"began later":       {Watch{From: 15, Until: 30, Events: []Event{b, gone}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(Watches(ops, []Watch{test.watch}), "\n")
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestRuns(t *testing.T) {
	if got := Runs([]Run{{"a", "m"}, {"b", "m"}}); len(got) != 0 {
		t.Error(got)
	}
	if got := Runs([]Run{{"a", "m"}, {"b", "m"}, {"a", "n"}}); !slices.Equal(got, []string{"pod a was started on m and again on n"}) {
		t.Error(got)
	}
}

func TestSilence(t *testing.T) {
	ops := []Op{read("a", "", 1, 0, 1), with(read("a", "", 1, 2, 4), Unknown), read("a", "", 1, 3, 9), read("a", "", 1, 3, 5)}
	for _, row := range []struct{ from, until, longest, begin int }{{0, 10, 4, 1}, {0, 20, 11, 9}, {6, 8, 2, 6}} {
		if longest, begin := Silence(ops, ms(row.from), ms(row.until)); longest != ms(row.longest) || begin != ms(row.begin) {
			t.Errorf("from %d to %d: %s at %s", row.from, row.until, longest, begin)
		}
	}
}
