// Command hardway-nodeagent turns the pods that are assigned to this machine into processes.
package main

import (
	"os"

	"hardway/nodeagent/server"
	"hardway/nodeagent/supervisor"
	"hardway/shared/daemon"
)

func main() {
	if len(os.Args) > 1 && supervisor.Handles(os.Args[1]) {
		os.Exit(supervisor.Main(os.Args))
	}
	os.Exit(daemon.Main(server.Program()))
}
