package vault

import (
	"context"
	"encoding/binary"

	"cosmossdk.io/core/store"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
)

// gatherer keeps what accepted statements of the current block have in common:
// how many there were and whom they touched. The transient store is rolled back
// with a failed transaction and empty at the start of every block.
type gatherer struct{ store store.TransientStoreService }

// Keys of the transient store; a user's address follows usersFrom.
const (
	positionKey = "\x00"
	allKey      = "\x01"
	systemKey   = "\x02"
	usersFrom   = "\x03"
	usersTo     = "\x04"
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
	if key := scopeKey(r.Scope); key != "" {
		if err := kv.Set([]byte(key), []byte{1}); err != nil {
			return err
		}
	}
	for _, u := range r.Users {
		if err := kv.Set(append([]byte(usersFrom), u[:]...), []byte{1}); err != nil {
			return err
		}
	}
	return nil
}

// scopeKey is where a statement's scope is noted; one that reaches only its users
// needs no note.
func scopeKey(scope uint8) string {
	switch scope {
	case rules.TouchedAll:
		return allKey
	case rules.TouchedSystem:
		return systemKey
	}
	return ""
}

// touched gives the users of the block in ascending order and the widest scope of
// its statements. It stops at one user more than a Touched row may name.
func (g gatherer) touched(ctx context.Context) (users []agentkeys.Wallet, scope uint8, err error) {
	kv := g.store.OpenTransientStore(ctx)
	if all, err := kv.Has([]byte(allKey)); err != nil || all {
		return nil, rules.TouchedAll, err
	}
	scope = rules.TouchedUsers
	if system, err := kv.Has([]byte(systemKey)); err != nil {
		return nil, scope, err
	} else if system {
		scope = rules.TouchedSystem
	}
	it, err := kv.Iterator([]byte(usersFrom), []byte(usersTo))
	if err != nil {
		return nil, scope, err
	}
	defer it.Close()
	for ; it.Valid() && len(users) <= rules.MaxTouched; it.Next() {
		users = append(users, agentkeys.Wallet(it.Key()[1:]))
	}
	return users, scope, nil
}
