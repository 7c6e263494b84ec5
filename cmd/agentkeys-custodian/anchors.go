package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"example.org/agentkeys/custodian"
	"example.org/agentkeys/erasure"
)

// anchorFlag is one --anchor: which anchor the chain knows by an id, and where its root
// lies.
type anchorFlag struct {
	id  erasure.AnchorID
	dir string
}

// anchorFlags are the anchors of one custodian, in the order in which shares are put.
type anchorFlags []anchorFlag

func (f *anchorFlags) String() string {
	var all []string
	for _, a := range *f {
		all = append(all, fmt.Sprintf("%s=file:%s", a.id, a.dir))
	}
	return strings.Join(all, ",")
}

// Set takes one anchor, or several with commas between them, as the environment has them.
func (f *anchorFlags) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		id, where, _ := strings.Cut(one, "=")
		b, err := hex.DecodeString(id)
		if err != nil || len(b) != len(erasure.AnchorID{}) {
			return errors.New("want ID=file:DIR with an id of 32 hex digits")
		}
		kind, dir, _ := strings.Cut(where, ":")
		if kind != "file" || dir == "" {
			return fmt.Errorf("this build has anchors of kind file only: want %s=file:DIR", id)
		}
		a := anchorFlag{erasure.AnchorID(b), dir}
		for _, other := range *f {
			if other.id == a.id || other.dir == a.dir {
				return errors.New("two anchors with one id or one directory are one anchor")
			}
		}
		*f = append(*f, a)
	}
	return nil
}

// open gives the anchors, and in one sentence what they do not withstand.
func (f anchorFlags) open() (kept []custodian.KeptAnchor, limit string) {
	for _, a := range f {
		kept, limit = append(kept, custodian.KeptAnchor{ID: a.id, Anchor: &lateAnchor{dir: a.dir}}), (&erasure.FileAnchor{}).Limit()
	}
	return kept, limit
}

// lateAnchor opens its place at each use until it can: an anchor that is away at the start
// must not keep the others from being read.
type lateAnchor struct {
	dir string

	mu     sync.Mutex
	opened *erasure.FileAnchor
}

func (l *lateAnchor) get() (*erasure.FileAnchor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened != nil {
		return l.opened, nil
	}
	a, err := erasure.NewFileAnchor(l.dir)
	if err == nil {
		l.opened = a
	}
	return a, err
}

func (l *lateAnchor) Roots(ctx context.Context) ([]erasure.Root, error) {
	a, err := l.get()
	if err != nil {
		return nil, err
	}
	return a.Roots(ctx)
}

func (l *lateAnchor) Stage(ctx context.Context, root erasure.Root) error {
	a, err := l.get()
	if err != nil {
		return err
	}
	return a.Stage(ctx, root)
}

func (l *lateAnchor) Destroy(ctx context.Context, root erasure.Root) error {
	a, err := l.get()
	if err != nil {
		return err
	}
	return a.Destroy(ctx, root)
}
