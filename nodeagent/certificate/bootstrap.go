package certificate

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Bootstrap is how a machine joins a cluster.
type Bootstrap struct {
	From string // kubeconfig with a token that may only ask for a certificate
	To   string // kubeconfig that is written when the certificate is there
	File string // of the certificate and its key
	Node string
	Log  *zap.Logger
}

// Needed says whether there is no kubeconfig yet, or one whose certificate is over.
func (b Bootstrap) Needed(now time.Time) (bool, error) {
	cfg, err := clientcmd.LoadFromFile(b.To)
	if os.IsNotExist(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read --kubeconfig: %w", err)
	}
	cc := cfg.Contexts[cfg.CurrentContext]
	if cc == nil || cfg.AuthInfos[cc.AuthInfo] == nil {
		return false, fmt.Errorf("--kubeconfig %s has no user in its current context", b.To)
	}
	user := cfg.AuthInfos[cc.AuthInfo]
	switch {
	case user.ClientCertificate != "":
		c := Load(user.ClientCertificate)
		return c == nil || !now.Before(c.NotAfter), nil
	case len(user.ClientCertificateData) > 0:
		c := parse(user.ClientCertificateData)
		return c == nil || !now.Before(c.NotAfter), nil
	}
	return false, nil // a token, or something else that does not end
}

// Run gets the certificate, by way of the api that From leads to, and writes To. It tries until ctx ends.
func (b Bootstrap) Run(ctx context.Context, api API) error {
	for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
		data, err := Request(ctx, api, Client(b.Node))
		if err == nil {
			if err := store(b.File, data); err != nil {
				return err
			}
			return b.write()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.Log.Warn("this node has no certificate yet", zap.Error(err))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retry):
		}
	}
}

// write writes the kubeconfig To: From's cluster, with the new certificate.
func (b Bootstrap) write() error {
	from, err := clientcmd.LoadFromFile(b.From)
	if err != nil {
		return fmt.Errorf("read --bootstrap-kubeconfig: %w", err)
	}
	cc := from.Contexts[from.CurrentContext]
	if cc == nil || from.Clusters[cc.Cluster] == nil {
		return fmt.Errorf("--bootstrap-kubeconfig %s has no cluster in its current context", b.From)
	}
	const name = "default"
	to := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: from.Clusters[cc.Cluster]},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {ClientCertificate: b.File, ClientKey: b.File}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}
	data, err := clientcmd.Write(to)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return store(b.To, data)
}
