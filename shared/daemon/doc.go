// Package daemon is the life of a Hardway daemon: flags, logging, signals, parts started and stopped in order,
// health endpoints, systemd notification.
//
// A daemon is a Program value; its main is
//
//	func main() { os.Exit(daemon.Main(server.Program())) }
//
// Exit codes: 0 after a clean stop, 1 after a failure, 2 for a bad configuration, which a restart cannot cure.
// SIGTERM and SIGINT end the context given to Run; a second one exits at once.
package daemon
