// Command leftovers lists everything on this machine that a cluster started by 'make up' made and 'make down' must
// remove: processes, mounts, network links and namespaces, nftables tables, cgroups. It only reads, but for the second
// form, which removes the nftables tables (there need not be an nft program on the machine).
//
//	leftovers DIR...
//	leftovers -remove-tables
//
// DIR are the folders that the cluster writes to and starts its programs from. One line for each thing that is there;
// the exit status is 0 when there is nothing, 1 when there is something, 2 when it could not be found out.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-remove-tables" {
		if err := removeTables(); err != nil {
			fmt.Fprintln(os.Stderr, "leftovers:", err)
			os.Exit(2)
		}
		return
	}
	var dirs []string
	for _, dir := range os.Args[1:] {
		dir, err := filepath.Abs(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, "leftovers:", err)
			os.Exit(2)
		}
		dirs = append(dirs, dir)
	}
	found, err := find(append(dirs, runDir))
	if err != nil {
		fmt.Fprintln(os.Stderr, "leftovers:", err)
		os.Exit(2)
	}
	for _, line := range found {
		fmt.Println(line)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}
