// Package wire reads ordinary DNS queries and writes answers to them from packed images, without allocating.
//
// Nearly all queries look alike: one question of class IN, perhaps an EDNS0 record. Those go through here; for all others [Parse] says no, and the
// full library takes over.
package wire

import "encoding/binary"

const (
	headerLen = 12
	// maxName is the longest name on the wire, RFC 1035 section 2.3.4.
	maxName  = 255
	maxLabel = 63
	typeOPT  = 41
	classIN  = 1
)

// Sizes of UDP answers: without EDNS0, RFC 1035 section 2.3.4, and the most that we send with it. 1232 bytes fit every path without fragments.
const (
	MinUDP = 512
	MaxUDP = 1232
)

// Query is an ordinary query. Its slices are parts of the message, or of the Scratch, that it was parsed with.
type Query struct {
	ID       uint16
	Recurse  bool   // RD
	Checking bool   // CD
	Name     []byte // the question's name on the wire, as the client wrote it
	Type     uint16
	EDNS     bool
	Size     int  // largest UDP answer that the client takes
	DO       bool // DNSSEC records wanted
	// Key identifies the answer: the name in lower case, the type, whether DNSSEC records are wanted.
	Key []byte
}

// Scratch is room for one query at a time.
type Scratch [maxName + 3]byte

// Parse reads a query. False: not an ordinary one, which does not mean that it is wrong.
func Parse(msg []byte, scratch *Scratch) (Query, bool) {
	var q Query
	if len(msg) < headerLen {
		return q, false
	}
	flags := binary.BigEndian.Uint16(msg[2:])
	// QR, opcode, AA, TC, RA and the rcode must be zero; RD, AD and CD are the client's choice.
	if flags&^0x0130 != 0 || binary.BigEndian.Uint16(msg[4:]) != 1 || binary.BigEndian.Uint32(msg[6:]) != 0 {
		return q, false
	}
	additional := binary.BigEndian.Uint16(msg[10:])
	if additional > 1 {
		return q, false
	}
	q.ID, q.Recurse, q.Checking, q.Size = binary.BigEndian.Uint16(msg), flags&0x0100 != 0, flags&0x0010 != 0, MinUDP
	end := lowerName(msg, scratch)
	if end == 0 || len(msg) < end+4 || binary.BigEndian.Uint16(msg[end+2:]) != classIN {
		return q, false
	}
	q.Name, q.Type = msg[headerLen:end], binary.BigEndian.Uint16(msg[end:])
	rest := msg[end+4:]
	if additional == 1 && !q.edns(rest) || additional == 0 && len(rest) > 0 {
		return q, false
	}
	n := len(q.Name)
	scratch[n], scratch[n+1], scratch[n+2] = byte(q.Type>>8), byte(q.Type), 0
	if q.DO {
		scratch[n+2] = 1
	}
	q.Key = scratch[:n+3]
	return q, true
}

// lowerName copies the question's name in lower case and returns the offset behind it, or 0 if it is not a plain name.
func lowerName(msg []byte, scratch *Scratch) int {
	at := headerLen
	for {
		if at >= len(msg) {
			return 0
		}
		length := int(msg[at])
		end := at + 1 + length
		if length > maxLabel || end > len(msg) || end-headerLen > maxName {
			return 0
		}
		scratch[at-headerLen] = msg[at]
		for i := at + 1; i < end; i++ {
			c := msg[i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			scratch[i-headerLen] = c
		}
		if at = end; length == 0 {
			return at
		}
	}
}

// edns reads an OPT record that is all of rest. Options are passed over.
func (q *Query) edns(rest []byte) bool {
	if len(rest) < 11 || rest[0] != 0 || binary.BigEndian.Uint16(rest[1:]) != typeOPT || rest[5] != 0 || rest[6] != 0 ||
		len(rest) != 11+int(binary.BigEndian.Uint16(rest[9:])) {
		return false
	}
	q.EDNS, q.DO = true, rest[7]&0x80 != 0
	q.Size = min(max(int(binary.BigEndian.Uint16(rest[3:])), MinUDP), MaxUDP)
	return true
}

// NameOf writes the lower-case name of a query's key as text, ending in a dot. Names with bytes that text would have to escape give false.
func NameOf(key []byte) (string, bool) {
	name := key[:len(key)-3]
	if len(name) == 1 {
		return ".", true
	}
	var text [maxName]byte
	n := 0
	for at := 0; name[at] != 0; {
		length := int(name[at])
		for _, c := range name[at+1 : at+1+length] {
			if c <= ' ' || c > '~' || c == '.' || c == '\\' || c == '"' || c == '\'' || c == '(' || c == ')' || c == ';' || c == '@' {
				return "", false
			}
			text[n] = c
			n++
		}
		text[n] = '.'
		n++
		at += 1 + length
	}
	return string(text[:n]), true
}
