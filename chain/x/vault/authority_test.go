package vault_test

import (
	"testing"

	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

func TestOnlyTheAuthorityOfGenesisIsHeard(t *testing.T) {
	c := chaintest.New(t)
	m := newMirror(t, c)
	act := statement.AppendAct(nil, statement.RotateAll{})

	stranger := &vault.MsgAuthority{Authority: c.Relayer.Address().String(), Acts: [][]byte{act}}
	r := c.Block(c.Relayer.Tx(t, c.App, stranger)).TxResults[0]
	if r.Code != 4 || r.Codespace != "sdk" {
		t.Fatalf("a stranger's act: code %d of %q, want unauthorized (4 of sdk)", r.Code, r.Codespace)
	}
	m.compare(t)

	forged := &vault.MsgAuthority{Authority: c.Authority.Address().String(), Acts: [][]byte{act}}
	if r := c.Block(c.Relayer.Tx(t, c.App, forged)).TxResults[0]; r.Code == 0 {
		t.Fatal("an act in the authority's name with a stranger's signature was taken")
	}
	m.compare(t)

	acts := [][]byte{[]byte("noise"), act}
	own := &vault.MsgAuthority{Authority: c.Authority.Address().String(), Acts: acts}
	got := chaintest.Results(t, c.Block(c.Authority.Tx(t, c.App, own)).TxResults[0])
	if rules.Code(got[0].Code) != rules.BadLayout || got[1].Code != 0 {
		t.Fatalf("codes %v, want bad_layout and ok", codes(got))
	}
	m.block(t, act)
}

func TestActsAreNoStatementsAndStatementsNoActs(t *testing.T) {
	c := chaintest.New(t)
	if got := c.Submit(statement.AppendAct(nil, statement.RotateAll{})); rules.Code(got[0].Code) != rules.BadLayout {
		t.Fatalf("an act passed as a statement: %s", rules.Code(got[0].Code))
	}
	msg := &vault.MsgAuthority{Authority: c.Authority.Address().String(), Acts: [][]byte{enrol(t, c, "alice")}}
	got := chaintest.Results(t, c.Block(c.Authority.Tx(t, c.App, msg)).TxResults[0])
	if rules.Code(got[0].Code) != rules.BadLayout {
		t.Fatalf("a statement passed as an act: %s", rules.Code(got[0].Code))
	}
}

// Processes register, anchors join and a custodian beats, through consensus and by
// rules alike.
func TestAFoundedVaultEqualsRules(t *testing.T) {
	c := chaintest.New(t)
	m := newMirror(t, c)
	kit := rulestest.Kit{Vault: c.Vault, Custodian: rulestest.Process("custodian"), Rotator: rulestest.Process("rotator")}
	key := rulestest.PublicKey(kit.Custodian)
	acts := [][]byte{
		statement.AppendAct(nil, statement.AllowMeasurement{Role: statement.EnclaveCustodian, Platform: statement.PlatformSoftware}),
		statement.AppendAct(nil, statement.RegisterEnclave{Role: statement.EnclaveCustodian, Key: key, Platform: statement.PlatformSoftware}),
	}
	beat := kit.SignProcess(statement.Heartbeat{Nonce: [16]byte{1}, SeenHeight: 1, ValidUntil: uint64(c.Time.Unix()) + 60})
	found := &vault.MsgAuthority{Authority: c.Authority.Address().String(), Acts: acts}
	block := c.Block(c.Authority.Tx(t, c.App, found), c.Relayer.Tx(t, c.App, submit(c, beat)))
	for i, r := range block.TxResults {
		for j, got := range chaintest.Results(t, r) {
			if got.Code != 0 {
				t.Fatalf("tx %d part %d: %s %s", i, j, rules.Code(got.Code), got.Reason)
			}
		}
	}
	m.block(t, append(acts, beat)...)
}
