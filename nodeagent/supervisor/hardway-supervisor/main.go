// Command hardway-supervisor is the pod supervisor as a program of its own: the node agent starts one per pod, so it is
// kept small. See package supervisor.
package main

import (
	"fmt"
	"os"

	"hardway/nodeagent/supervisor"
)

func main() {
	if len(os.Args) < 2 || !supervisor.Handles(os.Args[1]) {
		fmt.Fprintln(os.Stderr, "hardway-supervisor is started by hardway-nodeagent, not by hand")
		os.Exit(2)
	}
	os.Exit(supervisor.Main(os.Args))
}
