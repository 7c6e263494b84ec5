package auditor_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/auditor"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/seed"
)

// testdata/dev.bundle is of a development stack: two credentials, one replaced and one
// deleted, an agent that was admitted and revoked, two destroyed epochs, a restart.
// The stack is gone, so its viewing key names nothing any more but what is here.
func recorded(t testing.TB) (*auditor.Bundle, auditor.Trust, auditor.Viewing) {
	t.Helper()
	raw, err := os.ReadFile("testdata/dev.bundle")
	if err != nil {
		t.Fatal(err)
	}
	b, err := auditor.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		ChainID string `json:"chain_id"`
		Vault   string `json:"vault_id"`
		Height  uint64 `json:"height"`
		Hash    string `json:"hash"`
		User    string `json:"user"`
		Key     string `json:"viewing_key"`
	}
	raw, err = os.ReadFile("testdata/dev.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	vault, err1 := agentkeys.ParseVaultID(p.Vault)
	hash, err2 := agentkeys.ParseHash(p.Hash)
	user, err3 := agentkeys.ParseWallet(p.User)
	key, err4 := hex.DecodeString(p.Key)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			t.Fatal(err)
		}
	}
	trust := auditor.Trust{ChainID: p.ChainID, Vault: vault, Header: ledger.Trust{Height: p.Height, Hash: hash},
		Now: b.Blocks[len(b.Blocks)-1].Header.Time.Add(time.Minute)}
	return b, trust, auditor.Viewing{User: user, Key: seed.TagKey{Secret: agentkeys.NewSecret(key)}}
}

func TestRecordedBundle(t *testing.T) {
	b, trust, viewing := recorded(t)
	r := auditor.Verify(b, trust, viewing)
	good(t, r)
	u := r.Users[0]
	var states, services []string
	for _, e := range u.Epochs {
		states = append(states, e.State)
		if e.State == "destroyed" && (e.Opened > e.Closed || e.Closed > e.Drained || e.Drained > e.Destroyed || e.Opened == 0) {
			t.Errorf("times of epoch %d: %+v", e.Epoch, e)
		}
	}
	for _, c := range u.Credentials {
		services = append(services, c.Service+" "+c.Changes[len(c.Changes)-1].What)
	}
	if !slices.Equal(states, []string{"destroyed", "destroyed", "active"}) || !slices.Equal(services, []string{"github deleted", "openai written"}) {
		t.Fatal(states, services)
	}
	if tr := r.Trails[0]; tr.Boots != 2 || tr.Rebuilt != 2 || tr.Proven != tr.Batches {
		t.Fatalf("%+v", tr)
	}
	for _, c := range auditor.Verify(b, trust).Users[0].Credentials {
		if _, err := agentkeys.ParseServiceID(c.Service); err != nil {
			t.Error("a service is named without a viewing key")
		}
	}
}

