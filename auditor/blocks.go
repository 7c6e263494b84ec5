package auditor

import (
	"bytes"

	"example.org/agentkeys/ledger"
)

// blocks ties transactions and results to the headers.
func (v *verifier) blocks() {
	var txs, results findings
	n := 0
	for i, b := range v.chain {
		if hash := ledger.TxsHash(b.Txs); !bytes.Equal(b.Header.DataHash, hash[:]) {
			txs.add("block %d: its %d transactions are not those of its header: a statement is missing, added or altered", i+1, len(b.Txs))
		}
		n += len(b.Txs)
		if i+1 == len(v.chain) {
			continue
		}
		hash := ledger.ResultsHash(b.Results)
		if !bytes.Equal(v.chain[i+1].Header.LastResultsHash, hash[:]) || len(b.Results) != len(b.Txs) {
			results.add("block %d: its results are not those that header %d names: a code or answer is missing or altered", i+1, i+2)
		}
	}
	v.report.check("transactions", Proved, txs, "%d transactions are exactly those of their headers", n)
	v.report.check("results", Proved, results, "what each transaction did is what the next header says")
}
