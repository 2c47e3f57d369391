// Command hardway-dns answers the names of the cluster, and forwards all others.
package main

import (
	"os"

	"hardway/dns/server"
	"hardway/shared/daemon"
)

func main() { os.Exit(daemon.Main(server.Program())) }
