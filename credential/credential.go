// Package credential is the plaintext of an envelope: a secret with what a proxy
// must know to use it. Layout: docs/spec/envelope.md, "Credential".
package credential

import (
	"encoding/binary"
	"errors"
	"slices"

	"example.org/agentkeys"
)

// Limits in bytes.
const (
	MaxSecret   = 64 << 10
	MaxMetadata = 4 << 10 // kind, header template and host rules together
	MaxSize     = 4 + MaxSecret + MaxMetadata
	MaxHosts    = 255
)

var (
	errSecret   = errors.New("credential: the secret must have 1 to 65536 bytes")
	errMetadata = errors.New("credential: metadata is over 4096 bytes, use fewer hosts or a shorter header")
)

// Kind says how a secret goes on the wire.
type Kind uint8

// The kinds. 0 is none of them.
const (
	Token  Kind = 1 // as the header template says
	Basic  Kind = 2 // user:password, HTTP basic authentication
	Bearer Kind = 3 // Authorization: Bearer
	Query  Kind = 4 // a query parameter
	SigV4  Kind = 5 // AWS signature: access key id, newline, secret key
	Other  Kind = 6 // never put on the wire, only revealed
)

// Credential is a secret and its metadata. Without a host rule it goes nowhere.
type Credential struct {
	Secret agentkeys.Secret
	Kind   Kind
	Header string // printable ASCII, may be empty
	Hosts  []HostRule
}

// Append adds secret length 4, secret, kind 1, header length 2, header, number of
// host rules 1 and the rules. It grows b once, so no copy of the secret stays in an
// abandoned array; the caller clears the result.
func (c Credential) Append(b []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	b = slices.Grow(b, 4+c.Secret.Len()+c.metadataSize())
	b = binary.BigEndian.AppendUint32(b, uint32(c.Secret.Len()))
	b = append(b, c.Secret.Reveal()...)
	b = append(b, uint8(c.Kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Header)))
	b = append(b, c.Header...)
	b = append(b, uint8(len(c.Hosts)))
	for _, h := range c.Hosts {
		b = append(b, uint8(len(h.Pattern)))
		b = append(b, h.Pattern...)
		b = binary.BigEndian.AppendUint16(b, h.Port)
	}
	return b, nil
}

// Parse reads what Append wrote and nothing else. The secret is a copy, so the
// caller can clear b; the caller wipes the secret.
func Parse(b []byte) (Credential, error) {
	r := agentkeys.NewReader(b)
	var c Credential
	secret := r.Take(int(min(r.U32(), MaxSecret+1)))
	c.Kind = Kind(r.U8())
	c.Header = string(r.Take(int(r.U16())))
	for range r.U8() {
		c.Hosts = append(c.Hosts, HostRule{Pattern: string(r.Take(int(r.U8()))), Port: r.U16()})
	}
	if err := r.Close(); err != nil {
		return Credential{}, err
	}
	c.Secret = agentkeys.NewSecret(slices.Clone(secret))
	if err := c.check(); err != nil {
		c.Secret.Wipe()
		return Credential{}, err
	}
	return c, nil
}

// Allows reports whether the owner named this host and port.
func (c Credential) Allows(host string, port uint16) bool {
	return slices.ContainsFunc(c.Hosts, func(h HostRule) bool { return h.Matches(host, port) })
}

func (c Credential) metadataSize() int {
	n := 1 + 2 + len(c.Header) + 1
	for _, h := range c.Hosts {
		n += 1 + len(h.Pattern) + 2
	}
	return n
}

func (c Credential) check() error {
	if n := c.Secret.Len(); n == 0 || n > MaxSecret {
		return errSecret
	}
	if c.Kind < Token || c.Kind > Other {
		return errors.New("credential: unknown kind")
	}
	// A line break in a template would let a stored value add headers of its own.
	if slices.ContainsFunc([]byte(c.Header), func(b byte) bool { return b < ' ' || b > '~' }) {
		return errors.New("credential: the header may hold printable ASCII only")
	}
	if len(c.Hosts) > MaxHosts || c.metadataSize() > MaxMetadata {
		return errMetadata
	}
	for _, h := range c.Hosts {
		if err := h.check(); err != nil {
			return err
		}
	}
	return nil
}
