// Command kubectl is upstream's kubectl, built from the published k8s.io/kubectl module so that nobody who has this
// repository must download one. Nothing is added to it and nothing is changed: what it prints is what every other
// kubectl of the same version prints.
package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // exec and cloud credential plugins named in kubeconfigs
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	// The log level is needed while the command tree is built, before flags are parsed. A bad one is reported by that
	// parser, with the usage beside it.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
