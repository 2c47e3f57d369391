package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// ErrNoContainer says that the supervisor knows no container of that id.
var ErrNoContainer = errors.New("no such container")

// Err is the error a reply carries, if any.
func (r *Reply) Err() error {
	switch {
	case r.Missing:
		return fmt.Errorf("%w: %s", ErrNoContainer, r.Error)
	case r.Error != "":
		return errors.New(r.Error)
	}
	return nil
}

// Call sends one request to the supervisor of the folder dir and waits for its first reply. When ctx ends it gives up;
// the supervisor may still carry the request out. An error is about the talk itself, not about what was asked.
func Call(ctx context.Context, dir string, req Request) (*Reply, error) {
	conn, reply, files, err := Open(ctx, dir, req)
	if err != nil {
		return nil, err
	}
	closeAll(files)
	conn.Close()
	return reply, nil
}

// Open is Call for requests whose connection lives on: it returns the connection, the first reply and the descriptors
// that came with it.
func Open(ctx context.Context, dir string, req Request, files ...*os.File) (*net.UnixConn, *Reply, []*os.File, error) {
	conn, err := Dial(ctx, dir)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := Send(conn, req, files...); err != nil {
		conn.Close()
		return nil, nil, nil, talkError(ctx, req, err)
	}
	var reply Reply
	got, err := Receive(conn, &reply)
	if err != nil {
		conn.Close()
		return nil, nil, nil, talkError(ctx, req, err)
	}
	return conn, &reply, got, nil
}

func talkError(ctx context.Context, req Request, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("%s: pod supervisor: %w", req.Op, err)
}
