package config

import (
	"time"

	"github.com/spf13/pflag"
)

// SigningFiles are a certificate authority and its key.
type SigningFiles struct{ Cert, Key string }

// signerFlags are the built-in signers that can have an authority of their own, without their prefix kubernetes.io/.
var signerFlags = []string{"kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown"}

func (c *Config) signingFlags(fs *pflag.FlagSet) {
	files := c.Signing[""]
	fs.StringVar(&files.Cert, "cluster-signing-cert-file", "", "authority that signs certificate requests; without one none are signed")
	fs.StringVar(&files.Key, "cluster-signing-key-file", "", "key of the signing authority")
	for _, name := range signerFlags {
		files := c.Signing["kubernetes.io/"+name]
		fs.StringVar(&files.Cert, "cluster-signing-"+name+"-cert-file", "", "authority of the signer kubernetes.io/"+name)
		fs.StringVar(&files.Key, "cluster-signing-"+name+"-key-file", "", "key of the authority of the signer kubernetes.io/"+name)
	}
	fs.DurationVar(&c.SigningDuration, "cluster-signing-duration", c.SigningDuration, "how long certificates last at most")
	fs.BoolVar(&c.ApproveServing, "approve-kubelet-serving", c.ApproveServing, "approve serving certificates that a node wants for its own names and addresses")
}

func (c *Config) validateSigning(bad func(string, ...any)) {
	for name, f := range c.Signing {
		if (f.Cert == "") != (f.Key == "") {
			bad("signer %q: the certificate file and the key file of its authority belong together", name)
		}
	}
	if all := c.Signing[""]; all.Cert != "" {
		for name, f := range c.Signing {
			if name != "" && f.Cert != "" {
				bad("--cluster-signing-cert-file and an authority for %s exclude each other", name)
			}
		}
	}
	if c.SigningDuration < 10*time.Minute {
		bad("--cluster-signing-duration: %v is less than 10 minutes", c.SigningDuration)
	}
}

// SignerFor returns the authority of a signer, empty when it has none.
func (c Config) SignerFor(name string) SigningFiles {
	if f := c.Signing[name]; f != nil && f.Cert != "" {
		return *f
	}
	return *c.Signing[""]
}
