package custodian

import (
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// hours lets the searches of some hours pass.
func (r *rotating) hours(n int) {
	for range n {
		r.pass(61 * time.Minute)
		r.pass(2 * time.Second)
	}
}

// lostWrite is a write whose statement never reached a block: its object lies there.
func (r *rotating) lostWrite(name, value string) (key string, blob []byte) {
	r.t.Helper()
	before := map[string]bool{}
	r.objects(func(o map[string][]byte) {
		for k := range o {
			before[k] = true
		}
	})
	r.chain.before = func(k statement.Kind) { r.chain.down = k == statement.KindRegisterBlob }
	_, err := r.put(name, value, 0)
	e := wantCode(r.t, err, unknownOutcome)
	r.chain.before, r.chain.down = nil, false
	r.objects(func(o map[string][]byte) {
		for k := range o {
			if !before[k] && !strings.HasPrefix(k, "tree/") {
				key = k
			}
		}
	})
	return key, e.BlobID
}

func TestOrphansGo(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github", "openai")
		key, _ := r.lostWrite("slack", "never registered")
		if key == "" || r.object(key) == nil {
			t.Fatal("the lost write left no object")
		}
		r.hours(1) // seen
		if r.object(key) == nil {
			t.Error("it went at first sight")
		}
		r.hours(1)
		if r.object(key) != nil {
			t.Error("an hour later it is still there")
		}
		if !r.logged("an object that nothing names was deleted") {
			t.Error("nothing tells of it")
		}
		for _, name := range []string{"github", "openai"} {
			if r.object(r.objectKey(name)) == nil {
				t.Errorf("the object of %s went with it", name)
			}
		}
		r.intact()
	})
}

// A write that is repeated with its blob id takes its object up again.
func TestAdoptedOrphanStays(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		key, blob := r.lostWrite("slack", "late")
		r.hours(1)
		// The repeat is still without an answer when the search comes.
		r.chain.before = func(k statement.Kind) { r.chain.down = k == statement.KindRegisterBlob }
		again := func() (api.Written, error) {
			return r.s.write(t.Context(), r.session(r.owner), api.Write{Service: "slack", Credential: secretBytes(t, "late"), Idle: 1, BlobID: blob})
		}
		_, err := again()
		wantCode(t, err, unknownOutcome)
		r.chain.before, r.chain.down = nil, false
		if old := r.s.orphans.sweep(map[string]agentkeys.Wallet{key: r.owner.Wallet()}, time.Minute); len(old) != 0 {
			t.Errorf("%v goes while a write that has it may be accepted", old)
		}
		_, err = again()
		check(t, err)
		r.values[r.owner.Wallet()]["slack"] = "late"
		r.grant("slack", statement.ModeReveal, r.in(300*86400))
		r.hours(2)
		r.intact()
		// What is being deleted is not taken up.
		doomed := blobstore.Key(r.owner.Wallet(), 1, r.serviceID("github"), agentkeys.BlobID{1})
		r.s.orphans.sweep(map[string]agentkeys.Wallet{doomed: r.owner.Wallet()}, 0)
		if r.s.orphans.adopt(doomed) {
			t.Error("an object was adopted while it is deleted")
		}
	})
}

// A node that leaves a pointer out of its list does not cost the object.
func TestLyingListCostsNoObject(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github", "openai")
		orphan, _ := r.lostWrite("slack", "never registered")
		hidden := rules.PointerKey(r.slot("github"))
		r.chain.mu.Lock()
		r.chain.named = func(keys [][]byte) (out [][]byte) {
			for _, k := range keys {
				if string(k) != string(hidden) {
					out = append(out, k)
				}
			}
			return out
		}
		r.chain.mu.Unlock()
		r.hours(4)
		r.chain.mu.Lock()
		r.chain.named = nil
		r.chain.mu.Unlock()
		if r.object(r.objectKey("github")) == nil {
			t.Fatal("the object of a pointer that the node hid is gone")
		}
		r.intact()
		r.hours(2)
		if r.object(orphan) != nil {
			t.Error("with an honest node the orphan is still there")
		}
	})
}
