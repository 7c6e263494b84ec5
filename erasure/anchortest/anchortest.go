// Package anchortest is the contract of [erasure.Anchor] as a test that every
// kind of anchor runs: files, TPM, PKCS#11, KMS. See docs/spec/erasure.md,
// "Anchor".
package anchortest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"example.org/agentkeys/erasure"
)

// Harness is one anchor that holds nothing yet.
type Harness struct {
	Anchor erasure.Anchor
	// Reopen gives the same place as after a restart of the process.
	Reopen func() (erasure.Anchor, error)
	// Wire gives every byte so far that crossed a link the process does not
	// protect itself, both ways. Nil when there is no such link.
	Wire func() []byte
	// Save takes a copy of all that is kept outside the erasable place, such as
	// wrapped roots in files, and returns what puts it back. Nil when nothing is.
	Save func() (restore func() error, err error)
	// Attack uses every call of the live device, with every credential of the
	// custodian and all that was recorded, and gives all it is answered. It changes
	// nothing that the anchor needs. Nil when Roots is the only way in.
	Attack func(ctx context.Context) [][]byte
	// Cut lets the process die at the n-th call of the device from now on: that call
	// and all later ones fail, the n-th after it took effect if after is set. Cut(0,
	// false) ends it. Nil leaves out the crash tests.
	Cut func(n int, after bool)
}

// Run runs [Check] and [CheckCrashes], each on a new anchor.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	if err := Check(t.Context(), open(t)); err != nil {
		t.Error(err)
	}
	if h := open(t); h.Cut != nil {
		if err := CheckCrashes(t.Context(), h); err != nil {
			t.Error(err)
		}
	}
}

const generations = 5

// Check takes an anchor through several commits, recording what it gives out, and
// after each one tries to get every destroyed root back through the live anchor.
func Check(ctx context.Context, h Harness) error {
	c := &checker{Harness: h, ctx: ctx}
	c.empty()
	var old erasure.Root
	for n := range generations {
		c.stage(newRoot())
		if n > 0 {
			c.full()
			c.destroy(old)
		}
		c.onlyRoot()
		c.attack()
		old = c.held[0]
	}
	return errors.Join(c.errs...)
}

type checker struct {
	Harness
	ctx   context.Context
	held  []erasure.Root
	gone  []erasure.Root
	saved []func() error
	errs  []error
}

func (c *checker) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("anchor contract: "+format, args...))
}

func (c *checker) empty() {
	c.same("a new anchor")
	if err := c.note(c.Anchor.Stage(c.ctx, erasure.Root{})); err == nil {
		c.fail("takes the zero root")
	}
	c.same("after the zero root was refused")
}

func (c *checker) stage(root erasure.Root) {
	c.held = append(c.held, root)
	for range 2 { // a repeat is no error
		if err := c.note(c.Anchor.Stage(c.ctx, root)); err != nil {
			c.fail("stage: %v", err)
		}
		c.same("after stage")
	}
	c.save()
}

func (c *checker) full() {
	if err := c.note(c.Anchor.Stage(c.ctx, newRoot())); err == nil {
		c.fail("takes a third root")
	}
	c.same("after a third root was refused")
}

func (c *checker) destroy(root erasure.Root) {
	c.held = slices.DeleteFunc(c.held, func(r erasure.Root) bool { return r == root })
	c.gone = append(c.gone, root)
	for range 2 {
		if err := c.note(c.Anchor.Destroy(c.ctx, root)); err != nil {
			c.fail("destroy: %v", err)
		}
		c.same("after destroy")
	}
	c.save()
}

func (c *checker) onlyRoot() {
	if err := c.note(c.Anchor.Destroy(c.ctx, newRoot())); err != nil {
		c.fail("destroy of a root that is not held: %v", err)
	}
	if err := c.note(c.Anchor.Destroy(c.ctx, c.held[0])); err == nil {
		c.fail("destroys its only root")
	}
	c.same("after destroying the only root was refused")
}

// same compares what is held with what should be, before and after a restart.
func (c *checker) same(when string) {
	for _, restarted := range []bool{false, true} {
		if restarted && !c.reopen() {
			return
		}
		roots, err := c.Anchor.Roots(c.ctx)
		if c.note(err) != nil {
			c.fail("%s, restarted %v: roots: %v", when, restarted, err)
			continue
		}
		matches := len(roots) == len(c.held)
		for _, root := range c.held {
			matches = matches && slices.Contains(roots, root)
		}
		if !matches {
			c.fail("%s, restarted %v: holds %d roots or other ones, want %d", when, restarted, len(roots), len(c.held))
		}
	}
}

func (c *checker) reopen() bool {
	anchor, err := c.Reopen()
	if err != nil {
		c.fail("reopen: %v", err)
		return false
	}
	c.Anchor = anchor
	return true
}

func (c *checker) save() {
	if c.Save == nil {
		return
	}
	restore, err := c.Save()
	if err != nil {
		c.fail("save: %v", err)
		return
	}
	c.saved = append(c.saved, restore)
}

// attack puts back every state that ever lay outside, the newest last, and asks
// for roots each time; then it searches the wire.
func (c *checker) attack() {
	for i, restore := range c.saved {
		if err := restore(); err != nil {
			c.fail("restore: %v", err)
			return
		}
		anchor, err := c.Reopen()
		if err != nil {
			_ = c.note(err) // refusing an old state is fine
			continue
		}
		c.Anchor = anchor // it may be that only the newest works
		roots, err := anchor.Roots(c.ctx)
		_ = c.note(err)
		for _, root := range roots {
			if slices.Contains(c.gone, root) {
				c.fail("gives a destroyed root from outside state %d of %d", i+1, len(c.saved))
			}
		}
	}
	c.same("after outside states were put back")
	if c.Attack != nil {
		for _, got := range c.Attack(c.ctx) {
			if holdsAny(got, c.gone) {
				c.fail("gives a destroyed root through the live device")
			}
		}
		c.same("after the attack")
	}
	if c.Wire != nil && c.leaks(c.Wire()) {
		c.fail("a root crosses the wire in the clear")
	}
}

// note looks for roots in the text of an error.
func (c *checker) note(err error) error {
	if err != nil && c.leaks([]byte(err.Error())) {
		c.fail("an error tells a root")
	}
	return err
}

func (c *checker) leaks(b []byte) bool {
	return holdsAny(b, slices.Concat(c.held, c.gone))
}

// holdsAny looks for roots as they are, in hex and in base64.
func holdsAny(b []byte, roots []erasure.Root) bool {
	lower := strings.ToLower(string(b))
	for _, root := range roots {
		if bytes.Contains(b, root[:]) || strings.Contains(lower, hex.EncodeToString(root[:])) ||
			bytes.Contains(b, []byte(base64.RawStdEncoding.EncodeToString(root[:]))) {
			return true
		}
	}
	return false
}

func newRoot() (root erasure.Root) {
	rand.Read(root[:])
	return root
}
