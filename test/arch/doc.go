// Package arch holds the import rules of this repository as tables, and tests that check them: which module may use
// which, which package is the only door to a part of the outside world, what no program may contain, and that every
// package says what it is for. It has no code of its own besides; rules.go is the list to read.
package arch
