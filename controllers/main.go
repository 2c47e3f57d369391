// hardway-controllers makes the state of the cluster follow what is asked for: one loop for each subject, listed in
// all.go.
package main

import (
	"os"

	"hardway/controllers/server"
	"hardway/shared/daemon"
)

func main() { os.Exit(daemon.Main(server.Program(all()))) }
