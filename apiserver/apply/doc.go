// Package apply changes objects by patches and keeps account of who owns which field.
//
// Two halves. Patch (patch.go) applies the four forms of a patch to an object. Manager (manager.go) writes
// metadata.managedFields on every write and merges server-side applies, using the published structured-merge-diff
// library with types that package openapi reads from the Go types (Types). All functions are pure but for the clock
// that stamps managedFields.
package apply
