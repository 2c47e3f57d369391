package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

// serveV5 serves version 5 of the remote command protocol, which the streaming library leaves out: that of version 4
// with a message by which the client closes its standard input.
func (s *server) serveV5(w http.ResponseWriter, r *http.Request, o *remotecommand.Options, a *sessionAdapter) {
	either := func(on bool, t wsstream.ChannelType) wsstream.ChannelType {
		if on {
			return t
		}
		return wsstream.IgnoreChannel
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: []wsstream.ChannelType{
			remotecommand.StreamStdIn:  either(o.Stdin, wsstream.ReadChannel),
			remotecommand.StreamStdOut: either(o.Stdout, wsstream.WriteChannel),
			remotecommand.StreamStdErr: either(o.Stderr, wsstream.WriteChannel),
			remotecommand.StreamErr:    wsstream.WriteChannel,
			remotecommand.StreamResize: wsstream.ReadChannel,
		}},
	})
	conn.SetIdleTimeout(s.IdleTimeout)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		s.Log.Debug("websocket not opened", zap.Error(err))
		return
	}
	defer conn.Close()
	// An empty message tells the client that the connection stands.
	first := remotecommand.StreamErr
	if o.Stdout {
		first = remotecommand.StreamStdOut
	}
	if _, err := streams[first].Write(nil); err != nil {
		return
	}
	var in io.Reader
	var out, errOut io.WriteCloser
	if o.Stdin {
		in = streams[remotecommand.StreamStdIn]
	}
	if o.Stdout {
		out = streams[remotecommand.StreamStdOut]
	}
	if o.Stderr {
		errOut = streams[remotecommand.StreamStdErr]
	}
	sizes := make(chan remotecommand.TerminalSize)
	go readSizes(streams[remotecommand.StreamResize], sizes, r)
	err = a.ExecInContainer(r.Context(), "", "", "", nil, in, keepOpen{out}.orNil(), keepOpen{errOut}.orNil(), o.TTY, sizes, 0)
	data, err := json.Marshal(outcome(err))
	if err != nil {
		s.Log.Error("outcome not encoded", zap.Error(err))
		return
	}
	if _, err := streams[remotecommand.StreamErr].Write(data); err != nil {
		s.Log.Debug("client went away", zap.Error(err))
	}
}

// readSizes passes terminal sizes on until the stream or the request ends.
func readSizes(from io.Reader, to chan<- remotecommand.TerminalSize, r *http.Request) {
	defer close(to)
	d := json.NewDecoder(from)
	for {
		var size remotecommand.TerminalSize
		if d.Decode(&size) != nil {
			return
		}
		select {
		case to <- size:
		case <-r.Context().Done():
			return
		}
	}
}

// keepOpen is a stream whose end is the connection's.
type keepOpen struct{ io.WriteCloser }

func (keepOpen) Close() error { return nil }

func (k keepOpen) orNil() io.WriteCloser {
	if k.WriteCloser == nil {
		return nil
	}
	return k
}

// outcome is how a session ended, in the form that clients read exit codes from.
func outcome(err error) metav1.Status {
	var exit utilexec.ExitError
	switch {
	case err == nil:
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &exit) && exit.Exited():
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{
				Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(exit.ExitStatus()),
			}}},
		}
	default:
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("Internal error occurred: error executing command in container: %v", err),
		}
	}
}
