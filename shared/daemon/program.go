package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"hardway/shared/logging"
	"hardway/shared/version"
)

// Program is a daemon, or one of its subcommands, as a value.
type Program struct {
	Name     string                                           // such as hardway-scheduler
	Flags    func(fs *pflag.FlagSet)                          // binds flags onto the configuration
	Validate func() error                                     // all problems of the configuration, joined
	Run      func(ctx context.Context, log *zap.Logger) error // blocks until ctx ends
	Args     func(args []string) error                        // takes what follows the flags; nil: nothing may follow
	Commands map[string]Program                               // chosen by the first argument
}

// Exit codes of Main.
const (
	exitOK = iota
	exitFailed
	exitBadConfig
)

// Main runs the program with the arguments and signals of this process and returns the exit code.
func Main(p Program) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		NotifyStopping()
		stop()
		<-signals
		os.Exit(exitFailed)
	}()
	return p.main(ctx, os.Args[1:])
}

func (p Program) main(ctx context.Context, args []string) int {
	if len(args) > 0 {
		if sub, ok := p.Commands[args[0]]; ok {
			sub.Name = p.Name + " " + args[0]
			return sub.main(ctx, args[1:])
		}
	}
	fs := pflag.NewFlagSet(p.Name, pflag.ContinueOnError)
	fs.SortFlags = false
	var logs logging.Options
	fs.IntVarP(&logs.Level, "v", "v", 0, "log level: 2 and above log every step")
	fs.StringVar(&logs.Format, "logging-format", "text", "text or json")
	showVersion := fs.Bool("version", false, "print the version and exit")
	if p.Flags != nil {
		p.Flags(fs)
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return exitOK
	case err != nil:
		return p.complain(err)
	case *showVersion:
		fmt.Printf("%s %s (Kubernetes %s)\n", p.Name, version.Hardway, version.Kubernetes)
		return exitOK
	}
	if err := p.takeArgs(fs.Args()); err != nil {
		return p.complain(err)
	}
	if p.Validate != nil {
		if err := p.Validate(); err != nil {
			return p.complain(err)
		}
	}
	return p.run(ctx, fs, logs)
}

func (p Program) takeArgs(args []string) error {
	if p.Args != nil {
		return p.Args(args)
	}
	if len(args) > 0 {
		known := make([]string, 0, len(p.Commands))
		for name := range p.Commands {
			known = append(known, name)
		}
		slices.Sort(known)
		return fmt.Errorf("unexpected argument %q; commands: [%s]", args[0], strings.Join(known, " "))
	}
	return nil
}

func (p Program) run(ctx context.Context, fs *pflag.FlagSet, logs logging.Options) int {
	log, err := logging.New(logs)
	if err != nil {
		return p.complain(err)
	}
	defer log.Sync() //nolint:errcheck // a terminal cannot be synced
	warnIgnored(fs, log)
	if err := p.Run(ctx, log); err != nil && !errors.Is(err, context.Canceled) {
		if bad, ok := errors.AsType[*ConfigError](err); ok {
			return p.complain(bad)
		}
		log.Error("stopped", zap.Error(err))
		return exitFailed
	}
	return exitOK
}

// ConfigError is a mistake in the configuration that only shows once the program runs, such as in a file: the
// program exits with code 2.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

func (p Program) complain(err error) int {
	fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
	return exitBadConfig
}

const ignoredMark = "hardway-ignored"

// Ignored declares flags of upstream that mean nothing here: each is accepted, with or without a value, and earns
// one warning line.
func Ignored(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		if fs.Lookup(name) != nil {
			continue
		}
		fs.String(name, "", "accepted for upstream's sake, without effect")
		f := fs.Lookup(name)
		f.NoOptDefVal, f.Hidden = "true", true
		f.Annotations = map[string][]string{ignoredMark: nil}
	}
}

func warnIgnored(fs *pflag.FlagSet, log *zap.Logger) {
	fs.Visit(func(f *pflag.Flag) {
		if _, ok := f.Annotations[ignoredMark]; ok {
			log.Warn("flag has no effect here", zap.String("flag", "--"+f.Name))
		}
	})
}
