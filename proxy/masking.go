package proxy

import (
	"io"

	"example.org/agentkeys/credential"
)

// Masking covers values in text that a command prints. It guards against slips: a
// command that has a value and wants to show it can spell it otherwise.
type Masking struct{ masks []*mask }

// Add takes a credential, whose secret it wipes; its spellings stay until Wipe.
func (m *Masking) Add(c credential.Credential) {
	m.masks = append(m.masks, maskOf(newEscapes(), c))
	c.Secret.Wipe()
}

// Wipe forgets everything.
func (m *Masking) Wipe() {
	for _, k := range m.masks {
		k.wipe()
	}
}

// Writer covers what goes to w. What may be the start of a value is held back until
// more comes, or Close.
func (m *Masking) Writer(w io.Writer) io.WriteCloser {
	out := io.WriteCloser(&maskWriter{w: w})
	for _, k := range m.masks {
		out = &maskWriter{w: out, mask: k}
	}
	return out
}

// maskWriter is one mask in a chain of them.
type maskWriter struct {
	w    io.Writer
	mask *mask // nil: the end of the chain
	rest []byte
}

func (m *maskWriter) Write(p []byte) (int, error) {
	if m.mask == nil {
		return m.w.Write(p)
	}
	b := append(m.rest, p...)
	n := m.mask.apply(b, false)
	if _, err := m.w.Write(b[:n]); err != nil {
		return 0, err
	}
	m.rest = append([]byte(nil), b[n:]...)
	return len(p), nil
}

// Close writes what was held back.
func (m *maskWriter) Close() error {
	if m.mask != nil && len(m.rest) > 0 {
		m.mask.apply(m.rest, true)
		if _, err := m.w.Write(m.rest); err != nil {
			return err
		}
		m.rest = nil
	}
	if c, ok := m.w.(*maskWriter); ok {
		return c.Close()
	}
	return nil
}
