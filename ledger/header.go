package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// blockProtocol is the only block version these rules know.
const blockProtocol = 11

// maxChainID is the longest chain id in bytes.
const maxChainID = 50

// Header is the header of one block. Its JSON is that of the node's RPC.
type Header struct {
	Version            Version   `json:"version"`
	ChainID            string    `json:"chain_id"`
	Height             uint64    `json:"height,string"`
	Time               time.Time `json:"time"`
	LastBlockID        BlockID   `json:"last_block_id"`
	LastCommitHash     Hex       `json:"last_commit_hash"`
	DataHash           Hex       `json:"data_hash"`
	ValidatorsHash     Hex       `json:"validators_hash"`
	NextValidatorsHash Hex       `json:"next_validators_hash"`
	ConsensusHash      Hex       `json:"consensus_hash"`
	AppHash            Hex       `json:"app_hash"`
	LastResultsHash    Hex       `json:"last_results_hash"`
	EvidenceHash       Hex       `json:"evidence_hash"`
	ProposerAddress    Hex       `json:"proposer_address"`
}

// Version numbers the block protocol and the application's.
type Version struct {
	Block uint64 `json:"block,string"`
	App   uint64 `json:"app,string,omitempty"`
}

// BlockID is the hash of a header and the root of the block's parts.
type BlockID struct {
	Hash  Hex         `json:"hash"`
	Parts PartsHeader `json:"parts"`
}

// PartsHeader is the number of parts of a block and their Merkle root.
type PartsHeader struct {
	Total uint32 `json:"total"`
	Hash  Hex    `json:"hash"`
}

// Hash is the Merkle root over the fourteen encoded fields, the hash that validators
// sign as part of the block id.
func (h *Header) Hash() [32]byte {
	return merkleRoot([][]byte{
		appendUint(appendUint(nil, 1, h.Version.Block), 2, h.Version.App),
		appendBytes(nil, 1, h.ChainID),
		appendUint(nil, 1, h.Height),
		appendTime(nil, h.Time),
		h.LastBlockID.append(nil),
		appendBytes(nil, 1, h.LastCommitHash),
		appendBytes(nil, 1, h.DataHash),
		appendBytes(nil, 1, h.ValidatorsHash),
		appendBytes(nil, 1, h.NextValidatorsHash),
		appendBytes(nil, 1, h.ConsensusHash),
		appendBytes(nil, 1, h.AppHash),
		appendBytes(nil, 1, h.LastResultsHash),
		appendBytes(nil, 1, h.EvidenceHash),
		appendBytes(nil, 1, h.ProposerAddress),
	})
}

// check holds the header against the rules that need no other header.
func (h *Header) check(chainID string) error {
	switch {
	case h.Version.Block != blockProtocol:
		return fmt.Errorf("header: block protocol %d, want %d", h.Version.Block, blockProtocol)
	case h.ChainID != chainID:
		return fmt.Errorf("header: chain id %q, want %q", h.ChainID, chainID)
	case h.Height == 0 || h.Height > math.MaxInt64:
		return errors.New("header: height out of range")
	case h.Time.Unix() <= 0:
		return errors.New("header: time out of range")
	case h.Height > 1 && h.LastBlockID.check() != nil:
		return errors.New("header: last block id malformed")
	case len(h.ProposerAddress) != 20:
		return errors.New("header: proposer address malformed")
	}
	// The application may choose any app hash; the multistore's has 32 bytes.
	for _, hash := range []Hex{h.LastCommitHash, h.DataHash, h.ValidatorsHash, h.NextValidatorsHash,
		h.ConsensusHash, h.AppHash, h.LastResultsHash, h.EvidenceHash} {
		if len(hash) != 32 {
			return errors.New("header: hash that is not 32 bytes")
		}
	}
	return nil
}

func (id BlockID) check() error {
	if len(id.Hash) != 32 || len(id.Parts.Hash) != 32 || id.Parts.Total == 0 {
		return errors.New("block id: malformed")
	}
	return nil
}

// append encodes BlockID and CanonicalBlockID alike: hash 1, parts 2 {total 1, hash 2}.
func (id BlockID) append(b []byte) []byte {
	b = appendBytes(b, 1, id.Hash)
	parts := appendUint(make([]byte, 0, 48), 1, uint64(id.Parts.Total))
	return appendMessage(b, 2, appendBytes(parts, 2, id.Parts.Hash))
}

// appendTime encodes google.protobuf.Timestamp: seconds 1, nanoseconds 2.
func appendTime(b []byte, t time.Time) []byte {
	b = appendUint(b, 1, uint64(t.Unix()))
	return appendUint(b, 2, uint64(t.Nanosecond()))
}

// appendDelimited puts the varint length of v before v.
func appendDelimited(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}
