// Command hardway-scheduler decides on which node each pod runs.
package main

import (
	"os"

	"hardway/scheduler/server"
	"hardway/shared/daemon"
)

func main() { os.Exit(daemon.Main(server.Program())) }
