package chain_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"
	ics23 "github.com/cosmos/ics23/go"

	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// proven is one answer of the application with everything a verdict rests on.
type proven struct {
	appHash, key, value []byte
	proof               ledger.Proof
}

func (p proven) clone() proven {
	out := proven{slices.Clone(p.appHash), slices.Clone(p.key), slices.Clone(p.value), ledger.Proof{}}
	for _, op := range p.proof.Ops {
		out.proof.Ops = append(out.proof.Ops, ledger.ProofOp{Type: op.Type, Key: slices.Clone(op.Key), Data: slices.Clone(op.Data)})
	}
	return out
}

// filled is a chain with some users; the app hash is that of its newest block.
func filled(t *testing.T) (*chaintest.Chain, []byte) {
	t.Helper()
	c := chaintest.New(t)
	var batch [][]byte
	for i := range 40 {
		key := rulestest.Wallet(fmt.Sprint("user ", i))
		wire, err := key.SignStatement(c.Vault, statement.Enrol{User: key.Wallet()})
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, wire)
	}
	for _, part := range [][][]byte{batch[:13], batch[13:]} { // versions differ from row to row
		c.Submit(part...)
	}
	return c, c.Block().AppHash
}

func prove(t *testing.T, c *chaintest.Chain, appHash, key []byte) proven {
	t.Helper()
	r, err := c.App.Query(t.Context(), &abci.RequestQuery{Path: "/store/vault/key", Data: key, Height: c.Height, Prove: true})
	if err != nil || r.Code != 0 {
		t.Fatal(err, r.GetLog())
	}
	p := proven{appHash: appHash, key: key, value: r.Value}
	for _, op := range r.ProofOps.Ops {
		p.proof.Ops = append(p.proof.Ops, ledger.ProofOp{Type: op.Type, Key: op.Key, Data: op.Data})
	}
	return p
}

// mine is the ledger's verdict.
func (p proven) mine() error {
	if len(p.value) == 0 {
		return ledger.VerifyAbsent(p.appHash, vault.StoreKey, p.key, p.proof)
	}
	return ledger.VerifyRow(p.appHash, vault.StoreKey, p.key, p.value, p.proof)
}

// reference is that of ICS23's own code.
func (p proven) reference() bool {
	var row, stores ics23.CommitmentProof
	if len(p.proof.Ops) != 2 || row.Unmarshal(p.proof.Ops[0].Data) != nil || stores.Unmarshal(p.proof.Ops[1].Data) != nil {
		return false
	}
	root, err := row.Calculate()
	if err != nil {
		return false
	}
	if len(p.value) == 0 {
		if !ics23.VerifyNonMembership(ics23.IavlSpec, root, &row, p.key) {
			return false
		}
	} else if !ics23.VerifyMembership(ics23.IavlSpec, root, &row, p.key, p.value) {
		return false
	}
	return ics23.VerifyMembership(ics23.TendermintSpec, p.appHash, &stores, []byte(vault.StoreKey), root)
}

func TestProofsAreNeverLaxerThanICS23(t *testing.T) {
	cases := 10_000
	if testing.Short() {
		cases = 2_000
	}
	c, appHash := filled(t)
	r := rand.New(rand.NewPCG(5, 6))
	var answers []proven
	rows := c.Genesis().Rows
	for _, row := range rows {
		answers = append(answers, prove(t, c, appHash, row.Key))
		for _, near := range [][]byte{append(slices.Clone(row.Key), 0), row.Key[:len(row.Key)-1], flipped(r, row.Key)} {
			if len(near) > 0 {
				answers = append(answers, prove(t, c, appHash, near))
			}
		}
	}
	for _, a := range answers {
		if err := a.mine(); err != nil || !a.reference() {
			t.Fatalf("sound proof of %x: ledger %v, ICS23 %v", a.key, err, a.reference())
		}
	}
	var both int
	for i := range cases {
		a := answers[r.IntN(len(answers))].clone()
		harmProof(r, &a, answers[r.IntN(len(answers))])
		if a.mine() != nil {
			continue
		}
		if !a.reference() {
			t.Fatalf("case %d: the ledger accepts %x = %x, ICS23 refuses", i, a.key, a.value)
		}
		both++
	}
	t.Logf("%d sound proofs; of %d broken ones %d changed nothing that counts", len(answers), cases, both)
}

func flipped(r *rand.Rand, b []byte) []byte {
	b = slices.Clone(b)
	flip(r, b)
	return b
}

// harmProof changes bits, or mixes two sound answers.
func harmProof(r *rand.Rand, a *proven, other proven) {
	switch r.IntN(8) {
	case 0:
		flip(r, a.key)
	case 1:
		flip(r, a.value)
	case 2:
		flip(r, a.appHash)
	case 3:
		flip(r, a.proof.Ops[1].Data)
	case 4:
		a.proof.Ops[0].Data = other.proof.Ops[0].Data
	case 5:
		a.key, a.proof.Ops[0].Key = other.key, other.key
	case 6:
		a.value = other.value
	default:
		flip(r, a.proof.Ops[0].Data)
	}
}

// A prover who may pick any two present keys as neighbours of an absent or present
// key convinces neither.
func TestNeighboursThatAreNoneProveNothing(t *testing.T) {
	c, appHash := filled(t)
	rows := c.Genesis().Rows
	exist := make([]*ics23.ExistenceProof, len(rows))
	var stores ledger.ProofOp
	for i, row := range rows {
		p := prove(t, c, appHash, row.Key)
		var outer ics23.CommitmentProof
		if err := outer.Unmarshal(p.proof.Ops[0].Data); err != nil {
			t.Fatal(err)
		}
		exist[i], stores = outer.GetExist(), p.proof.Ops[1]
	}
	sound := 0
	for i := range exist {
		for j := range exist {
			for _, key := range [][]byte{append(slices.Clone(rows[i].Key), 0), rows[j].Key, rows[(i+j)/2].Key} {
				a := proven{appHash: appHash, key: key, proof: ledger.Proof{Ops: []ledger.ProofOp{{Type: "ics23:iavl", Key: key}, stores}}}
				non := &ics23.NonExistenceProof{Key: key, Left: exist[i], Right: exist[j]}
				raw, err := (&ics23.CommitmentProof{Proof: &ics23.CommitmentProof_Nonexist{Nonexist: non}}).Marshal()
				if err != nil {
					t.Fatal(err)
				}
				a.proof.Ops[0].Data = raw
				present := slices.ContainsFunc(rows, func(r vault.Row) bool { return bytes.Equal(r.Key, key) })
				verdict := a.mine() == nil
				if verdict && (present || !a.reference()) {
					t.Fatalf("%x passes as absent between rows %d and %d", key, i, j)
				}
				if verdict {
					sound++
				}
			}
		}
	}
	// The last row of the rules stands before the settings, so every row has a right
	// neighbour but not all of them are among rows.
	if sound != len(rows)-1 {
		t.Fatalf("%d neighbours prove an absence, want %d", sound, len(rows)-1)
	}
}
