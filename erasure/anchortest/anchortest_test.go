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
	wire    []byte
	flaw    string
}

var errRefused = errors.New("device: refused")

func newDevice(flaw string) *device {
	return &device{keys: map[[32]byte][32]byte{}, outside: map[[32]byte][32]byte{}, flaw: flaw}
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
	d.keys[id], d.outside[id] = key, blob
	d.wire = append(d.wire, blob[:]...)
	if d.flaw == "wire" {
		d.wire = fmt.Appendf(d.wire, "%X", [32]byte(root))
	}
	return nil
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
	delete(d.outside, id)
	if d.flaw != "key outlives" {
		delete(d.keys, id)
	}
	return nil
}

func (d *device) reopen() (erasure.Anchor, error) {
	if d.flaw == "forgets" {
		clear(d.keys)
	}
	return d, nil
}

func (d *device) harness() anchortest.Harness {
	return anchortest.Harness{
		Anchor: d, Reopen: d.reopen, Wire: func() []byte { return slices.Clone(d.wire) },
		Save: func() (func() error, error) {
			copied := maps.Clone(d.outside)
			return func() error { d.outside = maps.Clone(copied); return nil }, nil
		},
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
