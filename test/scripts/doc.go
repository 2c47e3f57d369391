// Package scripts tests the shell scripts that need no cluster: packages, certificates, kubeconfigs, the supervision of
// daemons. The others are tested by test/e2e.
package scripts
