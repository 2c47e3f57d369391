package image

import "testing"

func TestNormalize(t *testing.T) {
	digest := "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	tests := map[string]string{
		"busybox":                           "docker.io/library/busybox:latest",
		"busybox:1.36":                      "docker.io/library/busybox:1.36",
		"docker.io/busybox":                 "docker.io/library/busybox:latest",
		"docker.io/library/busybox:latest":  "docker.io/library/busybox:latest",
		"index.docker.io/library/busybox":   "docker.io/library/busybox:latest",
		"me/app":                            "docker.io/me/app:latest",
		"registry.k8s.io/pause:3.10":        "registry.k8s.io/pause:3.10",
		"localhost:5000/app":                "localhost:5000/app:latest",
		"registry.example/a/b/c:v1":         "registry.example/a/b/c:v1",
		"busybox@" + digest:                 "docker.io/library/busybox@" + digest,
		"busybox:1.36@" + digest:            "docker.io/library/busybox@" + digest,
		"":                                  "",
		"Upper/Case":                        "",
		"registry.example/app:bad tag":      "",
		"registry.example/app@sha256:short": "",
	}
	for in, want := range tests {
		got, err := Normalize(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
}
