package bootstrap

import (
	"maps"
	"testing"
)

func TestTrusted(t *testing.T) {
	mine := map[string]string{"client-ca-file": "B\n", "requestheader-username-headers": `["X-Remote-User"]`}
	for name, c := range map[string]struct{ published, want map[string]string }{
		"nothing yet":    {nil, mine},
		"already":        {mine, mine},
		"another server": {map[string]string{"client-ca-file": "A\n", "requestheader-username-headers": `["X"]`}, map[string]string{"client-ca-file": "A\nB\n", "requestheader-username-headers": `["X-Remote-User"]`}},
	} {
		if got := trusted(c.published, mine); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
