package config

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"hardway/apiserver/audit"
)

// Audit says what is written down about requests, and where. Without Policy nothing is.
type Audit struct {
	Policy  string
	Log     audit.LogOptions
	Webhook audit.WebhookOptions
}

func defaultAudit() Audit {
	return Audit{
		Log:     audit.LogOptions{Buffer: audit.Buffer{Mode: audit.Batch, Size: 10000, Most: 1000, Wait: 100 * time.Millisecond}},
		Webhook: audit.WebhookOptions{Backoff: 10 * time.Second, Buffer: audit.Buffer{Mode: audit.Batch, Size: 10000, Most: 400, Wait: 30 * time.Second}},
	}
}

func (a *Audit) bind(fs *pflag.FlagSet) {
	fs.StringVar(&a.Policy, "audit-policy-file", "", "file that says which requests are written down, and how much of them (default: none)")
	l, w := &a.Log, &a.Webhook
	fs.StringVar(&l.Path, "audit-log-path", "", "file to write audit events to, - for standard output")
	fs.IntVar(&l.MaxAge, "audit-log-maxage", 0, "days for which old audit logs are kept, 0 for ever")
	fs.IntVar(&l.MaxBackups, "audit-log-maxbackup", 0, "old audit logs that are kept, 0 for all")
	fs.IntVar(&l.MaxSize, "audit-log-maxsize", 0, "MB at which an audit log is put aside (0: 100)")
	fs.BoolVar(&l.Compress, "audit-log-compress", false, "compress audit logs that are put aside")
	bindBuffer(fs, "audit-log", &l.Buffer)
	fs.StringVar(&w.Kubeconfig, "audit-webhook-config-file", "", "kubeconfig of a server to send audit events to")
	fs.DurationVar(&w.Backoff, "audit-webhook-initial-backoff", w.Backoff, "how long to wait before a failed batch is sent again")
	bindBuffer(fs, "audit-webhook", &w.Buffer)
}

func bindBuffer(fs *pflag.FlagSet, backend string, b *audit.Buffer) {
	fs.StringVar(&b.Mode, backend+"-mode", b.Mode, "how requests wait for this backend: batch (not at all), blocking, or blocking-strict, which refuses requests that cannot be written down")
	fs.IntVar(&b.Size, backend+"-batch-buffer-size", b.Size, "events that may wait to be written; further ones are dropped and counted")
	fs.IntVar(&b.Most, backend+"-batch-max-size", b.Most, "events that are written at once at most")
	fs.DurationVar(&b.Wait, backend+"-batch-max-wait", b.Wait, "how long an event waits for others to be written with it")
}

func (a *Audit) validate() []error {
	var errs []error
	for name, b := range map[string]*audit.Buffer{"--audit-log-mode": &a.Log.Buffer, "--audit-webhook-mode": &a.Webhook.Buffer} {
		if err := b.Check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if a.Policy != "" && a.Log.Path == "" && a.Webhook.Kubeconfig == "" {
		errs = append(errs, fmt.Errorf("--audit-policy-file needs --audit-log-path or --audit-webhook-config-file"))
	}
	return errs
}
