// Package machines runs whole machines with a real systemd inside this one, for tests: systemd-nspawn containers on one
// bridge, each with a disk, cgroups and an address of its own. Power can be cut and links can be taken down.
//
// It changes the network, mounts and cgroups of whoever uses it, so it belongs into namespaces of its own, which also end
// everything when the test ends; the make targets do that:
//
//	unshare --mount --net --pid --fork --kill-child --mount-proc ...
package machines
