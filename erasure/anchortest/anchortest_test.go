package anchortest_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/anchortest"
)

// device is an anchor that keeps one key per root in an erasable place and the
// wrapped roots outside, the way of PKCS#11 and KMS. Each flaw breaks one promise.
type device struct {
	keys    map[[32]byte][32]byte // erasable: key by blob id
	outside map[[32]byte][32]byte // blob id to wrapped root
	archive map[[32]byte][32]byte // what a careless device keeps of destroyed keys
	wire    []byte
	flaw    string
	cut     int // calls until the process dies, 0 = it does not
	after   bool
	dead    bool
}

var (
	errRefused = errors.New("device: refused")
	errCrashed = errors.New("device: the process died")
)

func newDevice(flaw string) *device {
	return &device{keys: map[[32]byte][32]byte{}, outside: map[[32]byte][32]byte{}, archive: map[[32]byte][32]byte{}, flaw: flaw}
}

// call is one call of the device.
func (d *device) call(effect func()) error {
	last := d.cut == 1
	if d.cut > 0 {
		d.cut--
	}
	if d.dead || last && !d.after {
		d.dead = true
		return errCrashed
	}
	effect()
	if last {
		d.dead = true
		return errCrashed
	}
	return nil
}

func (d *device) Roots(context.Context) (roots []erasure.Root, err error) {
	for id, blob := range d.outside {
		if key, ok := d.keys[id]; ok {
			roots = append(roots, xor(blob, key))
		}
	}
	return roots, nil
}

func (d *device) holds(root erasure.Root) (id [32]byte, ok bool) {
	for id, blob := range d.outside {
		if key, has := d.keys[id]; has && xor(blob, key) == root {
			return id, true
		}
	}
	return id, false
}

func (d *device) Stage(_ context.Context, root erasure.Root) error {
	if _, ok := d.holds(root); ok && d.flaw != "repeat is an error" {
		return nil
	}
	if root == (erasure.Root{}) && d.flaw != "zero root" || len(d.outside) >= 2 && d.flaw != "third root" {
		return errRefused
	}
	var key [32]byte
	rand.Read(key[:])
	blob := [32]byte(xor(root, key))
	id := sha256.Sum256(blob[:])
	if d.flaw == "outside first" {
		for id := range d.outside {
			d.outside[id] = blob // written over before the new key is made
		}
	}
	err := errors.Join(d.call(func() { d.keys[id] = key }), d.call(func() { d.outside[id] = blob }))
	d.wire = append(d.wire, blob[:]...)
	if d.flaw == "wire" {
		d.wire = fmt.Appendf(d.wire, "%X", [32]byte(root))
	}
	return err
}

func (d *device) Destroy(_ context.Context, root erasure.Root) error {
	id, ok := d.holds(root)
	if !ok {
		if d.flaw == "absent is an error" {
			return errRefused
		}
		return nil
	}
	if len(d.outside) == 1 && d.flaw != "only root" {
		if d.flaw == "error text" {
			return fmt.Errorf("device: refused for %x", [32]byte(root))
		}
		return errRefused
	}
	if d.flaw == "does nothing" {
		return nil
	}
	if d.flaw == "archived" {
		d.archive[id] = xor(d.outside[id], d.keys[id])
	}
	if d.flaw == "key outlives" {
		return d.call(func() { delete(d.outside, id) })
	}
	if d.flaw == "destroys all when cut" && d.cut > 0 {
		return d.call(func() { clear(d.keys) })
	}
	return errors.Join(d.call(func() { delete(d.keys, id) }), d.call(func() { delete(d.outside, id) }))
}

func (d *device) reopen() (erasure.Anchor, error) {
	if d.flaw == "forgets" {
		clear(d.keys)
	}
	for id := range d.outside { // rests of a crash
		if _, ok := d.keys[id]; !ok && d.flaw != "outside first" {
			delete(d.outside, id)
		}
	}
	return d, nil
}

func (d *device) attack(context.Context) (answers [][]byte) {
	for _, b := range d.archive {
		answers = append(answers, b[:])
	}
	return answers
}

func (d *device) harness() anchortest.Harness {
	return anchortest.Harness{
		Anchor: d, Reopen: d.reopen, Wire: func() []byte { return slices.Clone(d.wire) },
		Save: func() (func() error, error) {
			copied := maps.Clone(d.outside)
			return func() error { d.outside = maps.Clone(copied); return nil }, nil
		},
		Attack: d.attack,
		Cut:    func(n int, after bool) { d.cut, d.after, d.dead = n, after, false },
	}
}

func xor(a, b [32]byte) (out [32]byte) {
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

func TestGoodDevicePasses(t *testing.T) {
	anchortest.Run(t, func(*testing.T) anchortest.Harness { return newDevice("").harness() })
}

func TestEachFlawIsFound(t *testing.T) {
	for flaw, want := range map[string]string{
		"zero root":          "takes the zero root",
		"third root":         "takes a third root",
		"repeat is an error": "other ones",
		"absent is an error": "not held",
		"only root":          "destroys its only root",
		"does nothing":       "after destroy",
		"key outlives":       "gives a destroyed root from outside state",
		"forgets":            "restarted true",
		"archived":           "through the live device",
		"wire":               "crosses the wire",
		"error text":         "an error tells a root",
	} {
		t.Run(flaw, func(t *testing.T) {
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("suite panics: %v", p)
				}
			}()
			err := anchortest.Check(t.Context(), newDevice(flaw).harness())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Check: %v, want %q", err, want)
			}
		})
	}
}

func TestEachFlawOfCrashesIsFound(t *testing.T) {
	for flaw, want := range map[string]string{
		"outside first":         "is lost",
		"destroys all when cut": "is lost",
	} {
		t.Run(flaw, func(t *testing.T) {
			err := anchortest.CheckCrashes(t.Context(), newDevice(flaw).harness())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("CheckCrashes: %v, want %q", err, want)
			}
		})
	}
	h := newDevice("").harness()
	h.Cut = func(int, bool) {}
	if err := anchortest.CheckCrashes(t.Context(), h); err != nil {
		t.Errorf("CheckCrashes without a cut: %v", err)
	}
}
