// Package image keeps the images of this node: it brings them in from archives (`docker save`, OCI layout) and from
// registries, and unpacks every layer once, under the digest of its content, ready to be a lower directory of an
// overlay mount. Images that share layers share them on disk.
//
// On disk, below the store's folder:
//
//	index.json           every image: id, references, config, layers; replaced as a whole
//	layers/<digest>/fs   one unpacked layer, whiteouts in overlay form; beside it its size
//	leases/<holder>      layers that a container uses, so that removing its image leaves them alone
//	tmp/                 work in progress; whatever is there after a crash is rubbish
//	lock                 flock'ed around changes, for the agent and the command line share the store
//
// A layer appears under its final name only when it is complete, verified against its digest and flushed to disk; the
// index names an image only after its layers. Content of an image is never trusted: nothing an archive contains is
// resolved outside the folder of its layer.
package image
