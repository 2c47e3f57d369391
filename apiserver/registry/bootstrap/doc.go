// Package bootstrap makes the objects that a cluster has from the beginning: the system's namespaces, the service range
// (ServiceCIDR "kubernetes") and the Service "kubernetes" in namespace default, through which pods reach the apiservers.
//
// Which apiservers there are is written to etcd at /registry/masterleases/<address>, upstream's place and form, with a
// short time to live: every apiserver renews its own entry and writes all entries into the Endpoints and the
// EndpointSlice "kubernetes". One that stops takes its entry away; one that dies is gone when its entry expires.
package bootstrap
