package serve

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"hardway/dns/wire"
)

// batchSize is how many queries one system call takes in, and how many answers one sends, at most. Under load a call then costs little for each
// query; without load it carries one, and nobody waits for a batch to fill.
const batchSize = 32

// maxQuery is the longest query over UDP that is read; the rest of a longer one is cut off, and it then is malformed.
const maxQuery = 2048

// batch receives datagrams and sends an answer to each, many in one system call. The address that a datagram came from is the one that the answer
// goes to, in the form of the kernel and without being looked at.
type batch struct {
	raw syscall.RawConn
	n   int // datagrams received

	in      [batchSize]message
	queries [batchSize][maxQuery]byte
	out     [batchSize]message
	answers [batchSize][wire.MaxUDP]byte
	peers   [batchSize]unix.RawSockaddrInet6
	vectors [2][batchSize]unix.Iovec

	// For the functions that the poller calls.
	failed     syscall.Errno
	from, to   int // answers to send
	read, sent func(fd uintptr) bool
}

// message is the kernel's struct mmsghdr.
type message struct {
	unix.Msghdr
	length uint32
	_      [4]byte
}

func newBatch(c *net.UDPConn) (*batch, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &batch{raw: raw}
	for i := range b.in {
		in, out := &b.in[i], &b.out[i]
		b.vectors[0][i].Base = &b.queries[i][0]
		b.vectors[0][i].SetLen(maxQuery)
		in.Iov, out.Iov = &b.vectors[0][i], &b.vectors[1][i]
		in.SetIovlen(1)
		out.SetIovlen(1)
		in.Name = (*byte)(unsafe.Pointer(&b.peers[i]))
		out.Name = in.Name
	}
	b.read, b.sent = b.tryReceive, b.trySend
	return b, nil
}

// receive waits for at least one datagram.
func (b *batch) receive() error {
	for i := range b.in {
		b.in[i].Namelen = unix.SizeofSockaddrInet6
	}
	b.failed = 0
	if err := b.raw.Read(b.read); err != nil {
		return err
	}
	if b.failed != 0 {
		b.n = 0
		return b.failed
	}
	return nil
}

func (b *batch) tryReceive(fd uintptr) bool {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.EAGAIN {
		return false
	}
	b.n, b.failed = int(n), errno
	return true
}

// query is one that was received.
func (b *batch) query(i int) []byte { return b.queries[i][:b.in[i].length] }

// room is where an answer may be written.
func (b *batch) room(i int) []byte { return b.answers[i][:0] }

// peer is where a query came from.
func (b *batch) peer(i int) netip.AddrPort {
	six := &b.peers[i]
	if six.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(six))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), networkOrder(four.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(six.Addr), networkOrder(six.Port))
}

func networkOrder(port uint16) uint16 {
	p := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(p[0])<<8 | uint16(p[1])
}

// put says what answers query i: k is the number of answers put before.
func (b *batch) put(k, i int, answer []byte) {
	b.out[k].Name, b.out[k].Namelen = b.in[i].Name, b.in[i].Namelen
	b.vectors[1][k].Base = &answer[0]
	b.vectors[1][k].SetLen(len(answer))
}

// send sends the first k answers. One that cannot be sent is left out, and reported.
func (b *batch) send(k int) error {
	var failures error
	for b.from, b.to = 0, k; b.from < b.to; {
		b.failed = 0
		if err := b.raw.Write(b.sent); err != nil {
			return errors.Join(failures, err)
		}
		if b.failed != 0 {
			failures = b.failed
			b.from++
		}
	}
	return failures
}

func (b *batch) trySend(fd uintptr) bool {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.out[b.from])), uintptr(b.to-b.from), unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.EAGAIN {
		return false
	}
	if errno != 0 {
		b.failed = errno
	} else {
		b.from += int(n)
	}
	return true
}
