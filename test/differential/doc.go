// Package differential gives the same random clusters and pods to our scheduling cycle and to upstream's scheduler
// framework, and compares what they find. It does so with the roles and bindings that a new cluster has, too. It is a module
// of its own because upstream's is large.
package differential
