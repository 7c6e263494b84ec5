package custodian

import (
	"context"
	"fmt"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
)

// NodeLister asks a node which rows exist. Its word is a hint.
type NodeLister struct{ Node *ledger.Node }

// Keys lists the keys of one kind: all users, or rows of one user.
func (l NodeLister) Keys(ctx context.Context, prefix []byte) ([][]byte, error) {
	if string(prefix) == string(rules.UsersPrefix()) {
		return l.users(ctx)
	}
	user, ok := rules.Owner(prefix)
	if !ok {
		return nil, fmt.Errorf("list: no such prefix %x", prefix)
	}
	rows, err := l.Node.AllUserRows(ctx, user)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, r := range rows {
		if len(r.Key) >= len(prefix) && string(r.Key[:len(prefix)]) == string(prefix) {
			keys = append(keys, r.Key)
		}
	}
	return keys, nil
}

func (l NodeLister) users(ctx context.Context) (keys [][]byte, err error) {
	var after []byte
	for {
		users, more, err := l.Node.Users(ctx, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, u := range users {
			keys = append(keys, rules.UserKey(u))
		}
		if !more || len(users) == 0 {
			return keys, nil
		}
		last := agentkeys.Wallet(users[len(users)-1])
		after = last[:]
	}
}
