// Package tpmanchor is an [erasure.Anchor] in the NV memory of a TPM 2.0: the root
// itself lies in the chip, nothing outside. docs/spec/anchors.md, "TPM 2.0".
//
// State: at most two NV indices, Config.Index and the one after it, of 40 bytes: root
// 32, time of staging 8. The TPM writes them before it answers. To forget a root is to
// undefine its index. An index that was defined and not written is what a crash left
// of a Stage, and is removed by the next one.
//
// Every command that carries a root or the auth value runs in a session of its own,
// salted to the TPM's storage key and with its first parameter encrypted (TPM 2.0
// Library, part 1, "Session-based encryption"), so that the bus shows neither.
//
// NV memory wears out after some 100,000 writes. Stage therefore takes one root per
// Config.Interval.
package tpmanchor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"example.org/agentkeys/erasure"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// DefaultInterval allows 35,000 commits a year, each of which defines, writes and
// undefines one of two indices in turn. Commits that rarely find something to erase
// are far from that.
const DefaultInterval = 15 * time.Minute

// DefaultIndex is in the range that the TCG leaves to owners.
const DefaultIndex tpm2.TPMHandle = 0x01800a90

// Config says which TPM and where in it.
type Config struct {
	TPM transport.TPM // used by one call at a time
	// Index is the first of two NV indices; 0 is DefaultIndex. Two anchors in one TPM
	// need indices two apart.
	Index tpm2.TPMHandle
	// Auth opens the indices: 16 to 32 bytes, none of them zero, see [NewAuth]. Keep it sealed; whoever
	// has it and the TPM reads the roots held.
	Auth []byte
	// Owner is the auth of the owner hierarchy, often empty. No zero bytes.
	// It may define and undefine indices, not read them.
	Owner []byte
	// StorageKey is the name of the TPM's storage key as [Anchor.StorageKey] gave it
	// once; another one is refused. Empty trusts whatever answers: a device between
	// here and the chip could then read the root.
	StorageKey []byte
	// Interval is the least time between two roots; 0 is DefaultInterval.
	Interval time.Duration
}

// Anchor is safe for use by several goroutines, not by several processes.
type Anchor struct {
	mu       sync.Mutex
	tpm      transport.TPM
	index    tpm2.TPMHandle
	auth     []byte
	owner    []byte
	interval time.Duration
	salt     storageKey
}

// New finds the TPM's storage key. It writes nothing.
func New(cfg Config) (*Anchor, error) {
	a := &Anchor{tpm: cfg.TPM, index: cfg.Index, auth: slices.Clone(cfg.Auth), owner: slices.Clone(cfg.Owner), interval: cfg.Interval}
	if a.index == 0 {
		a.index = DefaultIndex
	}
	if a.interval == 0 {
		a.interval = DefaultInterval
	}
	if first, last := a.index, a.index+slotCount-1; first < 0x01000000 || last > 0x01ffffff {
		return nil, fmt.Errorf("tpm anchor: index %#x: want 0x01000000 to 0x01fffffe", uint32(a.index))
	}
	if a.interval < 0 {
		return nil, errors.New("tpm anchor: negative interval")
	}
	if err := checkAuth(a.auth, a.owner); err != nil {
		return nil, err
	}
	var err error
	if a.salt, err = a.findStorageKey(); err != nil {
		return nil, fmt.Errorf("tpm anchor: storage key: %w", err)
	}
	if len(cfg.StorageKey) != 0 && !slices.Equal(cfg.StorageKey, a.salt.name) {
		return nil, errors.New("tpm anchor: another storage key answers than the one that was pinned: it is another TPM, it was cleared, or something sits between")
	}
	return a, nil
}

// StorageKey is the name to pin in Config.StorageKey.
func (a *Anchor) StorageKey() []byte { return slices.Clone(a.salt.name) }

// Kind is the kind in the Anchor row.
func (a *Anchor) Kind() string { return "tpm" }

// Limit says what this anchor does not withstand.
func (a *Anchor) Limit() string {
	return "tpm anchor: forgets as well as the chip does. A virtual TPM is a file of whoever runs the host: a copy or backup of its state " +
		"taken before an erasure undoes it. A root read earlier with the auth value, or from an opened chip, stays known"
}

// Roots gives the roots held.
func (a *Anchor) Roots(context.Context) (roots []erasure.Root, err error) {
	err = a.begin(func(c chip) error {
		held, err := c.read()
		defer held.clear()
		for i := range held {
			if err == nil && held[i].written {
				roots = append(roots, held[i].root)
			}
		}
		return err
	})
	return roots, err
}

// Stage writes a root into the free index, or gives [erasure.TooSoon].
func (a *Anchor) Stage(_ context.Context, root erasure.Root) error {
	return a.begin(func(c chip) error { return c.stage(root) })
}

func (c chip) stage(root erasure.Root) error {
	held, err := c.read()
	defer held.clear()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(held[:], func(s slot) bool { return !s.written })
	switch {
	case root == (erasure.Root{}):
		return errors.New("tpm anchor: zero root")
	case held.find(root) >= 0:
		return nil
	case at < 0:
		return errors.New("tpm anchor: holds two roots already: finish the commit first")
	}
	now := time.Now()
	if wait := held.wait(now, c.interval); wait > 0 {
		return erasure.TooSoon{Kind: c.Kind(), Wait: wait}
	}
	if held[at].defined {
		if err := c.undefine(at); err != nil {
			return err
		}
	}
	if err := c.define(at); err != nil {
		return err
	}
	return c.write(at, root, now)
}

// Destroy undefines the index of the root.
func (a *Anchor) Destroy(_ context.Context, root erasure.Root) error {
	return a.begin(func(c chip) error { return c.destroy(root) })
}

func (c chip) destroy(root erasure.Root) error {
	held, err := c.read()
	defer held.clear()
	if err != nil {
		return err
	}
	at := held.find(root)
	if at < 0 {
		return nil
	}
	if !held[1-at].written {
		return errors.New("tpm anchor: refuses to destroy the only root")
	}
	return c.undefine(at)
}
