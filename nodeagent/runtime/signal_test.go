package runtime

import (
	"slices"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"hardway/nodeagent/image"
)

func TestParseSignal(t *testing.T) {
	tests := map[string]syscall.Signal{
		"": syscall.SIGTERM, "SIGINT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "usr1": syscall.SIGUSR1, "9": syscall.SIGKILL,
		"SIGRTMIN+3": 37, "RTMAX-1": 63, "64": 64,
	}
	for in, want := range tests {
		if got, err := ParseSignal(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"SIGNOPE", "65", "0", "-1", "9x", "SIGRTMIN+99", "SIGRTMIN+3x"} {
		if got, err := ParseSignal(in); err == nil {
			t.Errorf("%q: got %d", in, got)
		}
	}
}

func TestWithImage(t *testing.T) {
	img := image.Image{ID: "sha256:1", Config: v1.Config{
		Entrypoint: []string{"/entry"}, Cmd: []string{"arg"}, Env: []string{"A=image", "B=image"}, User: "5", WorkingDir: "/w", StopSignal: "SIGQUIT",
	}}
	tests := []struct {
		name string
		in   ContainerConfig
		want ContainerConfig
	}{
		{"all from the image", ContainerConfig{}, ContainerConfig{
			Args: []string{"/entry", "arg"}, Env: []string{"A=image", "B=image"}, User: "5", Dir: "/w", StopSignal: syscall.SIGQUIT,
		}},
		{"nothing from the image but a variable", ContainerConfig{
			Args: []string{"own"}, Env: []string{"A=own"}, User: "6", Dir: "/own", StopSignal: syscall.SIGHUP,
		}, ContainerConfig{
			Args: []string{"own"}, Env: []string{"A=own", "B=image"}, User: "6", Dir: "/own", StopSignal: syscall.SIGHUP,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := withImage(tt.in, img)
			if err != nil || !slices.Equal(got.Args, tt.want.Args) || !slices.Equal(got.Env, tt.want.Env) || got.User != tt.want.User ||
				got.Dir != tt.want.Dir || got.StopSignal != tt.want.StopSignal {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
	img.Config.StopSignal = "SIGNOPE"
	if _, err := withImage(ContainerConfig{}, img); err == nil {
		t.Error("an unknown stop signal was accepted")
	}
}
