// Command hardway-netproxy makes Services work on its node: it turns them, with their EndpointSlices, into nftables maps.
package main

import (
	"os"

	"hardway/netproxy/server"
	"hardway/shared/daemon"
)

func main() { os.Exit(daemon.Main(server.Program())) }
