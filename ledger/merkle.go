package ledger

import (
	"crypto/sha256"
	"math/bits"
)

// merkleRoot is the RFC 6962 root over the items: SHA-256, leaves prefixed 0x00,
// inner nodes 0x01, split at the largest power of two below the count.
func merkleRoot(items [][]byte) [32]byte {
	switch len(items) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return merkleLeaf(items[0])
	}
	split := 1 << (bits.Len(uint(len(items)-1)) - 1)
	return merkleInner(merkleRoot(items[:split]), merkleRoot(items[split:]))
}

func merkleLeaf(item []byte) [32]byte {
	b := make([]byte, 0, 256)
	return sha256.Sum256(append(append(b, 0), item...))
}

func merkleInner(left, right [32]byte) [32]byte {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// TxsHash is the data hash of a header whose block holds exactly these transactions.
func TxsHash(txs [][]byte) [32]byte {
	leaves := make([][]byte, len(txs))
	for i, tx := range txs {
		h := sha256.Sum256(tx)
		leaves[i] = h[:]
	}
	return merkleRoot(leaves)
}

// ResultsHash is the last results hash of the header after a block whose transactions
// had these results. It covers code, data and gas, not log and codespace.
func ResultsHash(results []TxResult) [32]byte {
	leaves := make([][]byte, len(results))
	for i, r := range results {
		b := appendUint(nil, 1, uint64(r.Code))
		b = appendBytes(b, 2, r.Data)
		b = appendUint(b, 5, uint64(r.GasWanted))
		leaves[i] = appendUint(b, 6, uint64(r.GasUsed))
	}
	return merkleRoot(leaves)
}
