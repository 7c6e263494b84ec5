package auditor_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/auditor"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
)

const (
	chainID = "audited-1"
	early   = 2
)

// chain makes a bundle from a vault's history: real headers, votes, trees and proofs
// of one validator. Its validator signs what it is told, lies too.
type chain struct {
	t      *testing.T
	key    ed25519.PrivateKey
	payer  *ledger.Signer
	vault  *rulestest.Vault
	lies   []rulestest.Entry // answered ok though the rules refuse them
	states []map[string][]byte
}

func newChain(t *testing.T, v *rulestest.Vault) *chain {
	t.Helper()
	seed := sha256.Sum256([]byte("validator"))
	payer, err := ledger.NewSigner(agentkeys.NewSecret(slices.Clone(seed[:])))
	if err != nil {
		t.Fatal(err)
	}
	return &chain{t: t, key: ed25519.NewKeyFromSeed(seed[:]), payer: payer, vault: v}
}

// end ends the vault's block and keeps the state after it.
func (c *chain) end() {
	c.t.Helper()
	if err := c.vault.NextBlock(5); err != nil {
		c.t.Fatal(err)
	}
	c.snapshot()
}

func (c *chain) snapshot() { c.states = append(c.states, maps.Clone(c.vault.KV)) }

func (c *chain) must(b []byte, err error) []byte {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// txs gives one transaction and its result for each statement of a block.
func (c *chain) txs(height uint64) (txs [][]byte, results []ledger.TxResult) {
	for _, e := range slices.Concat(c.vault.History, c.lies) {
		if e.Block.Height != height {
			continue
		}
		url, submit := ledger.MsgSubmit, c.payer.Submit
		if e.Act {
			url, submit = ledger.MsgAuthority, c.payer.Authority
		}
		terms := ledger.Terms{ChainID: chainID, Sequence: uint64(len(txs)), Gas: 1}
		txs = append(txs, c.must(submit(terms, [][]byte{e.Wire})))
		answer := field(nil, 1, nil) // one result of zero values: ok
		data := field(nil, 2, field(field(nil, 1, []byte(url+"Response")), 2, answer))
		results = append(results, ledger.TxResult{Data: data, GasWanted: 1, GasUsed: 1})
	}
	return txs, results
}

// bundle makes blocks 1 to one above the newest state, and all proofs.
func (c *chain) bundle(records ...[]byte) *auditor.Bundle {
	state := uint64(len(c.states))
	b := &auditor.Bundle{Format: auditor.Format, ChainID: chainID, EarlyHeight: early, StateHeight: state, Records: records}
	var last []ledger.TxResult
	for h := uint64(1); h <= state+1; h++ {
		txs, results := c.txs(h)
		block := auditor.Block{Txs: txs, Results: results}
		block.Header = c.header(h, b.Blocks, txs, last)
		c.sign(&block)
		b.Blocks = append(b.Blocks, block)
		last = results
	}
	for _, k := range [][]byte{rules.ParamsKey(), rules.VaultKey(), rules.SystemKey()} {
		b.Early = append(b.Early, c.row(early, k))
	}
	for _, k := range slices.Sorted(maps.Keys(c.states[state-1])) {
		if len(k) != len(rules.TouchedKey(0)) {
			b.Rows = append(b.Rows, c.row(state, []byte(k)))
		}
	}
	return b
}

func (c *chain) header(h uint64, blocks []auditor.Block, txs [][]byte, last []ledger.TxResult) ledger.Header {
	empty, data, results, set := sha256.Sum256(nil), ledger.TxsHash(txs), ledger.ResultsHash(last), c.set()
	vals := set.Hash()
	head := ledger.Header{Version: ledger.Version{Block: 11}, ChainID: chainID, Height: h, Time: c.time(h), LastCommitHash: empty[:],
		DataHash: data[:], ValidatorsHash: vals[:], NextValidatorsHash: vals[:], ConsensusHash: empty[:], AppHash: empty[:],
		LastResultsHash: results[:], EvidenceHash: empty[:], ProposerAddress: set.Members()[0].Address}
	if h > 1 {
		head.LastBlockID = blocks[h-2].Commit.BlockID
		head.AppHash = storesRoot(tree(c.states[h-2]).hash)
	}
	return head
}

// time is the vault's block time; the newest block has no statement to tell it.
func (c *chain) time(h uint64) time.Time {
	at := uint64(1_000_000) + 5*(h-1)
	for _, e := range c.vault.History {
		if e.Block.Height == h {
			at = e.Block.Time
		}
	}
	return time.Unix(int64(at), 500_000_000).UTC()
}

func (c *chain) set() *ledger.Validators {
	pub := c.key.Public().(ed25519.PublicKey)
	address := sha256.Sum256(pub)
	set, err := ledger.NewValidators([]ledger.Validator{{Address: address[:20], Key: ledger.PublicKey{Type: "tendermint/PubKeyEd25519", Value: pub}, Power: 10}})
	if err != nil {
		c.t.Fatal(err)
	}
	return set
}

// sign votes for the block's header.
func (c *chain) sign(b *auditor.Block) {
	hash, parts := b.Header.Hash(), sha256.Sum256(b.Header.DataHash)
	id := ledger.BlockID{Hash: hash[:], Parts: ledger.PartsHeader{Total: 1, Hash: parts[:]}}
	when := number(number(nil, 1, uint64(b.Header.Time.Unix())), 2, uint64(b.Header.Time.Nanosecond()))
	vote := number(nil, 1, 2)
	vote = binary.LittleEndian.AppendUint64(append(vote, 2<<3|1), b.Header.Height)
	vote = field(vote, 4, field(field(nil, 1, hash[:]), 2, field(number(nil, 1, 1), 2, parts[:])))
	vote = field(field(vote, 5, when), 6, []byte(chainID))
	vote = append(binary.AppendUvarint(nil, uint64(len(vote))), vote...)
	b.Validators = c.set().Members()
	b.Commit = ledger.Commit{Height: b.Header.Height, BlockID: id, Signatures: []ledger.CommitSig{{Flag: 2, Address: b.Validators[0].Address,
		Time: b.Header.Time, Signature: ed25519.Sign(c.key, vote)}}}
}

func (c *chain) row(height uint64, key []byte) auditor.Row {
	state := c.states[height-1]
	n := tree(state)
	return auditor.Row{Key: key, Value: state[string(key)], Proof: ledger.Proof{Ops: []ledger.ProofOp{
		{Type: "ics23:iavl", Key: key, Data: n.prove(key)}, {Type: "ics23:simple", Key: []byte("vault"), Data: storesProof(n.hash)}}}}
}

// field writes a length-delimited protobuf field, number a varint one.
func field(b []byte, id int, v []byte) []byte {
	b = binary.AppendUvarint(append(b, byte(id<<3|2)), uint64(len(v)))
	return append(b, v...)
}

func number(b []byte, id int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, byte(id<<3)), v)
}
