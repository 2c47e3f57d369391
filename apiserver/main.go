// Command hardway-apiserver serves the Kubernetes API. It is the only daemon that stores anything.
package main

import (
	"os"

	"hardway/apiserver/server"
	"hardway/shared/daemon"
)

func main() { os.Exit(daemon.Main(server.Program())) }
