// Package interop runs upstream's programs with this project's, one exchanged for the other: storage that both write,
// daemons of one against the API server of the other. Upstream's programs are built from their published modules, see
// run.sh; they are for tests alone.
package interop
