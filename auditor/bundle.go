package auditor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"example.org/agentkeys/ledger"
)

// Format names the version of the file.
const Format = "agentkeys-bundle/1"

// MaxBundle is the largest file that is read, in bytes.
const MaxBundle = 256 << 20

// Bundle is everything that a verification needs, as the node gave it: nothing in it
// is believed. Its file is JSON with bytes in base64; the same content always has the
// same bytes.
type Bundle struct {
	Format  string `json:"format"`
	ChainID string `json:"chain_id"`
	// Blocks from height 1 to one above StateHeight. A second block of a height is
	// evidence of a fork.
	Blocks []Block `json:"blocks"`
	// Early are the rows of the vault's beginning, proven after block EarlyHeight.
	EarlyHeight uint64 `json:"early_height"`
	Early       []Row  `json:"early"`
	// Rows are proven after block StateHeight.
	StateHeight uint64 `json:"state_height"`
	Rows        []Row  `json:"rows"`
	// Records are read records that the owner brings, sorted by sequence.
	Records [][]byte `json:"records,omitempty"`
}

// Block is a header, what makes it final, and what was in it. The newest block has no
// results: they are proven by the one after it.
type Block struct {
	Header     ledger.Header      `json:"header"`
	Commit     ledger.Commit      `json:"commit"`
	Validators []ledger.Validator `json:"validators"`
	Txs        [][]byte           `json:"txs,omitempty"`
	Results    []ledger.TxResult  `json:"results,omitempty"`
}

// Row is a row and its proof; without a value the proof is one of absence.
type Row struct {
	Key   []byte       `json:"key"`
	Value []byte       `json:"value,omitempty"`
	Proof ledger.Proof `json:"proof"`
}

// Encode gives the file.
func (b *Bundle) Encode() ([]byte, error) {
	out, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if len(out) >= MaxBundle {
		return nil, fmt.Errorf("bundle: over %d bytes", MaxBundle)
	}
	return append(out, '\n'), nil
}

// Read reads a file; unknown fields and anything after the object are refused.
func Read(r io.Reader) (*Bundle, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxBundle+1))
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if len(raw) > MaxBundle {
		return nil, fmt.Errorf("bundle: over %d bytes", MaxBundle)
	}
	return Parse(raw)
}

// Parse reads what Encode wrote.
func Parse(raw []byte) (*Bundle, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	b := new(Bundle)
	if err := d.Decode(b); err != nil {
		return nil, fmt.Errorf("bundle: damaged: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("bundle: damaged: something follows it")
	}
	if b.Format != Format {
		return nil, fmt.Errorf("bundle: format %q, this program reads %q", b.Format, Format)
	}
	return b, nil
}

// light puts the checked validator set to header and commit.
func (b *Block) light() (*ledger.LightBlock, error) {
	set, err := ledger.NewValidators(b.Validators)
	if err != nil {
		return nil, err
	}
	return &ledger.LightBlock{Header: b.Header, Commit: b.Commit, Validators: set}, nil
}
