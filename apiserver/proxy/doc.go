// Package proxy connects clients with what runs on the nodes: logs, exec, attach and port-forward through the node
// agent, and plain HTTP to pods, services and nodes.
//
// The node agent is spoken to over TLS in both directions, with upstream's kubelet URLs. Upgraded connections (SPDY or
// WebSocket) are passed through byte by byte, and only after the backend has answered 101; redirects of a backend are
// never followed. One protocol is taken apart here: port-forward by WebSocket carries SPDY, which the node gets bare.
//
// Plain HTTP goes only to addresses that a pod or node has, never to loopback or link-local ones; the address is
// checked on the socket that is used, so that no name can mean one thing to the check and another to the connection.
package proxy
