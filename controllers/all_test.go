package main

import (
	"os"
	"strings"
	"testing"
)

// TestTable checks that every controller declares itself and that the README lists it.
func TestTable(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range all() {
		for _, name := range []string{c.Name, c.Alias} {
			if name != "" && seen[name] {
				t.Errorf("%s: name %q is taken", c.Name, name)
			}
			seen[name] = true
		}
		if c.Name == "" || len(c.Reads) == 0 || len(c.Writes) == 0 || c.New == nil {
			t.Errorf("%s: declares nothing", c.Name)
		}
		if !strings.Contains(string(readme), "`"+c.Name+"`") {
			t.Errorf("%s is not in README.md", c.Name)
		}
	}
}
