// Package csi gives pods the volumes of CSI drivers: those of claims and those that a pod describes inline, as folders or
// as block devices.
//
//	plugins_registry ─▶ Drivers ─▶ CSINode, labels of the Node
//	                       │
//	SetUp: record ▷ in use ▷ attached ▷ NodeStageVolume ▷ NodePublishVolume ▷ fsGroup ▷ published ▷ NodeExpandVolume
//	TearDown:                  NodeUnpublishVolume ▷ NodeUnstageVolume (the last one) ▷ no record
//
// The one invariant: the record of a pod's volume (vol_data.json, in upstream's format) is on disk before anything is done
// and goes after everything is undone. Who is killed in between finds it again: while the pod is wanted the same steps are
// done again, which CSI drivers must allow, and when it is not they are undone. The records say, too, which other pods
// share a staged volume and which volumes the node tells the cluster it uses, so there is nothing else to remember.
//
// A volume that this boot of the machine has published is left alone: no driver is asked for it, and none needs to run.
//
// Reads CSIDrivers, VolumeAttachments and the secrets that volumes name, one by one when they are needed; writes the
// node's CSINode, labels and annotation of its Node, and the status of claims whose volumes have grown. A driver that
// hangs holds up the pods of that one volume; every call to it ends after callLimit.
package csi