// Whoever holds the file but no validator's key changes it.
func TestFindsChangedFile(t *testing.T) {
	statementBlock := func(b *auditor.Bundle) *auditor.Block {
		for i := len(b.Blocks) - 2; ; i-- {
			if len(b.Blocks[i].Txs) > 0 {
				return &b.Blocks[i]
			}
		}
	}
	for name, c := range map[string]struct {
		change       func(b *auditor.Bundle, t *auditor.Trust)
		check, words string
	}{
		"dropped statement": {func(b *auditor.Bundle, _ *auditor.Trust) {
			x := statementBlock(b)
			x.Txs, x.Results = nil, nil
		}, "transactions", "missing, added or altered"},
		"dropped statement shows in the log": {func(b *auditor.Bundle, _ *auditor.Trust) {
			x := statementBlock(b)
			x.Txs, x.Results = nil, nil
		}, "rows", "the statements make"},
		"altered statement": {func(b *auditor.Bundle, _ *auditor.Trust) {
			x := statementBlock(b)
			i := bytes.Index(x.Txs[0], []byte(ledger.MsgSubmit))
			x.Txs[0][i+len(ledger.MsgSubmit)+100] ^= 1
		}, "transactions", "missing, added or altered"},
		"altered result code": {func(b *auditor.Bundle, _ *auditor.Trust) { statementBlock(b).Results[0].Code = 5 }, "results", "a code or answer"},
		"altered answer":      {func(b *auditor.Bundle, _ *auditor.Trust) { statementBlock(b).Results[0].GasUsed++ }, "results", "a code or answer"},
		"altered header":      {func(b *auditor.Bundle, _ *auditor.Trust) { b.Blocks[9].Header.AppHash[0] ^= 1 }, "headers", "header 10"},
		"altered vote":        {func(b *auditor.Bundle, _ *auditor.Trust) { b.Blocks[9].Commit.Signatures[0].Signature[9] ^= 1 }, "headers", "header 10"},
		"altered row":         {func(b *auditor.Bundle, _ *auditor.Trust) { b.Rows[3].Value[0] ^= 1 }, "rows", "proof"},
		"dropped row": {func(b *auditor.Bundle, _ *auditor.Trust) {
			i := slices.IndexFunc(b.Rows, func(r auditor.Row) bool { _, ok := rules.ParsePointerKey(r.Key); return ok && len(r.Value) > 0 })
			b.Rows = slices.Delete(b.Rows, i, i+1)
		}, "completeness", "counts"},
		"dropped proof of absence": {func(b *auditor.Bundle, _ *auditor.Trust) {
			b.Rows = slices.DeleteFunc(b.Rows, func(r auditor.Row) bool { return len(r.Value) == 0 })
		}, "rows", "is not proven"},
		"altered vote of the trusted header": {func(b *auditor.Bundle, _ *auditor.Trust) { b.Blocks[0].Commit.Signatures[0].Signature[9] ^= 1 }, "headers", "header 1:"},
		"altered first params": {func(b *auditor.Bundle, _ *auditor.Trust) {
			p, _ := rules.ParseParams(b.Early[0].Value)
			p.Current.MaxValidity++
			b.Early[0].Value = p.Append(nil)
		}, "rows", "params row"},
		"dropped read record": {func(b *auditor.Bundle, _ *auditor.Trust) { b.Records = slices.Delete(b.Records, 2, 3) }, "reads", "missing at seq 4"},
		"altered read record": {func(b *auditor.Bundle, _ *auditor.Trust) { b.Records[2][17] ^= 3 }, "reads", "one of them is altered"},
		"dropped block":       {func(b *auditor.Bundle, _ *auditor.Trust) { b.Blocks = slices.Delete(b.Blocks, 8, 9) }, "bundle", "unbroken"},
		"a client saw another header": {func(b *auditor.Bundle, t *auditor.Trust) {
			t.Seen = []auditor.Seen{{Height: 50, Hash: b.Blocks[50].Header.Hash()}}
		}, "forks", "FORK at height 50"},
		"another trusted hash":  {func(_ *auditor.Bundle, t *auditor.Trust) { t.Header.Hash[0] ^= 1 }, "headers", "another chain"},
		"another chain":         {func(_ *auditor.Bundle, t *auditor.Trust) { t.ChainID = "other" }, "bundle", "you trust"},
		"another vault":         {func(_ *auditor.Bundle, t *auditor.Trust) { t.Vault[0] ^= 1 }, "rows", "vault row"},
		"an old trusted header": {func(_ *auditor.Bundle, t *auditor.Trust) { t.Now = t.Now.Add(auditor.DefaultPeriod) }, "headers", "trusting period"},
	} {
		t.Run(name, func(t *testing.T) {
			b, trust, _ := recorded(t)
			good(t, auditor.Verify(b, trust))
			c.change(b, &trust)
			found(t, auditor.Verify(b, trust), c.check, c.words)
		})
	}
}

// From a newer trusted header the blocks below it follow by their hashes.
func TestTrustedHeaderInTheMiddle(t *testing.T) {
	b, trust, _ := recorded(t)
	trust.Header = ledger.Trust{Height: 40, Hash: b.Blocks[39].Header.Hash()}
	good(t, auditor.Verify(b, trust))
	b.Blocks[9].Header.DataHash[0] ^= 1
	found(t, auditor.Verify(b, trust), "headers", "header 10")
}

func TestBundleBytes(t *testing.T) {
	raw, err := os.ReadFile("testdata/dev.bundle")
	if err != nil {
		t.Fatal(err)
	}
	b, err := auditor.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.Encode(); err != nil || !bytes.Equal(raw, again) {
		t.Fatal("the same content has other bytes", err)
	}
	for name, bad := range map[string][]byte{
		"cut": raw[:len(raw)-9], "two": append(bytes.Clone(raw), raw...), "another format": bytes.Replace(raw, []byte("bundle/1"), []byte("bundle/2"), 1),
		"unknown field": append([]byte(`{"more":1,`), raw[1:]...), "nothing": nil,
	} {
		if _, err := auditor.Parse(bad); err == nil {
			t.Errorf("%s: parses", name)
		}
	}
}

// Nothing that parses may make Verify panic, or hold.
func FuzzVerify(f *testing.F) {
	raw, err := os.ReadFile("testdata/dev.bundle")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(3000, byte(7), 0)
	f.Add(100000, byte(1), 5)
	_, trust, _ := recorded(f)
	f.Fuzz(func(t *testing.T, at int, with byte, cut int) {
		if at < 0 || at >= len(raw) || cut < 0 || at+cut >= len(raw) {
			return
		}
		changed := slices.Concat(raw[:at], []byte{with}, raw[at+cut:])
		b, err := auditor.Parse(changed)
		if err != nil {
			return
		}
		if again, err := b.Encode(); err == nil && bytes.Equal(again, raw) {
			return
		}
		auditor.Verify(b, trust)
	})
}
