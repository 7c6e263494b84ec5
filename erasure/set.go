package erasure

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"example.org/agentkeys"
)

// Set is the trees of all live anchors. A share counts as stored once it is in
// every one of them; any one that is open is enough to read.
type Set struct {
	mu      sync.RWMutex
	members []*member
	add     sync.Mutex // one AddShares at a time, so that every tree is given the same shares
}

type member struct {
	cfg  Config
	tree *Tree // nil until its anchor could be opened
}

// NewSet makes a set of anchors, none of them open.
func NewSet(anchors ...Config) *Set {
	s := &Set{}
	for _, cfg := range anchors {
		s.Add(cfg)
	}
	return s
}

// Add takes in an anchor. Open, Fill and Commit follow: the first commit makes it
// live on the chain and stops while a live share is missing. Until then puts are
// refused, so that none misses the new tree.
func (s *Set) Add(cfg Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, &member{cfg: cfg})
}

// Evict leaves out an anchor that the chain shows as evicted.
func (s *Set) Evict(id AnchorID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.members {
		if m.cfg.ID == id {
			s.members = append(s.members[:i:i], s.members[i+1:]...)
			return
		}
	}
}

// Open opens every anchor that is not open yet, but for those that the caller does not hold,
// and may be called again, by one caller at a time. An error names those that are still
// dead; the others work meanwhile.
func (s *Set) Open(ctx context.Context, except ...AnchorID) error {
	s.mu.RLock()
	members := slices.Clone(s.members)
	s.mu.RUnlock()
	var errs []error
	for _, m := range members {
		s.mu.RLock()
		cfg, open := m.cfg, m.tree != nil
		s.mu.RUnlock()
		if open || slices.Contains(except, cfg.ID) {
			continue
		}
		tree, err := Open(ctx, cfg)
		if err != nil {
			errs = append(errs, fmt.Errorf("anchor %s: %w", cfg.ID, err))
			continue
		}
		s.mu.Lock()
		tree.SetVersion(m.cfg.Version) // it may have risen meanwhile
		m.tree = tree
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

// Readable says that at least one tree is open that holds what is live; one that is only
// joining holds nothing.
func (s *Set) Readable() bool {
	trees, _ := s.trees()
	return slices.ContainsFunc(trees, func(t *Tree) bool { return t.Generation() > 0 })
}

// Tree gives the tree of one anchor, nil while it is not open.
func (s *Set) Tree(id AnchorID) *Tree {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, m := range s.members {
		if m.cfg.ID == id {
			return m.tree
		}
	}
	return nil
}

// Get gives a share from the first tree that has it.
func (s *Set) Get(id ShareID) (Share, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, m := range s.members {
		if m.tree == nil {
			continue
		}
		if share, ok := m.tree.Get(id); ok {
			return share, true
		}
	}
	return Share{}, false
}

// Put stores a share in every tree, or says which anchor is dead. The share that
// any tree has already is the one that counts and is returned. After [ErrTwoShares] the
// id stays without one: whoever knows that nothing can be under either of them erases it,
// commits, and puts again.
func (s *Set) Put(ctx context.Context, id ShareID, share Share) (Share, error) {
	trees, err := s.trees()
	if err != nil {
		return Share{}, err
	}
	if have, ok := known(trees, id); ok {
		share = have
	}
	// One after the other: the first decides between concurrent puts.
	for i, t := range trees {
		stored, err := t.Put(ctx, id, share)
		if err != nil {
			return Share{}, fmt.Errorf("anchor %s: %w", t.cfg.ID, err)
		}
		if i > 0 && stored != share {
			return Share{}, fmt.Errorf("anchor %s: %w for %s", t.cfg.ID, ErrTwoShares, id)
		}
		share = stored
	}
	if len(trees) == 0 {
		return Share{}, errors.New("anchor: the set has none")
	}
	return share, nil
}

// known looks in every tree, and in what commits under way add.
func known(trees []*Tree, id ShareID) (Share, bool) {
	for _, t := range trees {
		if share, ok := t.known(id); ok {
			return share, true
		}
	}
	return Share{}, false
}

// AddShares has the next Commit write shares of ids that have none, in every tree and
// however many they are with one anchor write each: see [Tree.Add]. Where a tree has
// one already the others get that one. fresh makes the bytes.
func (s *Set) AddShares(ids []ShareID, fresh func() Share) error {
	s.add.Lock()
	defer s.add.Unlock()
	trees, err := s.trees()
	if err != nil {
		return err
	}
	for _, id := range ids {
		share, ok := known(trees, id)
		if !ok {
			share = fresh()
		}
		for _, t := range trees {
			if err := t.Add(id, share); err != nil {
				return err
			}
		}
		clear(share[:])
	}
	return nil
}

// Unfinished says that a commit of some tree was cut short; see [Tree.Unfinished].
func (s *Set) Unfinished() bool {
	trees, _ := s.trees()
	return slices.ContainsFunc(trees, (*Tree).Unfinished)
}

// SetVersion makes later commits of every tree use another shielding key.
func (s *Set) SetVersion(version uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		m.cfg.Version = max(m.cfg.Version, version)
		if m.tree != nil {
			m.tree.SetVersion(version)
		}
	}
}

// Version is the highest wrap version that any tree uses.
func (s *Set) Version() (version uint32) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, m := range s.members {
		version = max(version, m.cfg.Version)
		if m.tree != nil {
			version = max(version, m.tree.Version())
		}
	}
	return version
}

