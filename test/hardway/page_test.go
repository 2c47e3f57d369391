package hardway

import (
	"os"
	"reflect"
	"testing"
)

func TestBlocks(t *testing.T) {
	const page = "# x\n| `a` `b` | 10.0.0.1, .2 | c |\n```sh a b\none\ntwo\n```\n## y\ntext\n```sh a\nthree\n```\n"
	got, err := Blocks(page)
	want := []Block{{3, "", []string{"a", "b"}, "one\ntwo\n"}, {9, "y", []string{"a"}, "three\n"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	addresses, err := Hosts(page)
	if err != nil || !reflect.DeepEqual(addresses, map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}) {
		t.Errorf("%v, %v", addresses, err)
	}
	for _, bad := range []string{"```\nx\n```\n", "```sh\nx\n```\n", "```sh a\nx\n"} {
		if _, err := Blocks(bad); err == nil {
			t.Errorf("%q is taken for good", bad)
		}
	}
}

// TestPages keeps the pages such that the slow test can follow them.
func TestPages(t *testing.T) {
	for _, page := range []string{"the-hard-way.md", "from-the-guide.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := Blocks(string(text))
		if err != nil {
			t.Fatal(err)
		}
		known, err := Hosts(string(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			for _, name := range step.Machines {
				if known[name] == "" {
					t.Errorf("%s, line %d: machine %s is not in the table", page, step.Line, name)
				}
			}
		}
		if len(steps) < 10 {
			t.Errorf("%s: only %d blocks", page, len(steps))
		}
	}
}
