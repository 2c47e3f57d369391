package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandler(t *testing.T) {
	for _, row := range []struct {
		path     string
		code     int
		body     string
		exitCode int
	}{
		{"/", 200, "hello from version 7 in pod p, path /", -1},
		{"/some/where", 200, "path /some/where", -1},
		{"/healthz", 200, "ok", -1},
		{"/exit/3", 200, "", 3},
		{"/exit/256", 400, "0 to 255", -1},
		{"/exit/now", 400, "0 to 255", -1},
	} {
		t.Run(row.path, func(t *testing.T) {
			exitCode := -1
			w := httptest.NewRecorder()
			handler("7", "p", func(code int) { exitCode = code }).ServeHTTP(w, httptest.NewRequest("GET", row.path, nil))
			if w.Code != row.code || !strings.Contains(w.Body.String(), row.body) || exitCode != row.exitCode {
				t.Errorf("GET %s: %d %q exit %d, want %d %q exit %d", row.path, w.Code, w.Body, exitCode, row.code, row.body, row.exitCode)
			}
		})
	}
}
