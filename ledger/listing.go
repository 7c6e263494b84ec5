package ledger

import (
	"context"
	"fmt"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
)

// Listings are the node's word, without proof: which keys exist is a hint, what they
// hold is read with proofs, and that none is missing follows from proven counts.

// Users lists up to limit enrolled users after one, in the order of their address.
func (n *Node) Users(ctx context.Context, after []byte, limit int) (users []agentkeys.Wallet, more bool, err error) {
	q := appendUint(appendMessage(nil, 1, after), 2, uint64(limit))
	err = n.list(ctx, "/agentkeys.vault.v1.Query/Users", q, func(item []byte) error {
		if len(item) != 20 {
			return errWire
		}
		users = append(users, agentkeys.Wallet(item))
		return nil
	}, &more)
	return users, more, err
}

// UserRows lists up to limit rows of one user after a key.
func (n *Node) UserRows(ctx context.Context, user agentkeys.Wallet, after []byte, limit int) (rows []rules.Row, more bool, err error) {
	q := appendUint(appendMessage(appendMessage(nil, 1, user[:]), 2, after), 3, uint64(limit))
	err = n.list(ctx, "/agentkeys.vault.v1.Query/UserRows", q, func(item []byte) error {
		var row rules.Row
		err := fields(item, map[int]int{1: wireBytes, 2: wireBytes}, 0, func(f wireField) error {
			if f.id == 1 {
				row.Key = f.data
			} else {
				row.Value = f.data
			}
			return nil
		})
		rows = append(rows, row)
		return err
	}, &more)
	return rows, more, err
}

// AllUserRows lists every row of one user.
func (n *Node) AllUserRows(ctx context.Context, user agentkeys.Wallet) (all []rules.Row, err error) {
	var after []byte
	for {
		rows, more, err := n.UserRows(ctx, user, after, 1000)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
		if !more || len(rows) == 0 {
			return all, nil
		}
		after = rows[len(rows)-1].Key
	}
}

// list reads an answer of {repeated items 1, more 2}.
func (n *Node) list(ctx context.Context, path string, query []byte, item func([]byte) error, more *bool) error {
	a, err := n.Query(ctx, path, query, 0, false)
	if err != nil {
		return err
	}
	if a.Code != 0 {
		return fmt.Errorf("node: %s: code %d: %s", path, a.Code, a.Log)
	}
	return fields(a.Value, map[int]int{1: wireBytes, 2: wireVarint}, 1, func(f wireField) error {
		if f.id == 2 {
			*more = f.num == 1
			return nil
		}
		return item(f.data)
	})
}
