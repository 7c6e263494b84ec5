package custodian

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/record"
	"example.org/agentkeys/statement"
)

// crashed is what a flow ends with when it was stopped at a step.
type crashed struct{ step string }

// until runs f and stops it for good at the first step with this name.
func (w *world) until(step string, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c, is := r.(crashed)
			if !is {
				panic(r)
			}
			err = fmt.Errorf("crashed at %s", c.step)
		}
		w.step = nil
	}()
	w.step = func(name string) {
		if name == step {
			panic(crashed{step})
		}
	}
	return f()
}

// steps lists the steps of a flow in order.
func (w *world) steps(prefix string, f func() error) (names []string) {
	w.step = func(name string) {
		if strings.HasPrefix(name, prefix) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	check(w.t, f())
	w.step = nil
	return names
}

// trailProven checks that the chain has committed exactly the records that
// segments in the store hold, without a gap and none twice, and returns them.
func (w *world) trailProven() (all []record.Record) {
	w.t.Helper()
	check(w.t, w.s.flush(w.t.Context()))
	for o := range (system{w.store}).List(w.t.Context(), blobstore.AuditPrefix) {
		seg, err := w.s.segment(w.t.Context(), o.Key)
		check(w.t, err)
		all = append(all, seg.Records...)
	}
	for i, r := range all {
		if r.Sequence != uint64(i+1) {
			w.t.Fatalf("record %d has sequence %d", i, r.Sequence)
		}
	}
	if next := w.chain.vault.Reads(w.s.Key()).Next; next != uint64(len(all)+1) {
		w.t.Fatalf("the chain expects record %d, the store has %d", next, len(all))
	}
	return all
}

func count(all []record.Record, k record.Kind) (n int) {
	for _, r := range all {
		if r.Kind == k {
			n++
		}
	}
	return n
}

func TestCrashInRead(t *testing.T) {
	read := func(w *world) func() error {
		c := w.session(w.scribe)
		return func() error { _, err := w.getAs(c, "github"); return err }
	}
	prepare := func(t *testing.T) *world {
		w := newWorld(t)
		w.mustPut("github", "one", 0)
		w.grant("github", statement.ModeReveal, w.in(600))
		return w
	}
	w := prepare(t)
	steps := w.steps("read.", read(w))
	if len(steps) < 6 {
		t.Fatalf("steps: %v", steps)
	}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			w := prepare(t)
			if err := w.until(step, read(w)); err == nil {
				t.Fatal("did not stop")
			}
			w.restart()
			if v, err := w.get("github"); err != nil || v != "one" {
				t.Fatalf("read after the crash: %q, %v", v, err)
			}
			all := w.trailProven()
			// Only past the record does the stopped read leave one; the answered one always does.
			want := 1
			if step == "read.again" {
				want = 2
			}
			if count(all, record.KindRead) != want || count(all, record.KindBoot) != 2 {
				t.Fatalf("%d reads and %d boots on record", count(all, record.KindRead), count(all, record.KindBoot))
			}
		})
	}
}

func TestCrashInWrite(t *testing.T) {
	blob := make([]byte, 16)
	blob[0] = 7
	write := func(w *world) func() error {
		c := w.session(w.owner)
		return func() error {
			_, err := w.s.write(w.t.Context(), c, api.Write{Service: "github", Credential: secretBytes(w.t, "one"), Idle: 1, BlobID: blob})
			return err
		}
	}
	w := newWorld(t)
	steps := w.steps("write.", write(w))
	if len(steps) < 6 {
		t.Fatalf("steps: %v", steps)
	}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			if err := w.until(step, write(w)); err == nil {
				t.Fatal("did not stop")
			}
			// An orphan or a complete write, never a pointer without bytes.
			if p := w.pointer("github"); p.Version != 0 && w.store.objects[w.objectKey("github")] == nil {
				t.Fatal("pointer without bytes")
			}
			w.restart()
			check(t, write(w)())
			w.grant("github", statement.ModeReveal, w.in(600))
			if v, err := w.get("github"); err != nil || v != "one" || w.pointer("github").Version != 1 {
				t.Fatalf("after the crash: %q v%d, %v", v, w.pointer("github").Version, err)
			}
		})
	}
}

