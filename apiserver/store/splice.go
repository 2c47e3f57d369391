package store

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Where resourceVersion lies in an encoded object: field 6 of the ObjectMeta that is field 1 of every kind.
const (
	tagMetadata      = 1<<3 | 2
	fieldMetaVersion = 6
	tagMetaVersion   = fieldMetaVersion<<3 | 2
	maxDigits        = 20 // of an int64
	nowhere          = -1
)

// splice is an encoded object cut where its resourceVersion goes.
type splice struct {
	before, after []byte // of the metadata
	rest          []byte // of the object
}

func cut(body []byte) (s splice, ok bool) {
	if len(body) == 0 || body[0] != tagMetadata {
		return s, false
	}
	meta, n := protowire.ConsumeBytes(body[1:])
	if n < 0 {
		return s, false
	}
	from, to := versionField(meta)
	if from == nowhere {
		return s, false
	}
	return splice{meta[:from], meta[to:], body[1+n:]}, true
}

// SplicedSize is the number of bytes that AppendSpliced adds.
func SplicedSize(body []byte, rev int64) (size int, ok bool) {
	s, ok := cut(body)
	if !ok {
		return 0, false
	}
	var digits [maxDigits]byte
	meta := len(s.before) + 2 + len(strconv.AppendInt(digits[:0], rev, 10)) + len(s.after)
	return 1 + protowire.SizeBytes(meta) + len(s.rest), true
}

// AppendSpliced appends an encoded object with its resourceVersion put in. body comes from Decoded.Body. That costs a
// copy, where encoding the object would cost a walk over all its fields. ok is false when body does not begin with
// metadata; dst is unchanged then.
func AppendSpliced(dst, body []byte, rev int64) (out []byte, ok bool) {
	s, ok := cut(body)
	if !ok {
		return dst, false
	}
	var digits [maxDigits]byte
	version := strconv.AppendInt(digits[:0], rev, 10)
	dst = append(dst, tagMetadata)
	dst = protowire.AppendVarint(dst, uint64(len(s.before)+2+len(version)+len(s.after)))
	dst = append(dst, s.before...)
	dst = append(dst, tagMetaVersion, byte(len(version)))
	dst = append(dst, version...)
	dst = append(dst, s.after...)
	return append(dst, s.rest...), true
}

// versionField finds the bytes of the resourceVersion field, or the empty place where it belongs.
func versionField(meta []byte) (from, to int) {
	for at := 0; at < len(meta); {
		num, typ, n := protowire.ConsumeTag(meta[at:])
		if n < 0 {
			return nowhere, nowhere
		}
		if num > fieldMetaVersion {
			return at, at
		}
		size := protowire.ConsumeFieldValue(num, typ, meta[at+n:])
		if size < 0 {
			return nowhere, nowhere
		}
		if num == fieldMetaVersion {
			return at, at + n + size
		}
		at += n + size
	}
	return len(meta), len(meta)
}
