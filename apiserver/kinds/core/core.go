// Package core declares the kinds of the core group: names, defaults, validation, subresources and columns of each in a
// file of its own, Pod's in a family of files pod*.go. Everything here is a pure function of objects; allocation of
// addresses and ports, storage and admission happen elsewhere.
//
// Other groups use ValidatePodTemplate, DefaultPodTemplate and the like for the pod templates they embed.
package core