func TestCrashInFlush(t *testing.T) {
	prepare := func(t *testing.T) *world {
		w := newWorld(t)
		w.mustPut("github", "one", 0)
		w.grant("github", statement.ModeReveal, w.in(600))
		for range 3 {
			_, err := w.get("github")
			check(t, err)
		}
		return w
	}
	flush := func(w *world) func() error { return func() error { return w.s.flush(w.t.Context()) } }
	w := prepare(t)
	steps := w.steps("flush.", flush(w))
	if len(steps) != 3 {
		t.Fatalf("steps: %v", steps)
	}
	for _, step := range steps {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", step, restart), func(t *testing.T) {
				w := prepare(t)
				if err := w.until(step, flush(w)); err == nil {
					t.Fatal("did not stop")
				}
				boots := 1
				if restart {
					w.restart()
					boots = 2
				}
				_, err := w.get("github")
				check(t, err)
				check(t, w.s.flush(t.Context())) // what the crash left
				all := w.trailProven()
				if count(all, record.KindRead) != 4 || count(all, record.KindBoot) != boots {
					t.Fatalf("%d reads and %d boots on record", count(all, record.KindRead), count(all, record.KindBoot))
				}
			})
		}
	}
}

// The disk as it was at each step of a write to the outbox, and with the last entry
// torn at every byte, is a disk that a start goes on from.
func TestCrashInOutbox(t *testing.T) {
	dir := t.TempDir()
	var copies []string
	step := func(name string) {
		to := filepath.Join(t.TempDir(), name)
		check(t, os.CopyFS(to, os.DirFS(dir)))
		copies = append(copies, to)
	}
	o, err := openOutbox(dir, 1, step)
	check(t, err)
	for i := range 3 {
		r, err := o.append(readRecord)
		check(t, err)
		if r.Sequence != uint64(i+2) {
			t.Fatalf("sequence %d", r.Sequence)
		}
	}
	check(t, o.close())
	if _, err := o.append(record.Record{Kind: record.KindRead}); !errors.Is(err, errClosed) {
		t.Fatalf("append after close: %v", err)
	}
	if len(copies) != 8 {
		t.Fatalf("%d copies", len(copies))
	}
	for i, dir := range copies {
		// Before the write of entry i/2+1 there are i/2, before its fsync maybe one more.
		reopen(t, dir, i/2, i/2+i%2)
	}
	for torn := 1; torn < entrySize; torn++ {
		to := filepath.Join(t.TempDir(), "torn")
		check(t, os.CopyFS(to, os.DirFS(dir)))
		check(t, os.Truncate(filepath.Join(to, fmt.Sprintf("%020d.log", 1)), int64(4*entrySize-torn)))
		reopen(t, to, 3, 3)
	}
}

// reopen starts on a directory and counts what it found.
func reopen(t *testing.T, dir string, low, high int) {
	t.Helper()
	o, err := openOutbox(dir, 2, func(string) {})
	check(t, err)
	defer o.close()
	all := o.pendingFrom(0, record.MaxSegment)
	if n := len(all) - 1; n < low || n > high {
		t.Fatalf("%s: %d records found, want %d to %d", dir, n, low, high)
	}
	if last := all[len(all)-1]; last.Kind != record.KindBoot || last.Boot != 2 || last.Sequence != uint64(len(all)) {
		t.Fatalf("boot record: %+v", last)
	}
}

// readRecord is the record of some read.
var readRecord = record.Record{Kind: record.KindRead, Mode: uint8(statement.ModeReveal), User: agentkeys.Wallet{1},
	Agent: agentkeys.Wallet{1}, Owner: agentkeys.Wallet{1}, Version: 1, Epoch: 1, Session: [16]byte{1}, Height: 1, Boot: 1, Time: 1}

func TestDamagedOutboxIsRefused(t *testing.T) {
	dir := t.TempDir()
	o, err := openOutbox(dir, 1, func(string) {})
	check(t, err)
	for range 3 {
		_, err := o.append(readRecord)
		check(t, err)
	}
	check(t, o.close())
	path := filepath.Join(dir, fmt.Sprintf("%020d.log", 1))
	b, err := os.ReadFile(path)
	check(t, err)
	b[entrySize+20] ^= 1
	check(t, os.WriteFile(path, b, 0o600))
	if _, err := openOutbox(dir, 2, func(string) {}); !errors.Is(err, errDamaged) {
		t.Fatalf("records behind a damaged one were cut off: %v", err)
	}
}