// IDs visits every share that any tree holds, some more than once.
func (s *Set) IDs() iter.Seq[ShareID] {
	return func(yield func(ShareID) bool) {
		trees, _ := s.trees()
		for _, t := range trees {
			for id := range t.IDs() {
				if !yield(id) {
					return
				}
			}
		}
	}
}

// Fill copies every live share that a tree lacks from one that has it.
func (s *Set) Fill(ctx context.Context) error {
	trees, err := s.trees()
	if err != nil {
		return err
	}
	for _, t := range trees {
		var lacking []ShareID
		err := t.cfg.Live(ctx, func(id ShareID) error {
			if !t.shares.has(id) {
				lacking = append(lacking, id)
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = each(ctx, len(lacking), func(ctx context.Context, i int) error {
			share, ok := s.Get(lacking[i])
			if !ok {
				return fmt.Errorf("%w: %s: no anchor has it", ErrMissing, lacking[i])
			}
			defer clear(share[:])
			return t.fill(ctx, lacking[i], share)
		})
		if err != nil {
			return fmt.Errorf("anchor %s: %w", t.cfg.ID, err)
		}
	}
	return nil
}

// Erase marks shares in every open tree. After a dead anchor opens again, mark
// them again: Erased says for which anchors.
func (s *Set) Erase(ids ...ShareID) {
	trees, _ := s.trees()
	for _, t := range trees {
		t.Erase(ids...)
	}
}

// Commit commits every open tree. An error names each anchor where erasing is not
// complete, dead ones included.
func (s *Set) Commit(ctx context.Context) error {
	trees, err := s.trees()
	errs := []error{err}
	for _, t := range trees {
		if err := t.Commit(ctx); err != nil {
			errs = append(errs, fmt.Errorf("anchor %s: %w", t.cfg.ID, err))
		}
	}
	return errors.Join(errs...)
}

// Erased says per anchor whether it has erased the epoch: each keeper signs
// DestroyEpoch only for an anchor that is true here.
func (s *Set) Erased(user agentkeys.Wallet, epoch agentkeys.Epoch) map[AnchorID]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	erased := make(map[AnchorID]bool, len(s.members))
	for _, m := range s.members {
		erased[m.cfg.ID] = m.tree != nil && m.tree.Erased(user, epoch)
	}
	return erased
}

// trees gives the open trees and an error that names the dead anchors.
func (s *Set) trees() ([]*Tree, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var trees []*Tree
	var errs []error
	for _, m := range s.members {
		if m.tree == nil {
			errs = append(errs, fmt.Errorf("anchor %s: not open: open it again or evict it", m.cfg.ID))
			continue
		}
		trees = append(trees, m.tree)
	}
	return trees, errors.Join(errs...)
}
