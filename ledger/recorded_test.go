package ledger

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Recorded answers of real nodes: testdata/one is a chain with one validator and 300
// rows in the store "vault", testdata/four one with four validators.

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func recordedSet(t testing.TB, chain string) *Validators {
	t.Helper()
	var r validatorsResult
	if err := decodeAnswer(recorded(t, chain+"/validators.json"), "validators", true, &r); err != nil {
		t.Fatal(err)
	}
	set, err := r.set()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func recordedBlock(t testing.TB, chain, name string) *LightBlock {
	t.Helper()
	var r commitResult
	if err := decodeAnswer(recorded(t, chain+"/commit_"+name+".json"), "commit", true, &r); err != nil {
		t.Fatal(err)
	}
	return &LightBlock{r.Signed.Header, r.Signed.Commit, recordedSet(t, chain)}
}

func recordedAnswer(t testing.TB, name string) Answer {
	t.Helper()
	var r struct{ Response Answer }
	if err := decodeAnswer(recorded(t, name), "abci_query", false, &r); err != nil {
		t.Fatal(err)
	}
	if r.Response.Proof == nil {
		t.Fatal("recorded answer has no proof")
	}
	return r.Response
}

func recordedRules(b *LightBlock) (Rules, time.Time) {
	r := Rules{ChainID: b.Header.ChainID, TrustingPeriod: time.Hour, ClockDrift: 10 * time.Second}
	return r, b.Header.Time.Add(time.Minute)
}

func clone[T any](t testing.TB, in T) (out T) {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
