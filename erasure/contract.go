package erasure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.org/agentkeys"
)

// Objects is the custodian-only prefix tree/ of the object store. Content is not
// trusted: everything read is authenticated here.
type Objects interface {
	// Put creates an object and returns once it is durable. A name that is taken
	// gives ErrExists and changes nothing.
	Put(ctx context.Context, name string, object []byte) error
	// Get gives ErrNotFound only when the store said so; every other error means
	// unavailable.
	Get(ctx context.Context, name string) ([]byte, error)
	// List gives all names that begin with prefix, in any order.
	List(ctx context.Context, prefix string) ([]string, error)
	// Delete removes every version. A name that is not there is no error.
	Delete(ctx context.Context, name string) error
}

// Anchor is the erasable place. It holds at most two roots; which of them counts
// is said by the chain, never by the anchor. Each method is durable before it
// returns and safe to repeat; an error means "unknown". The contract, which
// erasure/anchortest checks: after Destroy(root), full access to the anchor,
// every byte that ever left it for anything but the caller's memory, and every
// state ever kept outside it do not give that root.
type Anchor interface {
	// Roots gives what is held: none, one or two, in any order.
	Roots(ctx context.Context) ([]Root, error)
	// Stage adds a root beside the one held. One that is held already is no
	// error; a third and the zero root are refused.
	Stage(ctx context.Context, root Root) error
	// Destroy erases exactly this root for good. One that is not held is no
	// error. The only root held is refused.
	Destroy(ctx context.Context, root Root) error
}

// Maker is an anchor whose place has to be made before the first root. [Open] has it
// made while nothing was committed, and never later: a place that is not there then is
// away, and an empty one in its stead would be in the way when it is brought back.
type Maker interface {
	// Make is safe to repeat.
	Make(ctx context.Context) error
}

// TooSoon is the error of a Stage that the anchor puts off, because its memory wears
// out. The commit can be repeated after Wait; until then puts go under both roots and
// nothing is erased.
type TooSoon struct {
	Kind string
	Wait time.Duration
}

func (e TooSoon) Error() string {
	return fmt.Sprintf("%s anchor: wait %v before the next commit: its memory wears out", e.Kind, e.Wait.Round(time.Second))
}

// Row is the proven Anchor row. Generation 0 means that nothing was committed.
type Row struct {
	Generation uint64
	Term       uint64
	Height     uint64 // of the verified state that proved the row
	IndexHash  agentkeys.Hash
}

// Chain is the chain as the custodian has verified it; nothing unproven comes
// through.
type Chain interface {
	Anchor(ctx context.Context, id AnchorID) (Row, error)
	// CommitTree has the statement signed and relayed (compare-and-swap on the
	// previous generation) and returns the verified row that shows it. A repeat
	// with the same index hash is no error. After an error the outcome is open.
	CommitTree(ctx context.Context, id AnchorID, term, previous uint64, index agentkeys.Hash) (Row, error)
	// Destroyed says whether the epoch is proven destroyed: below the user's
	// active epoch and not draining.
	Destroyed(ctx context.Context, user agentkeys.Wallet, epoch agentkeys.Epoch) (bool, error)
}

var (
	// ErrNotFound is what Objects.Get returns (wrapped or not) for a name that
	// does not exist, as opposed to a store that does not answer.
	ErrNotFound = errors.New("object: not found")
	// ErrExists is what Objects.Put returns for a name that is taken.
	ErrExists = errors.New("object: exists already")
	// ErrMissing: a live epoch has no share, so nothing may be destroyed. Alarm.
	ErrMissing = errors.New("share: a live epoch has none")
	// ErrLive: a share of a live epoch was to be erased. Alarm.
	ErrLive = errors.New("share: still needed by a live epoch")
	// ErrErasing: the share is marked for erasure and cannot be put again.
	ErrErasing = errors.New("share: being erased")
	// ErrAdding: a commit that adds the share is under way. Try again.
	ErrAdding = errors.New("share: being added")
	// ErrNoRoot: no root in the anchor opens what the chain names. Alarm.
	ErrNoRoot = errors.New("anchor: no root opens the tree")
	// ErrDiverged: the chain shows an older or another tree than this one.
	ErrDiverged = errors.New("anchor row: not the one of this tree")
	// ErrTampered: an object is not what was written under its name.
	ErrTampered = errors.New("tree object: wrong bytes")
	// ErrTwoShares: one id has different shares in two trees. A store that withheld a
	// record from a start can bring that about; see [Set.Put].
	ErrTwoShares = fmt.Errorf("%w: two shares", ErrTampered)
)
