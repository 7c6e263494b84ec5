package operator

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// Limits of one transaction.
const (
	maxBatch      = 512
	maxBatchBytes = 1 << 20
	maxQueue      = 16384
)

// sender brings one batch into a block; *ledger.Sender.
type sender interface {
	Send(ctx context.Context, typeURL string, parts [][]byte) (uint64, []ledger.Result, error)
}

// Relay queues signed statements and brings them into blocks, one transaction at a
// time: everything queued goes into the next, revocations first, rotation at most
// half. The queue is memory only: whoever signed a statement repeats it until its
// row shows it. The relay cannot read, forge or reorder to anyone's harm.
type Relay struct {
	send    sender
	applied func(user agentkeys.Wallet, height uint64) // called for users whose rotation may have changed

	mu     sync.Mutex
	queue  [3][]*entry // by class
	closed error       // why nothing is taken any more
	enrols enrolLimit
	kick   chan struct{}

	Transactions, Statements, Refused atomic.Uint64
}

// entry is one statement on its way.
type entry struct {
	wire   []byte
	done   chan struct{}
	height uint64
	result ledger.Result
	err    error
}

// Classes of statements, in the order of their urgency.
const (
	classRevocation = iota
	classOrdinary
	classRotation
)

// NewRelay sends through s and tells applied about users.
func NewRelay(s sender, applied func(agentkeys.Wallet, uint64)) *Relay {
	return &Relay{send: s, applied: applied, kick: make(chan struct{}, 1)}
}

func classOf(wire []byte) int {
	switch statement.Kind(wire[0]) {
	case statement.KindRevokeAgent:
		return classRevocation
	case statement.KindRotateBlobs, statement.KindRewrapDEK:
		return classRotation
	}
	return classOrdinary
}

// Submit queues statements and waits until a block has answered each. Statements
// that do not parse are answered at once and never sent.
func (r *Relay) Submit(ctx context.Context, wires [][]byte) (height uint64, results []ledger.Result, err error) {
	entries := make([]*entry, len(wires))
	var waiting []*entry
	for i, w := range wires {
		e := &entry{wire: w, done: make(chan struct{})}
		if _, perr := statement.Parse(w); perr == nil {
			waiting = append(waiting, e)
		} else {
			e.result = ledger.Result{Code: uint32(rules.BadLayout), Reason: "statement: wrong layout"}
			close(e.done)
		}
		entries[i] = e
	}
	if err := r.enqueue(waiting); err != nil {
		return 0, nil, err
	}
	results = make([]ledger.Result, len(wires))
	for i, e := range entries {
		select {
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		case <-e.done:
		}
		if e.err != nil {
			return 0, nil, e.err
		}
		results[i], height = e.result, max(height, e.height)
	}
	return height, results, nil
}

func (r *Relay) enqueue(entries []*entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed != nil {
		return r.closed
	}
	if len(r.queue[0])+len(r.queue[1])+len(r.queue[2])+len(entries) > maxQueue {
		return errBusy
	}
	if !r.enrols.take(time.Now(), entries) {
		return errEnrols
	}
	for _, e := range entries {
		c := classOf(e.wire)
		r.queue[c] = append(r.queue[c], e)
	}
	select {
	case r.kick <- struct{}{}:
	default:
	}
	return nil
}

// enrolLimit is a token bucket: anybody may enrol, at the vault's expense and for
// good, so nobody may do it without end.
type enrolLimit struct {
	used float64
	at   time.Time
}

const (
	enrolsPerSecond = 20
	enrolBurst      = 400
)

// take counts the enrolments among entries, all or none.
func (l *enrolLimit) take(now time.Time, entries []*entry) bool {
	n := 0.0
	for _, e := range entries {
		if statement.Kind(e.wire[0]) == statement.KindEnrol {
			n++
		}
	}
	if n == 0 {
		return true
	}
	l.used = max(0, l.used-now.Sub(l.at).Seconds()*enrolsPerSecond)
	l.at = now
	if l.used+n > enrolBurst {
		return false
	}
	l.used += n
	return true
}

// Run sends batches until ctx ends; what is queued then is answered with its error.
func (r *Relay) Run(ctx context.Context) error {
	last, answered := 0, time.Time{}
	for {
		if time.Since(answered) < crowdFor {
			r.linger(ctx, last)
		}
		batch := r.next()
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				r.abandon(ctx.Err())
				return ctx.Err()
			case <-r.kick:
			}
			continue
		}
		r.deliver(ctx, batch)
		last, answered = len(batch), time.Now()
		if ctx.Err() != nil {
			r.abandon(ctx.Err())
			return ctx.Err()
		}
	}
}

