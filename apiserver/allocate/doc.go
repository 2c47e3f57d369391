// Package allocate gives Services their cluster IPs and node ports, so that no two Services have the same, whatever
// number of apiservers there is and whenever one stops.
//
// Cluster IPs come from the configured ranges, then from those of ServiceCIDR objects that are ready.
//
// A cluster IP belongs to whoever created the IPAddress object of that name (networking.k8s.io/v1); creating one is
// atomic in etcd. Node ports are the bits of one RangeAllocation at /registry/ranges/servicenodeports, changed by
// compare-and-swap, all ports of a Service at once. Both are upstream's layouts.
//
// Allocator.Reserve is a registry hook: it fills in what a Service leaves open and claims what it asks for, and returns
// how to give back what is no longer needed once the Service is stored, or what was claimed if it is not. A server that
// dies in between leaves claims without a Service: Repair finds them after some rounds, and claims what a stored Service
// lost.
//
// Addresses that are chosen here come from the upper part of a range, so that the lower part is free for those that name
// theirs, such as the cluster's DNS; when the upper part is full the lower one is used as well.
package allocate
