package rotation

import (
	"encoding/binary"
	"errors"
	"io"

	"example.org/agentkeys/envelope"
)

// Messages between courier and rotator: type 1, length 4, body. They go in
// lockstep: the courier sends one and reads the answer; the last envelope of a
// chunk has two answers, Resealed and Receipt.
const (
	Hello     = 1 // courier: nothing; rotator: statement key 32, channel keys, evidence
	Handshake = 2 // both: first and second message of the channel
	Frame     = 3 // courier: one sealed frame
	Envelope  = 4 // courier: the next envelope of the chunk
	More      = 5 // rotator: send the next frame
	Feed      = 6 // rotator: count 2 of envelopes it waits for
	Resealed  = 7 // rotator: the new envelope
	Receipt   = 8 // rotator: kind 1, body, signature 96
)

// MaxBody is the largest body of a message.
const MaxBody = envelope.MaxEnvelope

var errMessage = errors.New("message: too large")

// WriteMessage sends one message.
func WriteMessage(w io.Writer, typ uint8, body []byte) error {
	if len(body) > MaxBody {
		return errMessage
	}
	b := binary.BigEndian.AppendUint32(append(make([]byte, 0, 5+len(body)), typ), uint32(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

// ReadMessage reads one message.
func ReadMessage(r io.Reader) (typ uint8, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > uint32(MaxBody) {
		return 0, nil, errMessage
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}
