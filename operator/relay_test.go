package operator

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

var (
	testVault   = agentkeys.VaultID{1, 2, 3}
	testProcess = ed25519.NewKeyFromSeed(make([]byte, 32))
)

// memorySender is a chain that takes everything, unless answer says otherwise.
type memorySender struct {
	mu      sync.Mutex
	batches [][][]byte
	answer  func(ctx context.Context, parts [][]byte) (uint64, []ledger.Result, error)
	looks   chan agentkeys.Wallet // whom the scheduler of a test asked for
}

func (m *memorySender) Send(ctx context.Context, typeURL string, parts [][]byte) (uint64, []ledger.Result, error) {
	m.mu.Lock()
	m.batches = append(m.batches, parts)
	height, answer := uint64(len(m.batches)), m.answer
	m.mu.Unlock()
	if typeURL != ledger.MsgSubmit {
		return 0, nil, errors.New("want MsgSubmit")
	}
	if answer != nil {
		return answer(ctx, parts)
	}
	return height, make([]ledger.Result, len(parts)), nil
}

// hang is a chain that never answers.
func hang(ctx context.Context, _ [][]byte) (uint64, []ledger.Result, error) {
	<-ctx.Done()
	return 0, nil, ctx.Err()
}

func userWire(t *testing.T, body statement.Body) []byte {
	t.Helper()
	k, err := eip712.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	w, err := k.SignStatement(testVault, body)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func beatWire() []byte {
	return statement.SignProcess(testProcess, testVault, statement.Heartbeat{Previous: 1, ValidUntil: 9}, nil)
}

// rotationWire carries a number of rows.
func rotationWire(t *testing.T, rows int) []byte {
	t.Helper()
	m := receipt.Rotated{From: 1, To: 2}
	for i := range rows {
		m.Rows = append(m.Rows, receipt.Row{Agent: agentkeys.Wallet{byte(i >> 8), byte(i)}, Version: 1})
	}
	sig := receipt.Sign(testProcess, testVault, receipt.KindRotated, m.Append(nil))
	w := statement.SignProcess(testProcess, testVault, statement.RotateBlobs{Receipt: m, ValidUntil: 9}, &sig)
	if _, err := statement.Parse(w); err != nil {
		t.Fatal(err)
	}
	return w
}

func entries(n int, wire []byte) []*entry {
	out := make([]*entry, n)
	for i := range out {
		out[i] = &entry{wire: wire, done: make(chan struct{})}
	}
	return out
}

// counts are the classes of a batch, which must come in their order.
func counts(t *testing.T, batch []*entry) (n [3]int) {
	t.Helper()
	last := classRevocation
	for _, e := range batch {
		c := classOf(e.wire)
		if c < last {
			t.Fatalf("class %d comes after class %d", c, last)
		}
		last = c
		n[c]++
	}
	return n
}

func TestNextBatch(t *testing.T) {
	revoke := userWire(t, statement.RevokeAgent{Counter: 1})
	beat, small, large := beatWire(), rotationWire(t, 1), rotationWire(t, receipt.MaxRows)
	largeFit := maxBatchBytes / 2 / len(large)
	for _, c := range []struct {
		name                  string
		revocations, ordinary int
		rotation              []*entry
		want                  [3]int
	}{
		{"nothing", 0, 0, nil, [3]int{}},
		{"everything fits", 3, 4, entries(5, small), [3]int{3, 4, 5}},
		{"rotation alone is half", 0, 0, entries(600, small), [3]int{0, 0, maxBatch / 2}},
		{"rotation alone is half of the bytes", 0, 0, entries(100, large), [3]int{0, 0, largeFit}},
		{"bytes of others do not count against rotation's half", 0, 100, entries(100, large), [3]int{0, 100, largeFit}},
		{"ordinary fills what rotation leaves", 0, 600, nil, [3]int{0, maxBatch, 0}},
		{"writes do not hold rotation up", 0, 600, entries(600, small), [3]int{0, maxBatch * 3 / 4, maxBatch / 4}},
		{"revocations may take everything", 600, 600, entries(600, small), [3]int{maxBatch, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewRelay(&memorySender{}, nil)
			for _, add := range [][]*entry{c.rotation, entries(c.ordinary, beat), entries(c.revocations, revoke)} {
				if err := r.enqueue(add); err != nil {
					t.Fatal(err)
				}
			}
			batch := r.next()
			if got := counts(t, batch); got != c.want {
				t.Errorf("batch %v, want %v", got, c.want)
			}
			size, taken := 0, len(batch)
			for _, e := range batch {
				size += len(e.wire)
			}
			if size > maxBatchBytes {
				t.Errorf("a batch of %d bytes", size)
			}
			for more := r.next(); len(more) > 0; more = r.next() {
				taken += len(more)
			}
			if want := c.revocations + c.ordinary + len(c.rotation); taken != want {
				t.Errorf("%d statements leave the queue, want %d", taken, want)
			}
		})
	}
	t.Run("larger than a batch", func(t *testing.T) {
		r := NewRelay(&memorySender{}, nil)
		huge := append(beatWire(), make([]byte, maxBatchBytes)...)
		if err := r.enqueue(append(entries(2, huge), entries(1, beat)...)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{1, 1, 1, 0} {
			if got := len(r.next()); got != want {
				t.Errorf("a batch of %d, want %d", got, want)
			}
		}
	})
}

// running is a relay whose Run ends with the test.
func running(t *testing.T, s sender, applied func(agentkeys.Wallet, uint64)) (r *Relay, stop func()) {
	t.Helper()
	r = NewRelay(s, applied)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return r, stop
}

func TestSubmitAnswersEach(t *testing.T) {
	s := &memorySender{answer: func(_ context.Context, parts [][]byte) (uint64, []ledger.Result, error) {
		out := make([]ledger.Result, len(parts))
		out[1] = ledger.Result{Code: uint32(rules.Stale), Reason: "version 2"}
		return 7, out, nil
	}}
	r, _ := running(t, s, nil)
	height, results, err := r.Submit(t.Context(), [][]byte{beatWire(), {}, beatWire(), []byte("junk")})
	if err != nil || height != 7 {
		t.Fatal(height, err)
	}
	for i, want := range []rules.Code{rules.OK, rules.BadLayout, rules.Stale, rules.BadLayout} {
		if rules.Code(results[i].Code) != want {
			t.Errorf("result %d: %+v, want %s", i, results[i], want)
		}
	}
	if len(s.batches) != 1 || len(s.batches[0]) != 2 {
		t.Errorf("sent %d batches", len(s.batches))
	}
	if r.Transactions.Load() != 1 || r.Statements.Load() != 2 || r.Refused.Load() != 1 {
		t.Errorf("counters %d %d %d", r.Transactions.Load(), r.Statements.Load(), r.Refused.Load())
	}
}

func TestBadLayoutNeedsNoChain(t *testing.T) {
	r, _ := running(t, &memorySender{answer: hang}, nil)
	_, results, err := r.Submit(t.Context(), [][]byte{[]byte("junk")})
	if err != nil || rules.Code(results[0].Code) != rules.BadLayout {
		t.Fatal(results, err)
	}
}

func TestErrorReachesEveryWaiter(t *testing.T) {
	broken := errors.New("tx: refused by the node")
	r, _ := running(t, &memorySender{answer: func(context.Context, [][]byte) (uint64, []ledger.Result, error) {
		return 0, nil, broken
	}}, func(agentkeys.Wallet, uint64) { t.Error("told of a failure") })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, _, err := r.Submit(t.Context(), [][]byte{userWire(t, statement.Enrol{})}); !errors.Is(err, broken) {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
}

// A batch goes while another is under way only when that one has been answered, and
// everything queued meanwhile goes together.
func TestOneInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		flying := 0
		s := &memorySender{}
		s.answer = func(_ context.Context, parts [][]byte) (uint64, []ledger.Result, error) {
			if flying++; flying > 1 {
				t.Error("two transactions in flight")
			}
			<-gate
			flying--
			return 1, make([]ledger.Result, len(parts)), nil
		}
		r, stop := running(t, s, nil)
		defer stop()
		var wg sync.WaitGroup
		submit := func(w []byte) {
			wg.Go(func() {
				if _, _, err := r.Submit(t.Context(), [][]byte{w}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		submit(beatWire())
		submit(rotationWire(t, 1))
		submit(beatWire())
		submit(userWire(t, statement.RevokeAgent{Counter: 1}))
		close(gate)
		wg.Wait()
		if len(s.batches) != 2 || len(s.batches[1]) != 3 {
			t.Fatalf("%d batches", len(s.batches))
		}
		for i, want := range []int{classRevocation, classOrdinary, classRotation} {
			if got := classOf(s.batches[1][i]); got != want {
				t.Errorf("place %d has class %d", i, got)
			}
		}
	})
}

// A transaction that nobody sees again is made anew, until sendFor is over.
func TestLostTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		s := &memorySender{}
		s.answer = func(ctx context.Context, parts [][]byte) (uint64, []ledger.Result, error) {
			if tries++; tries < 3 {
				return hang(ctx, parts)
			}
			return 5, make([]ledger.Result, len(parts)), nil
		}
		r, stop := running(t, s, nil)
		defer stop()
		began := time.Now()
		if height, _, err := r.Submit(t.Context(), [][]byte{beatWire()}); err != nil || height != 5 {
			t.Error(height, err)
		}
		if took := time.Since(began); took != 2*tryFor {
			t.Errorf("took %v", took)
		}
		tries = -1000
		began = time.Now()
		if _, _, err := r.Submit(t.Context(), [][]byte{beatWire()}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(began); took != sendFor {
			t.Errorf("gave up after %v", took)
		}
	})
}

func TestShutdownAbandons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := running(t, &memorySender{answer: hang}, nil)
		var wg sync.WaitGroup
		for range 2 { // one in flight, one queued
			wg.Go(func() {
				if _, _, err := r.Submit(context.Background(), [][]byte{beatWire()}); !errors.Is(err, context.Canceled) {
					t.Errorf("a waiter got %v", err)
				}
			})
			synctest.Wait()
		}
		stop()
		wg.Wait()
		if _, _, err := r.Submit(context.Background(), [][]byte{beatWire()}); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestWaiterMayLeave(t *testing.T) {
	r, _ := running(t, &memorySender{answer: hang}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Submit(ctx, [][]byte{beatWire()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestQueueLimit(t *testing.T) {
	r := NewRelay(&memorySender{}, nil)
	if err := r.enqueue(entries(maxQueue, beatWire())); err != nil {
		t.Fatal(err)
	}
	_, _, err := r.Submit(t.Context(), [][]byte{beatWire()})
	if api.CodeOf(err) != "relay_busy" {
		t.Fatalf("%v", err)
	}
	r.next()
	if err := r.enqueue(entries(maxBatch, beatWire())); err != nil {
		t.Errorf("room again: %v", err)
	}
}

func TestTold(t *testing.T) {
	u := agentkeys.Wallet{7}
	for _, c := range []struct {
		name string
		wire []byte
		code rules.Code
		want int
	}{
		{"enrol", userWire(t, statement.Enrol{User: u}), rules.OK, 1},
		{"revoke", userWire(t, statement.RevokeAgent{User: u, Counter: 1}), rules.OK, 1},
		{"ask", userWire(t, statement.AskRotation{User: u, Due: 2}), rules.OK, 1},
		{"delete", userWire(t, statement.Delete{User: u, Version: 1}), rules.OK, 1},
		{"refused", userWire(t, statement.AskRotation{User: u, Due: 2}), rules.Stale, 0},
		{"repeat", userWire(t, statement.AskRotation{User: u, Due: 2}), rules.AlreadyApplied, 0},
		{"heartbeat", beatWire(), rules.OK, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			told := 0
			r, stop := running(t, &memorySender{answer: func(context.Context, [][]byte) (uint64, []ledger.Result, error) {
				return 9, []ledger.Result{{Code: uint32(c.code)}}, nil
			}}, func(w agentkeys.Wallet, height uint64) {
				if told++; w != u || height != 9 {
					t.Errorf("told of %s at %d", w, height)
				}
			})
			if _, _, err := r.Submit(t.Context(), [][]byte{c.wire}); err != nil {
				t.Fatal(err)
			}
			stop()
			if told != c.want {
				t.Errorf("told %d times", told)
			}
		})
	}
}

// Enrolling is free for whoever does it, so it is limited; nothing else is held up.
func TestEnrolmentsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRelay(&memorySender{}, nil)
		wire := userWire(t, statement.Enrol{})
		enrols := func(n int) error {
			entries := make([]*entry, n)
			for i := range entries {
				entries[i] = &entry{wire: wire, done: make(chan struct{})}
			}
			return r.enqueue(entries)
		}
		// What does not parse is never sent and counts for nothing.
		junk := make([][]byte, 2*enrolBurst)
		for i := range junk {
			junk[i] = []byte{byte(statement.KindEnrol)}
		}
		if _, _, err := r.Submit(t.Context(), junk); err != nil {
			t.Fatal(err)
		}
		if err := enrols(enrolBurst); err != nil {
			t.Fatal(err)
		}
		if err := enrols(1); api.CodeOf(err) != "enrol_limited" {
			t.Fatalf("one more: %v", err)
		}
		other := &entry{wire: userWire(t, statement.RevokeAgent{}), done: make(chan struct{})}
		if err := r.enqueue([]*entry{other}); err != nil {
			t.Fatalf("a revocation beside them: %v", err)
		}
		time.Sleep(time.Second)
		if err := enrols(enrolsPerSecond); err != nil {
			t.Fatalf("a second later: %v", err)
		}
		if err := enrols(1); err == nil {
			t.Fatal("more than the second brought")
		}
	})
}
