// Package hardway follows docs/the-hard-way.md to the letter: it runs every command of the page, in order, on the machine
// that the page names, starting from the tarball of 'make dist' and fresh machines. 'make test-hardway' runs it; other
// tests follow the first sections to get the cluster of the page.
package hardway
