package custodian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// leaseFor is how long a keeper takes an anchor for, in seconds, and leaseLeft how
// much of it must be left before something is signed under it.
const (
	leaseFor  = 3600
	leaseLeft = 300
)

// TreeStore is the tree/ part of the custodian's area.
type TreeStore interface {
	Get(ctx context.Context, key string, maxBytes int64) ([]byte, error)
	Put(ctx context.Context, key string, body []byte) error
	Delete(ctx context.Context, keys ...string) error
	Objects
}

// Keeper holds the leases of this vault's anchors and the trees of shares behind
// them. Its state is the trees' (package erasure); leases are rows.
type Keeper struct {
	vault  agentkeys.VaultID
	state  *State
	chain  Chain
	lister Lister
	relay  Relay
	log    *slog.Logger
	set    *erasure.Set
	since  time.Time // when this process began to sign

	mu  sync.Mutex
	ids []erasure.AnchorID // anchors not known to be out of use

	kinds map[erasure.AnchorID]uint8 // what this process was told they are
}

// KeptAnchor is one anchor with the id and the kind under which the chain knows it.
type KeptAnchor struct {
	ID     erasure.AnchorID
	Kind   uint8 // statement.AnchorFile and so on
	Anchor erasure.Anchor
}

// NewKeeper opens nothing; [Keeper.Open] does. step may be nil.
func NewKeeper(cfg Config, objects TreeStore, anchors []KeptAnchor, step func(string)) *Keeper {
	k := &Keeper{vault: cfg.Vault, state: cfg.State, chain: cfg.Chain, lister: cfg.Lister, relay: cfg.Relay, log: cfg.Log, since: time.Now(),
		kinds: map[erasure.AnchorID]uint8{}}
	k.set = erasure.NewSet()
	for _, a := range anchors {
		k.kinds[a.ID] = a.Kind
		k.ids = append(k.ids, a.ID)
		k.set.Add(erasure.Config{Vault: cfg.Vault, ID: a.ID, Objects: treeObjects{objects}, Anchor: a.Anchor, Chain: anchorChain{k},
			Version: max(1, cfg.State.Wrap), Shielding: k.shielding, Live: k.live, Progress: k.progress(a.ID), Step: step})
	}
	return k
}

// progress logs how far a tree is loaded, once a second: of a million shares it takes some.
func (k *Keeper) progress(id erasure.AnchorID) func(loaded, total uint64) {
	var mu sync.Mutex
	last := time.Now()
	return func(loaded, total uint64) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) >= time.Second {
			last = time.Now()
			k.log.Warn("share tree is loading", "anchor", id.String(), "shares", loaded, "of", total)
		}
	}
}

// Open takes the leases and opens every tree; an anchor that is new to the chain is
// committed once, which makes it live. It may be called again until it succeeds.
func (k *Keeper) Open(ctx context.Context) error {
	ids, err := k.inUse(ctx)
	if err != nil {
		return err
	}
	// An anchor that is not ours keeps nobody from reading through the others.
	var errs []error
	var foreign []erasure.AnchorID
	for _, id := range ids {
		if err := k.lease(ctx, id); err != nil {
			errs, foreign = append(errs, fmt.Errorf("anchor %s: %w", id, err)), append(foreign, id)
		}
	}
	if err := errors.Join(append(errs, k.set.Open(ctx, foreign...))...); err != nil {
		return err
	}
	for _, id := range ids {
		if t := k.set.Tree(id); t != nil && t.Generation() == 0 {
			// A joining anchor holds every live share before it counts as live.
			if err := k.set.Fill(ctx); err != nil {
				return err
			}
			return k.set.Commit(ctx)
		}
	}
	return nil
}

// Readable says that a tree is open: its shares open every epoch.
func (k *Keeper) Readable() bool { return k.set.Readable() }

// leases holds the lease of every anchor in use and names them.
func (k *Keeper) leases(ctx context.Context) ([]erasure.AnchorID, error) {
	ids, err := k.inUse(ctx)
	for _, id := range ids {
		if err := k.lease(ctx, id); err != nil {
			return nil, fmt.Errorf("anchor %s: %w", id, err)
		}
	}
	return ids, err
}

// inUse leaves out, for good, the anchors that the chain shows as evicted or
// retired: a dead one holds up destruction until then, and no longer.
func (k *Keeper) inUse(ctx context.Context) ([]erasure.AnchorID, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept := make([]erasure.AnchorID, 0, len(k.ids))
	for _, id := range k.ids {
		a, _, _, err := one(ctx, k.chain, rules.AnchorKey(statement.AnchorID(id)), rules.ParseAnchor)
		if err != nil {
			return nil, err
		}
		if a.State != rules.AnchorEvicted && a.State != rules.AnchorRetired {
			kept = append(kept, id)
		}
	}
	for _, id := range k.ids {
		if !slices.Contains(kept, id) {
			k.log.Warn("anchor is out of use", "anchor", id.String())
			k.set.Evict(id)
		}
	}
	k.ids = kept
	return slices.Clone(kept), nil
}

