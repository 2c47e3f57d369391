package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// Image is a packed answer that fits any query for the same name and type. It is immutable.
type Image struct {
	bytes []byte // header, question, records, without an OPT record
	ttls  []int  // where the TTLs are
	// Answers from first on, all of one size, may change places, so that clients spread over them.
	first, size, count int
	question           int // end of the question
}

// errImage means that a message does not have the form of an answer.
var errImage = errors.New("not the form of an answer")

// NewImage packs an answer: one question, in lower case. An OPT record is left out.
func NewImage(m *dns.Msg) (*Image, error) {
	plain := *m
	plain.Compress, plain.Id = true, 0
	plain.RecursionDesired, plain.CheckingDisabled, plain.Truncated = false, false, false
	plain.Extra = nil
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			plain.Extra = append(plain.Extra, rr)
		}
	}
	packed, err := plain.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack answer: %w", err)
	}
	im := &Image{bytes: packed}
	return im, im.index()
}

// index walks over the records.
func (im *Image) index() error {
	b := im.bytes
	at := skipName(b, headerLen) + 4
	if binary.BigEndian.Uint16(b[4:]) != 1 || at > len(b) || at == 4 {
		return errImage
	}
	im.question = at
	answers := int(binary.BigEndian.Uint16(b[6:]))
	records := answers + int(binary.BigEndian.Uint16(b[8:])) + int(binary.BigEndian.Uint16(b[10:]))
	same := answers > 1
	for i := range records {
		start := at
		at = skipName(b, at)
		if at == 0 || at+10 > len(b) {
			return errImage
		}
		kind := binary.BigEndian.Uint16(b[at:])
		im.ttls = append(im.ttls, at+4)
		at += 10 + int(binary.BigEndian.Uint16(b[at+8:]))
		if i >= answers {
			continue
		}
		if i == 0 {
			im.first, im.size = start, at-start
		}
		same = same && (kind == dns.TypeA || kind == dns.TypeAAAA) && at-start == im.size
	}
	if at != len(b) {
		return errImage
	}
	if same {
		im.count = answers
	}
	return nil
}

// skipName returns the offset behind a name, or 0.
func skipName(b []byte, at int) int {
	for at < len(b) {
		switch c := int(b[at]); {
		case c == 0:
			return at + 1
		case c&0xc0 == 0xc0:
			return at + 2
		default:
			at += 1 + c
		}
	}
	return 0
}

// Rcode is the response code.
func (im *Image) Rcode() int { return int(im.bytes[3] & 0xf) }

// Reply appends the answer to a query. It is never longer than limit: what does not fit is left out, and the answer marked as truncated. The TTLs
// are lowered by age, in seconds, and not below 0. Equal answers start with the one that turn says.
func (im *Image) Reply(dst []byte, q *Query, limit int, age, turn uint32) []byte {
	start, opt := len(dst), 0
	if q.EDNS {
		opt = 11
	}
	whole := len(im.bytes)+opt <= limit
	if whole {
		dst = append(dst, im.bytes...)
	} else {
		dst = append(dst, im.bytes[:im.question]...)
	}
	out := dst[start:]
	binary.BigEndian.PutUint16(out, q.ID)
	if q.Recurse {
		out[2] |= 0x01
	}
	if q.Checking {
		out[3] |= 0x10
	}
	copy(out[headerLen:], q.Name)
	if whole {
		im.age(out, age)
		im.rotate(out, turn)
	} else {
		out[2] |= 0x02 // TC
		clear(out[6:12])
	}
	if q.EDNS {
		out[11]++ // never 255 records: they would not fit
		dst = appendOPT(dst, q.DO)
	}
	return dst
}

func (im *Image) age(out []byte, age uint32) {
	if age == 0 {
		return
	}
	for _, at := range im.ttls {
		ttl := binary.BigEndian.Uint32(im.bytes[at:])
		binary.BigEndian.PutUint32(out[at:], ttl-min(ttl, age))
	}
}

// rotate moves the first answers behind the others.
func (im *Image) rotate(out []byte, turn uint32) {
	if im.count < 2 {
		return
	}
	shift := int(turn%uint32(im.count)) * im.size
	answers := im.bytes[im.first : im.first+im.count*im.size]
	// The TTLs of answers are equal, or were aged by the same amount; only the order may differ from the source.
	aged := out[im.first : im.first+im.count*im.size]
	var ttl [4]byte
	copy(ttl[:], aged[im.ttls[0]-im.first:])
	n := copy(aged, answers[shift:])
	copy(aged[n:], answers[:shift])
	for i := range im.count {
		copy(aged[im.ttls[i]-im.first:], ttl[:])
	}
}

// appendOPT adds an EDNS0 record, RFC 6891 section 6.1.2.
func appendOPT(dst []byte, do bool) []byte {
	flags := byte(0)
	if do {
		flags = 0x80
	}
	return append(dst, 0, 0, typeOPT, MaxUDP>>8, MaxUDP&0xff, 0, 0, flags, 0, 0, 0)
}

// Fail appends an answer without records to a query that was parsed.
func Fail(dst []byte, q *Query, rcode int) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, headerLen)...)
	dst = append(dst, q.Name...)
	dst = append(dst, byte(q.Type>>8), byte(q.Type), 0, classIN)
	out := dst[start:]
	binary.BigEndian.PutUint16(out, q.ID)
	out[2], out[3], out[5] = 0x80, 0x80|byte(rcode), 1
	if q.Recurse {
		out[2] |= 0x01
	}
	if q.EDNS {
		out[11] = 1
		dst = appendOPT(dst, q.DO)
	}
	return dst
}
