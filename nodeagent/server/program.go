// Package server builds the node agent from its parts and runs them. It is the one place that knows the concrete types.
//
// Start: configuration, image store, pod network, runtime (which finds the pods that run already), API. Parts run in a
// group: health and recorder first, then the node and its lease, then, once the first lists have arrived, the workers.
// READY is told to systemd when the workers have their pods. On SIGTERM the parts stop in reverse order; containers
// run on under their supervisors and are found again at the next start.
package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"hardway/nodeagent/config"
	"hardway/nodeagent/image"
	"hardway/shared/daemon"
)

// Program returns the daemon.
func Program() daemon.Program {
	cfg := config.Default()
	return daemon.Program{
		Name: "hardway-nodeagent", Flags: cfg.AddFlags, Validate: cfg.Load,
		Run:      func(ctx context.Context, log *zap.Logger) error { return Run(ctx, cfg, log) },
		Commands: map[string]daemon.Program{"image": imageProgram()},
	}
}

// imageProgram is the subcommand with which images get onto nodes that reach no registry.
func imageProgram() daemon.Program {
	return daemon.Program{Args: func([]string) error { return errors.New("name what to do: import, ls, pull or rm") }, Commands: map[string]daemon.Program{
		"import": imageCommand(func(ctx context.Context, s *image.Store, args []string) error {
			for _, path := range args {
				images, err := s.Import(ctx, path)
				if err != nil {
					return err
				}
				for _, m := range images {
					show(m)
				}
			}
			return nil
		}, "archives to import"),
		"pull": imageCommand(func(ctx context.Context, s *image.Store, args []string) error {
			for _, ref := range args {
				m, err := s.Pull(ctx, ref, image.Auth{})
				if err != nil {
					return err
				}
				show(m)
			}
			return nil
		}, "images to pull"),
		"rm": imageCommand(func(_ context.Context, s *image.Store, args []string) error {
			for _, ref := range args {
				if err := s.Remove(ref); err != nil {
					return err
				}
			}
			return nil
		}, "images to remove"),
		"ls": imageCommand(func(_ context.Context, s *image.Store, _ []string) error {
			images, err := s.List()
			for _, m := range images {
				show(m)
			}
			return err
		}, ""),
	}}
}

// imageCommand is one of them; what names its arguments, "" if it takes none.
func imageCommand(run func(context.Context, *image.Store, []string) error, what string) daemon.Program {
	dir, hosts := config.Default().ImageDir, config.Default().HostsDir
	var args []string
	return daemon.Program{
		Flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&dir, "image-dir", dir, "directory of the images")
			fs.StringVar(&hosts, "registry-hosts-dir", hosts, "directory of <registry>/hosts.toml files: mirrors and CAs")
		},
		Args: func(given []string) error {
			switch {
			case what != "" && len(given) == 0:
				return fmt.Errorf("name the %s", what)
			case what == "" && len(given) > 0:
				return fmt.Errorf("unexpected argument %q", given[0])
			}
			args = given
			return nil
		},
		Run: func(ctx context.Context, _ *zap.Logger) error {
			s, err := image.Open(dir, image.Options{HostsDir: hosts})
			if err != nil {
				return err
			}
			return run(ctx, s, args)
		},
	}
}

// show prints an image as one line.
func show(m image.Image) {
	refs := m.Refs
	if len(refs) == 0 {
		refs = []string{"<none>"}
	}
	for _, r := range refs {
		fmt.Printf("%s\t%s\t%d\n", r, m.ID, m.Size) //nolint:forbidigo // this is the command's output
	}
}