// Get gives a share for the read path. The caller is scrubbed and wipes it.
func (k *Keeper) Get(user agentkeys.Wallet, epoch agentkeys.Epoch, version uint32) (agentkeys.Secret, error) {
	share, ok := k.set.Get(erasure.ShareID{User: user, Epoch: epoch, WrapVersion: version})
	if !ok {
		return agentkeys.Secret{}, fmt.Errorf("share: none for epoch %d of %s", epoch, user)
	}
	return agentkeys.NewSecret(share[:]), nil
}

// version is the wrap version in use: the number of the newest shielding key.
func (k *Keeper) version() uint32 { return k.set.Version() }

func (k *Keeper) shielding(version uint32) ([32]byte, error) {
	key, err := k.state.Seed.ShieldingKey(k.vault, version)
	if err != nil {
		return [32]byte{}, err
	}
	defer key.Wipe()
	return [32]byte(key.Reveal()), nil
}

// live visits the share of every live epoch. The list of users comes unproven and
// is held against the proven counts: a list that leaves one out is refused.
func (k *Keeper) live(ctx context.Context, visit func(erasure.ShareID) error) error {
	for try := 0; ; try++ {
		ids, complete, err := k.liveShares(ctx)
		if err != nil {
			return err
		}
		if complete {
			for _, id := range ids {
				if err := visit(id); err != nil {
					return err
				}
			}
			return nil
		}
		if try == 10 {
			return errors.New("users: the node's list does not match the proven counts")
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func (k *Keeper) liveShares(ctx context.Context) (ids []erasure.ShareID, complete bool, err error) {
	users, err := k.lister.Keys(ctx, rules.UsersPrefix())
	if err != nil {
		return nil, false, err
	}
	// A user named twice would stand in for one who is left out.
	slices.SortFunc(users, bytes.Compare)
	users = slices.CompactFunc(users, bytes.Equal)
	values, _, err := k.chain.Rows(ctx, append([][]byte{rules.SystemKey()}, users...)...)
	if err != nil {
		return nil, false, err
	}
	system, _, err := row(values[0], rules.ParseSystem)
	if err != nil {
		return nil, false, err
	}
	var count, epochs uint64
	for i, v := range values[1:] {
		u, ok, err := row(v, rules.ParseUser)
		if err != nil {
			return nil, false, err
		}
		if !ok {
			continue
		}
		count++
		w := agentkeys.Wallet(users[i][1:])
		for _, e := range []rules.EpochRow{u.Active, u.Draining} {
			if e.Epoch == 0 {
				continue
			}
			epochs++
			if e.Epoch == u.Active.Epoch || e.LiveCount > 0 {
				ids = append(ids, shareOf(w, e))
			}
		}
	}
	return ids, count == system.Users && epochs == system.LiveEpochs, nil
}

// shareOf names the share that a live epoch's data key is wrapped with.
func shareOf(w agentkeys.Wallet, e rules.EpochRow) erasure.ShareID {
	v := agentkeys.NewReader(e.Wrapped[:4]).U32()
	return erasure.ShareID{User: w, Epoch: e.Epoch, WrapVersion: v}
}

// lease takes or renews the keeper's lease where little of it is left.
func (k *Keeper) lease(ctx context.Context, id erasure.AnchorID) error {
	a, ok, head, err := one(ctx, k.chain, rules.AnchorKey(statement.AnchorID(id)), rules.ParseAnchor)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("the chain does not know it: agentkeys-operator anchor add --kind %s", statement.AnchorKindName(k.kinds[id]))
	}
	if a.Type != k.kinds[id] {
		// Whoever reads the row goes by it: a file must not pass for hardware.
		return fmt.Errorf("the chain has it as %s, and this process was told %s: give it the right --anchor, or add another id",
			statement.AnchorKindName(a.Type), statement.AnchorKindName(k.kinds[id]))
	}
	now := max(blockTime(head), uint64(time.Now().Unix()))
	if a.Keeper == k.state.Key() && a.LeaseUntil >= now+leaseLeft {
		return nil
	}
	term := a.Term
	if a.Keeper != k.state.Key() {
		term++
	}
	s := statement.TakeKeeper{Anchor: statement.AnchorID(id), Term: term, LeaseUntil: now + leaseFor, ValidUntil: now + statementLife}
	return k.submit(ctx, s, rules.AnchorKey(s.Anchor), func(v []byte) bool {
		a, ok, err := row(v, rules.ParseAnchor)
		return err == nil && ok && a.Keeper == k.state.Key() && a.Term == term && a.LeaseUntil >= s.LeaseUntil
	})
}

// submit has one statement proven by the row that shows it. A refusal ends at once.
func (k *Keeper) submit(ctx context.Context, body statement.Body, key []byte, shown func([]byte) bool) error {
	wire := statement.SignProcess(k.state.Instance, k.vault, body, nil)
	r, err := k.relay.Submit(ctx, [][]byte{wire})
	if err != nil {
		return err
	}
	if len(r.Results) == 1 && !rules.Code(r.Results[0].Code).Done() {
		return fmt.Errorf("statement refused: %s: %s", rules.Code(r.Results[0].Code), r.Results[0].Reason)
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	awaitHeight(ctx, k.chain, r.Height)
	_, _, err = k.chain.AwaitRow(ctx, key, shown)
	return err
}

// proofTimeout bounds the wait for the proof of something a block has accepted.
const proofTimeout = 30 * time.Second

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
