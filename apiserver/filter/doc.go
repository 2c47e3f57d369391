// Package filter is what every request passes before a handler sees it.
//
//	recover → request info, Audit-Id → measure, access log → authenticate → requests in flight → deadline → authorize → handler
//
// A filter answers with an error or calls the next one; all of them write errors through the one function that is
// passed in. What they learn lies in the request's State (package request). Nothing here knows any kind.
package filter
