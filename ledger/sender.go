package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Sender brings transactions of one account into blocks, one at a time: the next is
// signed only when the one before is in a block or can no longer be. Its state is the
// account's sequence, read from the chain; nothing is durable. Run follows the blocks.
type Sender struct {
	node    *Node
	signer  *Signer
	chainID string
	denom   string

	sending  sync.Mutex // one transaction in flight
	number   uint64
	sequence uint64
	known    bool

	mu     sync.Mutex
	height uint64
	moved  chan struct{} // closed when height grows
}

// NewSender pays with signer's account in denom.
func NewSender(node *Node, signer *Signer, chainID, denom string) *Sender {
	return &Sender{node: node, signer: signer, chainID: chainID, denom: denom, moved: make(chan struct{})}
}

const (
	// lookAgain is how long a transaction may be out of sight before its account is
	// read and the same bytes are sent again.
	lookAgain = 2 * time.Second
	// timeoutBlocks after which a transaction can no longer be included.
	timeoutBlocks = 100

	codeSequence = 32 // sdk: account sequence mismatch
	codeInCache  = 19 // sdk: tx already in mempool
)

// Run follows the chain until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	return s.node.Follow(ctx, func(h uint64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if h > s.height {
			s.height = h
			close(s.moved)
			s.moved = make(chan struct{})
		}
	})
}

func (s *Sender) seen() (uint64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.height, s.moved
}

// Send puts statements (MsgSubmit) or acts (MsgAuthority) into one transaction and
// returns the block's answer to each. It goes on through a node that is away until
// ctx ends; then the transaction may still come, and repeating the statements is
// harmless.
func (s *Sender) Send(ctx context.Context, typeURL string, parts [][]byte) (height uint64, results []Result, err error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	for {
		height, results, err = s.once(ctx, typeURL, parts)
		if !errors.Is(err, errAgain) {
			return height, results, err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, nil, err
		}
	}
}

// errAgain asks for a new signature with the account's sequence read anew.
var errAgain = errors.New("tx: sign again")

func (s *Sender) once(ctx context.Context, typeURL string, parts [][]byte) (uint64, []Result, error) {
	if err := s.account(ctx); err != nil {
		return 0, nil, err
	}
	from, err := s.now(ctx)
	if err != nil {
		return 0, nil, err
	}
	terms := Terms{ChainID: s.chainID, Number: s.number, Sequence: s.sequence, Timeout: from + timeoutBlocks,
		Gas: gasFor(parts), Denom: s.denom}
	tx, err := s.signer.sign(terms, typeURL, parts)
	if err != nil {
		return 0, nil, err
	}
	in, err := s.deliver(ctx, tx, from+1, terms.Timeout)
	if err != nil {
		s.known = false
		return 0, nil, err
	}
	s.sequence++
	if in.Result.Code != 0 {
		return in.Height, nil, fmt.Errorf("tx: refused in block %d: %s", in.Height, in.Result.Log)
	}
	results, err := Results(in.Result.Data)
	if err == nil && len(results) != len(parts) {
		err = errors.New("tx: the node gave another number of results than statements")
	}
	return in.Height, results, err
}

// gasFor follows docs/spec/chain.md with room for the transaction's own bytes.
func gasFor(parts [][]byte) uint64 {
	gas := uint64(300_000)
	for _, p := range parts {
		gas += 8_000 + 25*uint64(len(p))
	}
	return gas
}

func (s *Sender) account(ctx context.Context) error {
	for !s.known {
		number, sequence, err := s.node.Account(ctx, s.signer.Address().String())
		if err == nil {
			s.number, s.sequence, s.known = number, sequence, true
			return nil
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// now is the newest height known before the transaction is sent: it lies in a later
// block. An older height only means looking through more blocks.
func (s *Sender) now(ctx context.Context) (uint64, error) {
	if h, _ := s.seen(); h != 0 {
		return h, nil
	}
	for {
		if st, err := s.node.Status(ctx); err == nil {
			return st.Height, nil
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// deliver sends the same bytes until a block has them or none can.
func (s *Sender) deliver(ctx context.Context, tx []byte, next, timeout uint64) (Inclusion, error) {
	start := next
	for {
		b, err := s.node.BroadcastTxSync(ctx, tx)
		switch {
		case err == nil && b.Code == codeSequence:
			// Either it is in a block already, or somebody else used the account.
			in, err := s.node.Included(ctx, tx, start, s.latest(ctx))
			if errors.Is(err, ErrNotIncluded) {
				return Inclusion{}, errAgain
			}
			return in, err
		case err == nil && b.Code != 0 && b.Code != codeInCache:
			return Inclusion{}, fmt.Errorf("tx: refused by the node: %s", b.Log)
		}
		in, err := s.watch(ctx, tx, &next, timeout)
		if err == nil || !errors.Is(err, ErrNotIncluded) {
			return in, err
		}
	}
}

// watch looks through new blocks for lookAgain.
func (s *Sender) watch(ctx context.Context, tx []byte, next *uint64, timeout uint64) (Inclusion, error) {
	limit := time.NewTimer(lookAgain)
	defer limit.Stop()
	for {
		height, moved := s.seen()
		if height >= *next {
			in, err := s.node.Included(ctx, tx, *next, height)
			switch {
			case err == nil:
				return in, nil
			case errors.Is(err, ErrNotIncluded) && height >= timeout:
				return in, errAgain
			case errors.Is(err, ErrNotIncluded):
				*next = height + 1
			}
		}
		select {
		case <-ctx.Done():
			return Inclusion{}, ctx.Err()
		case <-limit.C:
			// An event may have been lost: ask before the same bytes are sent again.
			if height := s.latest(ctx); height >= *next {
				in, err := s.node.Included(ctx, tx, *next, height)
				if err == nil {
					return in, nil
				}
			}
			return Inclusion{}, ErrNotIncluded
		case <-moved:
		}
	}
}

func (s *Sender) latest(ctx context.Context) uint64 {
	h, _ := s.seen()
	if st, err := s.node.Status(ctx); err == nil {
		return max(h, st.Height)
	}
	return h
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
