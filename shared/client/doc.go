// Package client is how a daemon talks to the apiserver: a small typed client and shared informers.
//
// It stands on client-go's rest and tools/cache and leaves out the generated clientsets, which would bring every API
// group into every daemon: a Kind ties a Go type to its place in the API, and the kinds that daemons use are listed in
// kinds.go. Objects travel as protobuf.
//
//	pod, err := client.Pods.Get(ctx, api, "default", "web-0")
//	informers := client.NewInformers(api, log)
//	pods := client.Pods.Informer(informers, client.Options{FieldSelector: "spec.nodeName=" + node})
package client
