// Package logging makes the zap logger of a daemon and sends klog's lines, which client-go writes, through it.
//
// One line is one event: a time, a level, the component, a sentence, and constant keys such as namespace, name, uid,
// node, controller and resourceVersion. Nothing below main has a logger of its own: it is passed in.
package logging

import (
	"fmt"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// Options say how a daemon logs.
type Options struct {
	Level  int    // as klog's -v: up to 1 is info, from 2 on debug
	Format string // "text" (default) or "json"
}

// New makes the logger, writing to standard error, and points klog at it.
func New(o Options) (*zap.Logger, error) {
	level := zapcore.InfoLevel
	if o.Level >= 2 {
		level = zapcore.DebugLevel
	}
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoder.EncodeDuration = zapcore.StringDurationEncoder
	encoding := "console"
	switch o.Format {
	case "", "text":
		encoder.EncodeLevel = zapcore.CapitalLevelEncoder
	case "json":
		encoding = "json"
	default:
		return nil, fmt.Errorf("log format %q: only text and json are known", o.Format)
	}
	log, err := zap.Config{
		Level:             zap.NewAtomicLevelAt(level),
		Encoding:          encoding,
		EncoderConfig:     encoder,
		OutputPaths:       []string{"stderr"},
		ErrorOutputPaths:  []string{"stderr"},
		DisableStacktrace: true,
		DisableCaller:     true,
	}.Build()
	if err != nil {
		return nil, fmt.Errorf("set up logging: %w", err)
	}
	klog.SetLogger(zapr.NewLogger(log.Named("client").WithOptions(zap.IncreaseLevel(max(level, zapcore.WarnLevel)))))
	return log, nil
}