// lingerFor is how long a block's worth of statements is waited for, and crowdFor how
// long after an answer those who got it are expected back.
const (
	lingerFor = 8 * time.Millisecond
	crowdFor  = 250 * time.Millisecond
)

// linger lets a crowd gather again. Those who were answered together come back
// together, a little apart; a transaction for the first of them alone would make all
// others wait two blocks for it. A revocation waits for nobody, and neither does
// whoever was alone.
func (r *Relay) linger(ctx context.Context, last int) {
	if last < 8 {
		return
	}
	enough := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		waiting := len(r.queue[classOrdinary]) + len(r.queue[classRotation])
		return waiting == 0 || waiting >= last/2 || len(r.queue[classRevocation]) > 0
	}
	for began := time.Now(); time.Since(began) < lingerFor && ctx.Err() == nil && !enough(); {
		time.Sleep(time.Millisecond)
	}
}

// next takes a batch: revocations, then ordinary statements, rotation at most half.
// While rotation waits a quarter is kept for it: writes cannot hold it up for good.
func (r *Relay) next() []*entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	quarters := [3]int{4, 4, 2}
	if len(r.queue[classRotation]) > 0 {
		quarters[classOrdinary] = 3
	}
	var batch []*entry
	size := 0
	for c, q := range quarters {
		part := r.queue[c][:fitting(r.queue[c], min(q*maxBatch/4, maxBatch-len(batch)), min(q*maxBatchBytes/4, maxBatchBytes-size))]
		if len(batch) == 0 && len(part) == 0 && len(r.queue[c]) > 0 {
			part = r.queue[c][:1] // larger than its part: alone, rather than never
		}
		for _, e := range part {
			size += len(e.wire)
		}
		batch = append(batch, part...)
		r.queue[c] = r.queue[c][len(part):]
	}
	return batch
}

// fitting is how many entries of a queue stay within a number and a size.
func fitting(queue []*entry, number, size int) int {
	for i, e := range queue {
		if size -= len(e.wire); i == number || size < 0 {
			return i
		}
	}
	return len(queue)
}

// sendFor bounds one batch: a statement's own validity is shorter than any outage
// worth waiting for. tryFor bounds one transaction: one that stays out of sight for
// longer may be lost, or in a block that nobody told of, and is made anew. A
// statement that was in the old one too is answered "already applied".
const (
	sendFor = time.Minute
	tryFor  = 5 * time.Second
)

func (r *Relay) deliver(ctx context.Context, batch []*entry) {
	parts := make([][]byte, len(batch))
	for i, e := range batch {
		parts[i] = e.wire
	}
	ctx, cancel := context.WithTimeout(ctx, sendFor)
	defer cancel()
	height, results, err := r.try(ctx, parts)
	for errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		height, results, err = r.try(ctx, parts)
	}
	r.Statements.Add(uint64(len(batch)))
	for i, e := range batch {
		e.height, e.err = height, err
		if err == nil {
			e.result = results[i]
			if !rules.Code(e.result.Code).Done() {
				r.Refused.Add(1)
			}
		}
		close(e.done)
		r.tell(e)
	}
}

func (r *Relay) try(ctx context.Context, parts [][]byte) (uint64, []ledger.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	r.Transactions.Add(1)
	return r.send.Send(ctx, ledger.MsgSubmit, parts)
}

// tell passes on users whose rotation may have moved. A delete may empty a draining
// epoch.
func (r *Relay) tell(e *entry) {
	if e.err != nil || rules.Code(e.result.Code) != rules.OK || r.applied == nil {
		return
	}
	s, err := statement.Parse(e.wire)
	if err != nil {
		return
	}
	switch b := s.Body.(type) {
	case statement.Enrol:
		r.applied(b.User, e.height)
	case statement.RevokeAgent:
		r.applied(b.User, e.height)
	case statement.AskRotation:
		r.applied(b.User, e.height)
	case statement.Delete:
		r.applied(b.User, e.height)
	}
}

func (r *Relay) abandon(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = err
	for c := range r.queue {
		for _, e := range r.queue[c] {
			e.err = err
			close(e.done)
		}
		r.queue[c] = nil
	}
}
