package vault_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"time"

	comettypes "github.com/cometbft/cometbft/types"

	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
)

// exported is the genesis of a chain that goes on where c stands.
func exported(t *testing.T, c *chaintest.Chain, change func(*vault.GenesisState)) *comettypes.GenesisDoc {
	t.Helper()
	state, err := c.App.Modules.ExportGenesis(c.App.NewContext(true), c.App.Codec)
	if err != nil {
		t.Fatal(err)
	}
	g := c.Genesis()
	if change != nil {
		change(&g)
	}
	if state[vault.ModuleName], err = c.App.Codec.MarshalJSON(&g); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	return &comettypes.GenesisDoc{ChainID: chaintest.ChainID, GenesisTime: c.Time.Add(time.Second), InitialHeight: c.Height + 1, AppState: raw}
}

func TestExportedGenesisGoesOn(t *testing.T) {
	c := chaintest.New(t)
	m := newMirror(t, c)
	first := [][]byte{enrol(t, c, "alice"), enrol(t, c, "bob")}
	c.Submit(first...)
	m.block(t, first...)

	next, err := chaintest.Start(t, exported(t, c, nil))
	if err != nil {
		t.Fatal(err)
	}
	next.Vault, next.Relayer = c.Vault, c.Relayer
	next.Block() // genesis is readable once it is in a block
	was, is := c.Genesis(), next.Genesis()
	if !equalGenesis(was, is) {
		t.Fatalf("import changed the vault:\nwas %v\nis  %v", was, is)
	}
	second := enrol(t, c, "carol")
	if got := codes(next.Submit(second, first[0])); !slices.Equal(got, []rules.Code{rules.OK, rules.AlreadyApplied}) {
		t.Fatalf("codes %v after import", got)
	}
	m.chain = next
	m.block(t, second)
}

func equalGenesis(a, b vault.GenesisState) bool {
	x, errX := a.Marshal()
	y, errY := b.Marshal()
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func TestBrokenGenesisIsRefused(t *testing.T) {
	c := chaintest.New(t)
	c.Submit(enrol(t, c, "alice"), enrol(t, c, "bob"))
	alice := rules.UserKey(rulestest.Wallet("alice").Wallet())
	find := func(g *vault.GenesisState, key []byte) int {
		i := slices.IndexFunc(g.Rows, func(r vault.Row) bool { return bytes.Equal(r.Key, key) })
		if i < 0 {
			t.Fatalf("no row %x", key)
		}
		return i
	}
	for name, change := range map[string]func(*vault.GenesisState){
		"a user's row is gone": func(g *vault.GenesisState) { i := find(g, alice); g.Rows = slices.Delete(g.Rows, i, i+1) },
		"a row is cut":         func(g *vault.GenesisState) { r := &g.Rows[find(g, alice)]; r.Value = r.Value[1:] },
		"a row is twice":       func(g *vault.GenesisState) { g.Rows = slices.Insert(g.Rows, 1, g.Rows[0]) },
		"rows are out of order": func(g *vault.GenesisState) {
			g.Rows[0], g.Rows[1] = g.Rows[1], g.Rows[0]
		},
		"a key of no kind": func(g *vault.GenesisState) {
			g.Rows = append(g.Rows, vault.Row{Key: []byte{0xff}, Value: []byte{1}})
		},
		"no rows":               func(g *vault.GenesisState) { g.Rows = nil },
		"another vault id":      func(g *vault.GenesisState) { g.VaultId = make([]byte, 32) },
		"a short vault id":      func(g *vault.GenesisState) { g.VaultId = g.VaultId[1:] },
		"no authority":          func(g *vault.GenesisState) { g.Authority = "" },
		"a foreign authority":   func(g *vault.GenesisState) { g.Authority = "cosmos1zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3kcqxq4" },
		"no validator":          func(g *vault.GenesisState) { g.Validators = nil },
		"a validator's key":     func(g *vault.GenesisState) { g.Validators[0].Key = []byte{1} },
		"a powerless validator": func(g *vault.GenesisState) { g.Validators[0].Power = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := chaintest.Start(t, exported(t, c, change)); err == nil {
				t.Fatal("a chain started from it")
			}
		})
	}
}
