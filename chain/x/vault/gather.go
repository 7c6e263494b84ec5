package vault

import (
	"context"
	"encoding/binary"
	"fmt"

	"cosmossdk.io/core/store"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
)

// MaxTouched is the most users that a Touched row names; above, it says "all".
const MaxTouched = 4096

// gatherer keeps what accepted statements of the current block have in common:
// how many there were and whom they touched. The transient store is rolled back
// with a failed transaction and empty at the start of every block.
type gatherer struct{ store store.TransientStoreService }

// Keys of the transient store; a user's address follows usersFrom.
const (
	positionKey = "\x00"
	allKey      = "\x01"
	usersFrom   = "\x02"
	usersTo     = "\x03"
)

// position is the number of statements and acts accepted so far in the block.
func (g gatherer) position(ctx context.Context) (uint32, error) {
	b, err := g.store.OpenTransientStore(ctx).Get([]byte(positionKey))
	if err != nil || b == nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// note records that the statement at position was accepted.
func (g gatherer) note(ctx context.Context, position uint32, r rules.Result) error {
	kv := g.store.OpenTransientStore(ctx)
	if err := kv.Set([]byte(positionKey), binary.BigEndian.AppendUint32(nil, position+1)); err != nil {
		return err
	}
	if r.All || r.System {
		return kv.Set([]byte(allKey), []byte{1})
	}
	for _, u := range r.Users {
		if err := kv.Set(append([]byte(usersFrom), u[:]...), []byte{1}); err != nil {
			return err
		}
	}
	return nil
}

// touched gives the users of the block in ascending order, or all.
func (g gatherer) touched(ctx context.Context) (users []agentkeys.Wallet, all bool, err error) {
	kv := g.store.OpenTransientStore(ctx)
	if all, err = kv.Has([]byte(allKey)); err != nil || all {
		return nil, all, err
	}
	it, err := kv.Iterator([]byte(usersFrom), []byte(usersTo))
	if err != nil {
		return nil, false, fmt.Errorf("touched: %w", err)
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		if len(users) == MaxTouched {
			return nil, true, nil
		}
		users = append(users, agentkeys.Wallet(it.Key()[1:]))
	}
	return users, false, it.Error()
}