// An outbox that was lost begins at 1 again: what it records could never be
// committed, so nothing may be read.
func TestLostOutboxStopsReads(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	for range 5 {
		_, err := w.get("github")
		check(t, err)
	}
	w.trailProven()
	c := w.session(w.scribe)
	w.stop()
	check(t, os.RemoveAll(outboxDir(w.home)))
	var err error
	w.state, err = OpenState(w.home, true)
	check(t, err)
	w.start()
	if err := w.s.flush(t.Context()); !errors.Is(err, errDamaged) {
		t.Fatalf("flush: %v", err)
	}
	_, err = w.getAs(c, "github")
	wantCode(t, err, staleHead)
}

func TestOutboxFileIsLeftBehind(t *testing.T) {
	w := newWorld(t)
	var many []*pending
	for range rotateAt/entrySize + 1 {
		many = append(many, &pending{recs: []record.Record{readRecord}})
	}
	w.s.outbox.mu.Lock()
	w.s.outbox.write(many)
	w.s.outbox.mu.Unlock()
	w.trailProven()
	names, err := filepath.Glob(filepath.Join(outboxDir(w.home), "*.log"))
	check(t, err)
	info, err := os.Stat(names[0])
	check(t, err)
	if len(names) != 1 || info.Size() != 0 {
		t.Fatalf("%v, %d bytes", names, info.Size())
	}
	next := w.chain.vault.Reads(w.s.Key()).Next
	w.restart()
	if all := w.s.outbox.pendingFrom(0, 10); len(all) != 1 || all[0].Sequence != next {
		t.Fatalf("after the restart: %+v, the chain expects %d", all, next)
	}
	w.trailProven()
}

// A segment in the store that holds other records stops the audit trail loudly.
func TestForeignSegmentIsRefused(t *testing.T) {
	w := newWorld(t)
	name := SegmentName(w.s.Key(), 1)
	sealed, err := w.s.sealSegment(name, record.Segment{Custodian: w.s.Key(), Records: []record.Record{{Sequence: 1, Kind: record.KindBoot, Boot: 9}}}.Append(nil))
	check(t, err)
	w.store.objects[name] = sealed
	if err := w.s.flush(t.Context()); err == nil || w.chain.vault.Reads(w.s.Key()).Next > 1 {
		t.Fatal("other records than the outbox's were committed")
	}
	w.store.objects[name][20] ^= 1
	if err := w.s.flush(t.Context()); err == nil {
		t.Fatal("a broken segment was taken")
	}
}

// Nothing that the custodian writes anywhere holds a secret.
func TestNoSecretIsWritten(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "-secret-value", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	_, err := w.get("github")
	check(t, err)
	w.mustPut("github", "-secret-two", 1)
	w.forget()
	w.store.away = true
	_, err = w.get("github")
	wantCode(t, err, storeUnavailable)
	_, err = w.put("openai", "-secret-three", 0)
	wantCode(t, err, storeUnavailable)
	w.store.away = false
	w.store.objects[w.objectKey("github")][70] ^= 1
	_, err = w.get("github")
	wantCode(t, err, tampered)
	w.trailProven()
	seed, token := string(w.state.Seed.Reveal()), string(w.state.Token.Reveal())
	look := func(where, text string) {
		for _, s := range []string{canary, seed, token} {
			if strings.Contains(text, s) {
				t.Errorf("%s holds a secret", where)
			}
		}
	}
	look("log", w.log.b.String())
	if w.log.b.Len() == 0 {
		t.Fatal("nothing was logged")
	}
	for k, b := range w.store.objects {
		look(k, string(b))
	}
	for k, b := range w.chain.vault.KV {
		look(k, string(b))
	}
	check(t, filepath.WalkDir(w.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(path) == "operator.token" {
			return err
		}
		b, err := os.ReadFile(path)
		look(path, string(b))
		return err
	}))
}
