package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// validatorsPage is the largest page the RPC gives.
const validatorsPage = 100

type validatorsResult struct {
	Height     uint64         `json:"block_height,string"`
	Validators []rpcValidator `json:"validators"`
	Count      int            `json:"count,string"`
	Total      int            `json:"total,string"`
}

type rpcValidator struct {
	Validator
	Priority string `json:"proposer_priority"`
}

// Validators asks for the set that signs the block at height.
func (n *Node) Validators(ctx context.Context, height uint64) (*Validators, error) {
	var all validatorsResult
	for page := 1; ; page++ {
		params := heightParam(height)
		params["page"], params["per_page"] = fmt.Sprint(page), fmt.Sprint(validatorsPage)
		var r validatorsResult
		if err := n.call(ctx, "validators", params, maxAnswer, true, &r); err != nil {
			return nil, err
		}
		if height != 0 && r.Height != height || r.Total > MaxValidators || len(r.Validators) == 0 {
			return nil, errors.New("node: validators: not the set asked for, or too large")
		}
		all.Validators = append(all.Validators, r.Validators...)
		if len(all.Validators) >= r.Total {
			return all.set()
		}
	}
}

func (r *validatorsResult) set() (*Validators, error) {
	members := make([]Validator, len(r.Validators))
	for i, v := range r.Validators {
		members[i] = v.Validator
	}
	return NewValidators(members)
}

// LightBlock asks for header, commit and validators of one height; 0 is the newest.
func (n *Node) LightBlock(ctx context.Context, height uint64) (*LightBlock, error) {
	signed, err := n.Commit(ctx, height)
	if err != nil {
		return nil, err
	}
	set, err := n.Validators(ctx, signed.Header.Height)
	if err != nil {
		return nil, err
	}
	return &LightBlock{signed.Header, signed.Commit, set}, nil
}

// Block is a header and the raw transactions under it. The transactions are those of
// the header only if [TxsHash] of them is its data hash.
type Block struct {
	Header Header
	Txs    [][]byte
}

// Block asks for a block; height 0 is the newest.
func (n *Node) Block(ctx context.Context, height uint64) (Block, error) {
	var r struct {
		Block struct {
			Header Header `json:"header"`
			Data   struct {
				Txs [][]byte `json:"txs"`
			} `json:"data"`
		} `json:"block"`
	}
	err := n.call(ctx, "block", heightParam(height), maxBlock, false, &r)
	if err == nil && height != 0 && r.Block.Header.Height != height {
		err = errors.New("node: block: another height than asked for")
	}
	return Block{r.Block.Header, r.Block.Data.Txs}, err
}

// TxResult is what one transaction did. Code 0 is success. [ResultsHash] over a block's
// results is the last results hash of the next header; Log is in no hash.
type TxResult struct {
	Code      uint32 `json:"code"`
	Codespace string `json:"codespace"`
	Log       string `json:"log"`
	Data      []byte `json:"data"`
	GasWanted int64  `json:"gas_wanted,string"`
	GasUsed   int64  `json:"gas_used,string"`
}

// BlockResults asks what the transactions of a block did, in the block's order.
func (n *Node) BlockResults(ctx context.Context, height uint64) ([]TxResult, error) {
	var r struct {
		Height  uint64     `json:"height,string"`
		Results []TxResult `json:"txs_results"`
	}
	err := n.call(ctx, "block_results", heightParam(height), maxResults, false, &r)
	if err == nil && height != 0 && r.Height != height {
		err = errors.New("node: block_results: another height than asked for")
	}
	return r.Results, err
}

// Broadcast is the node's opinion of a transaction before it is in a block.
type Broadcast struct {
	Code      uint32 `json:"code"`
	Codespace string `json:"codespace"`
	Log       string `json:"log"`
	Hash      Hex    `json:"hash"`
}

// BroadcastTxSync hands a transaction to the node and waits for its check. The same
// bytes may be sent again: the node answers that it has them.
func (n *Node) BroadcastTxSync(ctx context.Context, tx []byte) (Broadcast, error) {
	var r struct {
		Broadcast
		Data json.RawMessage `json:"data"`
	}
	err := n.call(ctx, "broadcast_tx_sync", map[string]any{"tx": tx}, maxAnswer, false, &r)
	return r.Broadcast, err
}
