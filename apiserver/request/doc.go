// Package request says what an HTTP request asks for and who asks.
//
// Parse turns a method and a URL into an Info: verb, group, version, namespace, resource, name, subresource. The
// filters put it, the user and the list of warnings into one value in the request's context (State), so that a request
// costs one context entry; everything below reads it through From, User and Warn.
package request
