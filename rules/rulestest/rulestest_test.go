package rulestest_test

import (
	"errors"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

func TestMapKVCopiesBothWays(t *testing.T) {
	kv, v := rulestest.MapKV{}, []byte{1}
	if err := kv.Set([]byte("k"), v); err != nil {
		t.Fatal(err)
	}
	v[0] = 2
	got, _ := kv.Get([]byte("k"))
	got[0] = 3
	if got, _ := kv.Get([]byte("k")); got[0] != 1 {
		t.Fatal("the store shares memory with its callers")
	}
	if got, err := kv.Get([]byte("absent")); got != nil || err != nil {
		t.Fatal(got, err)
	}
}

func TestLayerHoldsWritesBackUntilFlush(t *testing.T) {
	kv := rulestest.MapKV{"old": {1}, "gone": {2}}
	l := rulestest.NewLayer(kv)
	if err := errors.Join(l.Set([]byte("new"), []byte{3}), l.Set([]byte("old"), []byte{4}), l.Delete([]byte("gone"))); err != nil {
		t.Fatal(err)
	}
	if a, _ := l.Get([]byte("gone")); a != nil {
		t.Fatal("deleted, but there")
	}
	if b, _ := l.Get([]byte("old")); b[0] != 4 || kv["old"][0] != 1 || kv["new"] != nil || kv["gone"] == nil {
		t.Fatal("the layer leaks")
	}
	if err := l.Flush(); err != nil || kv["old"][0] != 4 || kv["new"][0] != 3 || kv["gone"] != nil {
		t.Fatal(err, kv)
	}
	if rows := kv.Rows(); len(rows) != 2 || string(rows[0].Key) != "new" {
		t.Fatalf("%v", rows)
	}
}

func TestVaultCountsPositionsAndWritesTouchedRowsOnlyOnChange(t *testing.T) {
	id := agentkeys.VaultID{1}
	v, err := rulestest.NewVault(id, statement.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	kit := rulestest.Kit{Vault: id, Custodian: rulestest.Process("c"), Rotator: rulestest.Process("r")}
	if err := kit.Found(v, statement.AnchorID{1}); err != nil || v.Block.Height != 2 || v.Block.Position != 0 {
		t.Fatal(err, v.Block)
	}
	k := rulestest.Wallet("alice")
	wire := kit.SignUser(k, statement.Enrol{User: k.Wallet()})
	for i, want := range []rules.Code{rules.OK, rules.AlreadyApplied} {
		if r, err := v.Apply(wire); err != nil || r.Code != want || v.Block.Position != 1 {
			t.Fatal(i, r, err, v.Block)
		}
	}
	if err := errors.Join(v.NextBlock(1), v.NextBlock(1)); err != nil {
		t.Fatal(err)
	}
	row, err := rules.ParseTouched(v.KV[string(rules.TouchedHeadKey())])
	if err != nil || row.Height != 2 || row.Previous != 1 || len(row.Users) != 1 || row.Scope != rules.TouchedSystem {
		t.Fatalf("%+v %v", row, err)
	}
	if v.Block.Height != 4 || v.KV[string(rules.TouchedKey(3))] != nil {
		t.Fatal("an idle block left a row")
	}
	// Found says which step went wrong instead of leaving half a vault.
	if err := kit.Found(v); err == nil {
		t.Fatal("founded twice")
	}
}
