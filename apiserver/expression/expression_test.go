package expression

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
)

type thing struct {
	Name  string              `json:"name,omitempty"`
	Tags  map[string][]string `json:"tags,omitempty"`
	Inner *inner              `json:"inner,omitempty"`
}

type inner struct {
	Verb string `json:"verb,omitempty"`
}

func TestBool(t *testing.T) {
	env, err := NewEnv(Variable{"thing", reflect.TypeFor[thing]()}, Variable{Name: "claims"})
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]any{
		"thing":  thing{Name: "a", Tags: map[string][]string{"x": {"1"}}},
		"claims": map[string]any{"email": "a@b", "groups": []any{"g"}, "age": 7.0},
	}
	for text, want := range map[string]string{
		"thing.name == 'a'":                            "true",
		"has(thing.inner)":                             "false",
		"has(thing.inner) && thing.inner.verb == 'x'":  "false",
		"'1' in thing.tags['x']":                       "true",
		"claims.email.endsWith('@b')":                  "true",
		"'g' in claims.groups && claims.age > 5":       "true",
		"claims.email.split('@')[1] == 'b'":            "true",
		"thing.nam == 'a'":                             "undefined field 'nam'",
		"other == 'a'":                                 "undeclared reference to 'other'",
		"thing.name":                                   "it yields string, not [bool]",
		"claims.none == 'x'":                           "no such key: none",
		"claims.email":                                 "not true or false",
		"[1,2,3].map(x, [1,2,3].map(y, x*y)).size() >": "Syntax error",
		"'" + strings.Repeat("a", 1000) + "'.matches('a') && " + nested(7) + ".size() > 0": "cost limit exceeded",
	} {
		var got string
		p, err := env.Compile(text, cel.BoolType)
		if err == nil {
			var b bool
			if b, err = p.Bool(t.Context(), vars); err == nil {
				got = map[bool]string{true: "true", false: "false"}[b]
			}
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%.80s: %s, want %s", text, got, want)
		}
	}
}

// nested is an expression that costs 10 to the power of its depth.
func nested(depth int) string {
	list := "[1,2,3,4,5,6,7,8,9,10]"
	if depth == 1 {
		return list
	}
	return list + ".filter(x, " + nested(depth-1) + ".size() > 0)"
}
