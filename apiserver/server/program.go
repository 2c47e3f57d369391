package server

import (
	"context"

	"go.uber.org/zap"

	"hardway/apiserver/config"
	"hardway/shared/daemon"
)

// Program is the apiserver as a program.
func Program() daemon.Program {
	cfg := config.Default()
	return daemon.Program{
		Name:     "hardway-apiserver",
		Flags:    cfg.Bind,
		Validate: cfg.Validate,
		Commands: map[string]daemon.Program{"etcd": etcdCommands(), "roles": rolesCommand()},
		Run:      func(ctx context.Context, log *zap.Logger) error { return Run(ctx, cfg, log) },
	}
}
