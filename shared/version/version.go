// Package version says which Hardway this is and which Kubernetes API it speaks.
package version

// Kubernetes is the version of the API contract that every daemon reports, upstream's notation.
const Kubernetes = "v1.36.3"

// Hardway is this project's own version; set by the linker, see the Makefile.
var Hardway = "v0.1.0-dev"
