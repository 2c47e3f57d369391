package control

import (
	"fmt"
	"strings"
)

// Choose returns the controllers that the values of --controllers ask for, in the order of the table: a name turns one
// on, "-name" turns one off, "*" stands for all others. An unknown name is an error, unless it is one of upstream's
// that this daemon does not have yet and it is turned off.
func Choose(table []Controller, values []string) ([]Controller, error) {
	on, off, star := map[string]bool{}, map[string]bool{}, false
	for _, v := range values {
		name, negative := strings.CutPrefix(strings.TrimSpace(v), "-")
		switch c, ok := lookup(table, name); {
		case name == "*" && !negative:
			star = true
		case ok && negative:
			off[c] = true
		case ok:
			on[c] = true
		case !negative:
			return nil, fmt.Errorf("--controllers: there is no controller %q; there are %s", name, strings.Join(names(table), ", "))
		}
	}
	var out []Controller
	for _, c := range table {
		if on[c.Name] || (star && !off[c.Name]) {
			out = append(out, c)
		}
	}
	return out, nil
}

func lookup(table []Controller, name string) (string, bool) {
	for _, c := range table {
		if name == c.Name || name == c.Alias {
			return c.Name, true
		}
	}
	return "", false
}

func names(table []Controller) []string {
	var out []string
	for _, c := range table {
		out = append(out, c.Name)
	}
	return out
}
