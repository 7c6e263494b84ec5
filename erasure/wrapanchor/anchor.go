// Package wrapanchor is an [erasure.Anchor] for devices that hold erasable keys and
// not bytes: PKCS#11 tokens and KMS. Each root is wrapped under a key of its own in
// the device; the wrapped roots lie in two files, which may be copied by anyone. To
// forget a root is to destroy its key. See docs/spec/anchors.md, "Wrapped roots".
//
// State: at most two files slot-a and slot-b in a directory of its own, mode 0600,
// written by this type alone, fsynced with the directory before the next step. A file
// names its key before the key exists, so a crash leaves no key that nobody knows of.
package wrapanchor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"example.org/agentkeys/erasure"
)

// ErrGone is what [Keys.Open] returns (wrapped or not) for a key that is not there any
// more, as opposed to a device that does not answer or a key that could come back.
var ErrGone = errors.New("wrapping key: not there")

// Keys is the device. A key wraps one root, once.
type Keys interface {
	// Name gives the name of a key to be; a device that chooses names itself makes
	// an empty key. 1 to 512 bytes.
	Name(ctx context.Context) (string, error)
	// Seal makes the key and wraps a root under it. Nothing but the device knows the
	// key afterwards. 1 to 8192 bytes.
	Seal(ctx context.Context, name string, root erasure.Root) (blob []byte, err error)
	// Open gives the root, or ErrGone.
	Open(ctx context.Context, name string, blob []byte) (erasure.Root, error)
	// Destroy returns once the key is gone and blob, empty if there was none yet,
	// does not open any more. A key that is gone or was never made is no error.
	Destroy(ctx context.Context, name string, blob []byte) error
}

// Anchor keeps wrapped roots. Its methods are those of [erasure.Anchor].
type Anchor struct {
	kind string
	keys Keys
	dir  string
	mu   sync.Mutex
}

// New names the directory; nothing is read or made, see [Anchor.Make]. kind begins every
// error.
func New(kind, dir string, keys Keys) *Anchor {
	return &Anchor{kind: kind, keys: keys, dir: dir}
}

// Make makes the directory, mode 0700, if there is none: [erasure.Maker].
func (a *Anchor) Make(context.Context) error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return fmt.Errorf("%s: %w", a.kind, err)
	}
	return nil
}

// Roots gives the roots held. It finishes a Destroy that was cut short.
func (a *Anchor) Roots(ctx context.Context) ([]erasure.Root, error) {
	held, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer held.end()
	roots := make([]erasure.Root, 0, len(held.slots))
	for i := range held.slots {
		if held.slots[i].opens {
			roots = append(roots, held.slots[i].root)
		}
	}
	return roots, nil
}

// Stage wraps a root under a fresh key.
func (a *Anchor) Stage(ctx context.Context, root erasure.Root) error {
	held, err := a.begin(ctx)
	if err != nil {
		return err
	}
	defer held.end()
	switch {
	case root == (erasure.Root{}):
		return fmt.Errorf("%s: zero root", a.kind)
	case held.find(root) >= 0:
		return nil
	}
	at := held.free()
	if at < 0 {
		return fmt.Errorf("%s: holds two roots already: finish the commit first", a.kind)
	}
	if err := a.drop(ctx, &held.slots[at]); err != nil {
		return err
	}
	return a.fill(ctx, &held.slots[at], root)
}

func (a *Anchor) fill(ctx context.Context, s *slot, root erasure.Root) (err error) {
	if s.name, err = a.keys.Name(ctx); err != nil {
		return fmt.Errorf("%s: new key: %w", a.kind, err)
	}
	s.state = making
	if err := a.write(s); err != nil {
		return err
	}
	if s.blob, err = a.keys.Seal(ctx, s.name, root); err != nil {
		return fmt.Errorf("%s: wrap root: %w", a.kind, err)
	}
	s.state = holding
	return a.write(s)
}

// Destroy destroys the key of the root, looks whether the wrapped root still opens,
// and removes its file.
func (a *Anchor) Destroy(ctx context.Context, root erasure.Root) error {
	held, err := a.begin(ctx)
	if err != nil {
		return err
	}
	defer held.end()
	at := held.find(root)
	if at < 0 {
		return nil
	}
	if !held.slots[1-at].opens || held.slots[1-at].state != holding {
		return fmt.Errorf("%s: refuses to destroy the only root", a.kind)
	}
	held.slots[at].state = destroying
	if err := a.write(&held.slots[at]); err != nil {
		return err
	}
	return a.drop(ctx, &held.slots[at])
}

// drop destroys the key of a slot, if it has one, and frees it.
func (a *Anchor) drop(ctx context.Context, s *slot) error {
	if s.state == free {
		return nil
	}
	if err := a.keys.Destroy(ctx, s.name, s.blob); err != nil {
		return fmt.Errorf("%s: destroy key: %w", a.kind, err)
	}
	if len(s.blob) != 0 {
		again, err := a.keys.Open(ctx, s.name, s.blob)
		clear(again[:])
		if err == nil {
			return fmt.Errorf("%s: the key opens its root after it was destroyed: evict the anchor", a.kind)
		}
	}
	return a.remove(s)
}
