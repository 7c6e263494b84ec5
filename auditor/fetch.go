package auditor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
)

// ErrYoung means that the chain has too few blocks to prove the beginning.
var ErrYoung = errors.New("verify: the chain is too young; wait for block 4")

// minHeight leaves room for the early state and one after it.
const minHeight = 4

// Progress is told what is being fetched, for people.
type Progress func(what string, done, of int)

// Fetch collects a bundle from a node: every block from the first to the newest, and
// proofs of every row that the statements ever wrote. What it gets is checked by
// [Verify] alone. Records are the owner's, see [Bundle.AddRecords].
func Fetch(ctx context.Context, node *ledger.Node, chainID string, vault agentkeys.VaultID, progress Progress) (*Bundle, error) {
	if progress == nil {
		progress = func(string, int, int) {}
	}
	status, err := node.Status(ctx)
	if err != nil {
		return nil, err
	}
	if status.ChainID != chainID {
		return nil, fmt.Errorf("verify: the node follows chain %q, the profile names %q", status.ChainID, chainID)
	}
	if status.Height < minHeight {
		return nil, ErrYoung
	}
	b := &Bundle{Format: Format, ChainID: chainID, EarlyHeight: 2, StateHeight: status.Height - 1}
	for h := uint64(1); h <= status.Height; h++ {
		block, err := fetchBlock(ctx, node, h, h == status.Height)
		if err != nil {
			return nil, err
		}
		b.Blocks = append(b.Blocks, block)
		progress("blocks", int(h), int(status.Height))
	}
	if b.Early, err = fetchRows(ctx, node, earlyKeys(), b.EarlyHeight, nil); err != nil {
		return nil, err
	}
	keys, err := rowKeys(ctx, node, b, vault)
	if err != nil {
		return nil, err
	}
	b.Rows, err = fetchRows(ctx, node, keys, b.StateHeight, progress)
	return b, err
}

func fetchBlock(ctx context.Context, node *ledger.Node, height uint64, newest bool) (Block, error) {
	light, err := node.LightBlock(ctx, height)
	if err != nil {
		return Block{}, err
	}
	full, err := node.Block(ctx, height)
	if err != nil {
		return Block{}, err
	}
	b := Block{Header: light.Header, Commit: light.Commit, Validators: light.Validators.Members(), Txs: full.Txs}
	if newest || len(full.Txs) == 0 {
		return b, nil
	}
	if b.Results, err = node.BlockResults(ctx, height); err != nil {
		return Block{}, err
	}
	for i := range b.Results { // in no hash, and not the same on every node
		b.Results[i].Log, b.Results[i].Codespace = "", ""
	}
	return b, nil
}

// rowKeys are the keys that the statements wrote, and those that the node lists
// beside them: a row that no statement made must show.
func rowKeys(ctx context.Context, node *ledger.Node, b *Bundle, vault agentkeys.VaultID) ([][]byte, error) {
	r, err := run(b, b.Blocks, vault)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	keys := r.wanted()
	var after []byte
	for {
		users, more, err := node.Users(ctx, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, u := range users {
			rows, err := node.AllUserRows(ctx, u)
			if err != nil {
				return nil, err
			}
			for _, row := range rows {
				keys = append(keys, row.Key)
			}
			after = bytes.Clone(u[:])
		}
		if !more || len(users) == 0 {
			break
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal), nil
}

func fetchRows(ctx context.Context, node *ledger.Node, keys [][]byte, height uint64, progress Progress) ([]Row, error) {
	rows := make([]Row, 0, len(keys))
	for i, key := range keys {
		a, err := node.Query(ctx, "/store/"+storeName+"/key", key, height, true)
		if err != nil {
			return nil, err
		}
		if a.Code != 0 || a.Proof == nil {
			return nil, fmt.Errorf("verify: the node does not prove %s after block %d: code %d: %s", rowName(key), height, a.Code, a.Log)
		}
		rows = append(rows, Row{key, a.Value, *a.Proof})
		if progress != nil {
			progress("proofs", i+1, len(keys))
		}
	}
	return rows, nil
}

// AddRecords puts the owner's read records into the bundle. They must be listed after
// Fetch: those that no block of the bundle has yet are told apart.
func (b *Bundle) AddRecords(records [][]byte) { b.Records = append(b.Records, records...) }
