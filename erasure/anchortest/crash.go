package anchortest

import (
	"context"
	"errors"
	"slices"

	"example.org/agentkeys/erasure"
)

// maxCalls is more calls than staging or destroying one root may take.
const maxCalls = 100

// CheckCrashes kills the process at every call of the device while a root is staged
// and while one is destroyed, before and after the call takes effect. Afterwards the
// root that must stay is there, nothing else than the two is, and a repeat finishes.
func CheckCrashes(ctx context.Context, h Harness) error {
	c := &checker{Harness: h, ctx: ctx}
	c.stage(newRoot())
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			if n > maxCalls {
				c.fail("a commit takes more than %d calls or ignores the cut", maxCalls)
				break
			}
			old, next := c.held[0], newRoot()
			staged := c.cut(n, after, old, next, func() error { return c.Anchor.Stage(ctx, next) })
			c.stage(next)
			destroyed := c.cut(n, after, next, old, func() error { return c.Anchor.Destroy(ctx, old) })
			c.destroy(old)
			if len(c.errs) != 0 {
				return errors.Join(c.errs...)
			}
			if staged && destroyed {
				break
			}
		}
	}
	c.attack()
	return errors.Join(c.errs...)
}

// cut runs act until its n-th call and restarts. keep must be held then, other may be.
// It reports whether act got through.
func (c *checker) cut(n int, after bool, keep, other erasure.Root, act func() error) bool {
	c.Cut(n, after)
	err := c.note(act())
	c.Cut(0, false)
	if !c.reopen() {
		return true
	}
	roots, rootsErr := c.Anchor.Roots(c.ctx)
	if c.note(rootsErr) != nil {
		c.fail("crash at call %d, after %v: roots: %v", n, after, rootsErr)
	}
	if rootsErr == nil && !slices.Contains(roots, keep) {
		c.fail("crash at call %d, after %v: the root that must stay is lost", n, after)
	}
	for _, root := range roots {
		if root != keep && root != other {
			c.fail("crash at call %d, after %v: holds a root that nobody staged", n, after)
		}
	}
	return err == nil
}
