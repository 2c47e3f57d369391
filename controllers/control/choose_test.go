package control

import (
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	table := []Controller{{Name: "a-controller", Alias: "a"}, {Name: "b-controller", Alias: "b"}, {Name: "c-controller", Alias: "c"}}
	for flag, want := range map[string]string{
		"*": "a-controller b-controller c-controller", "*,-b": "a-controller c-controller", "b": "b-controller", "c-controller,a": "a-controller c-controller",
		"*,-nodeipam-of-upstream": "a-controller b-controller c-controller", "": "there is no controller", "*,x": "there is no controller", "-a": "", "*, -c": "a-controller b-controller",
	} {
		chosen, err := Choose(table, strings.Split(flag, ","))
		if err != nil {
			if want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v", flag, err)
			}
			continue
		}
		if got := strings.Join(names(chosen), " "); got != want {
			t.Errorf("%q: %s, want %s", flag, got, want)
		}
	}
}
