package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"example.org/agentkeys"
)

func testSigner(t testing.TB, n byte) *Signer {
	t.Helper()
	key := sha256.Sum256([]byte{n})
	s, err := NewSigner(agentkeys.NewSecret(key[:]))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAddress(t *testing.T) {
	// The key 1 has the best-known compressed public key and its hash160 is published in
	// BIP 173's examples.
	key := make([]byte, 32)
	key[31] = 1
	s, err := NewSigner(agentkeys.NewSecret(key))
	if err != nil {
		t.Fatal(err)
	}
	a := s.Address()
	if got := hex.EncodeToString(a[:]); got != "751e76e8199196d454941c45d1b3a323f1433bd6" {
		t.Fatalf("hash160 is %s", got)
	}
	text := a.String()
	back, err := ParseAddress(text)
	if err != nil || back != a || !strings.HasPrefix(text, "agent1") {
		t.Fatalf("%s: %x, %v", text, back, err)
	}
	for i := range text {
		for _, c := range []byte("q1z!Q") {
			bad := []byte(text)
			if bad[i] == c {
				continue
			}
			bad[i] = c
			if _, err := ParseAddress(string(bad)); err == nil {
				t.Errorf("%s accepted", bad)
			}
		}
	}
	for _, bad := range []string{"", "agent1", text + "q", text[:len(text)-1], strings.ToUpper(text), " " + text} {
		if _, err := ParseAddress(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestNewSignerRefuses(t *testing.T) {
	order, _ := hex.DecodeString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
	for name, key := range map[string][]byte{"empty": nil, "short": make([]byte, 31), "zero": make([]byte, 32), "order": order} {
		if _, err := NewSigner(agentkeys.NewSecret(key)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSubmitSignsWhatItSays(t *testing.T) {
	s := testSigner(t, 1)
	terms := Terms{ChainID: "c-1", Number: 3, Sequence: 7, Timeout: 99, Gas: 5, Fee: 6, Denom: "uagent", Granter: testSigner(t, 2).Address().String()}
	statements := [][]byte{{1}, {}, {2, 3}}
	tx, err := s.Submit(terms, statements)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := lastBytes(tx, 1)
	auth, _ := lastBytes(tx, 2)
	sig, _ := lastBytes(tx, 3)
	doc := appendUint(appendBytes(appendBytes(appendBytes(nil, 1, body), 2, auth), 3, "c-1"), 4, 3)
	hash := sha256.Sum256(doc)
	var r, sc secp256k1.ModNScalar
	if len(sig) != 64 || r.SetByteSlice(sig[:32]) || sc.SetByteSlice(sig[32:]) || sc.IsOverHalfOrder() {
		t.Fatal("signature is not R and a low S")
	}
	pub, err := secp256k1.ParsePubKey(s.pub)
	if err != nil || !ecdsa.NewSignature(&r, &sc).Verify(hash[:], pub) {
		t.Error("signature does not verify over the sign doc")
	}
	messages, err := Messages(tx)
	want := []Message{{MsgSubmit, s.Address().String(), statements}}
	if err != nil || !reflect.DeepEqual(messages, want) {
		t.Errorf("got %+v, %v", messages, err)
	}
	got, err := Statements(tx)
	if err != nil || !reflect.DeepEqual(got, statements) {
		t.Errorf("got %x, %v", got, err)
	}
	for name, f := range map[string]func(*Terms, *[][]byte){
		"none":        func(_ *Terms, p *[][]byte) { *p = nil },
		"too many":    func(_ *Terms, p *[][]byte) { *p = make([][]byte, MaxParts+1) },
		"bad granter": func(t *Terms, _ *[][]byte) { t.Granter = "cosmos1abc" },
	} {
		terms, parts := terms, statements
		f(&terms, &parts)
		if _, err := s.Submit(terms, parts); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// TestGoldenTransaction pins the bytes that docs/spec/ledger.md gives.
func TestGoldenTransaction(t *testing.T) {
	terms := Terms{ChainID: "agentkeys-1", Number: 1, Sequence: 2, Timeout: 10, Gas: 200000, Fee: 5, Denom: "uagent"}
	tx, err := testSigner(t, 1).Submit(terms, [][]byte{{0xaa}, {0xbb, 0xcc}})
	if err != nil {
		t.Fatal(err)
	}
	const want = "0a5a0a560a1d2f6167656e746b6579732e7661756c742e76312e4d73675375626d697412350a2c6167656e743164" +
		"307a336b766c66376433786a33387473376735306376707a3976706c72756d76766e6168641201aa1202bbcc180a12650a500a46" +
		"0a1f2f636f736d6f732e63727970746f2e736563703235366b312e5075624b657912230a2102d415b187c6e7ce9da46ac888d20d" +
		"f20737d6f16a41639e68ea055311e1535dd912040a020801180212110a0b0a06756167656e7412013510c09a0c1a4097d1fa5d76" +
		"f5fb679764c5d9aa6c6ae0c2f71c6684a657139f28cf77c4fbe9f67c172d6e04c4a5b6ace94268d96d9b89ed88e3999bea774001" +
		"381c267e256d60"
	if got := hex.EncodeToString(tx); got != want {
		t.Errorf("got %s", got)
	}
}

func TestMessagesReadsAsTheChainDoes(t *testing.T) {
	value := appendMessage(nil, 2, []byte{1})
	value = appendBytes(value, 1, "first")
	value = appendBytes(value, 1, "last")
	value = appendMessage(value, 2, []byte{2})
	item := appendBytes(appendBytes(nil, 2, value), 1, MsgAuthority)
	body := appendBytes(nil, 2, "memo")
	body = appendMessage(body, 1, item)
	body = appendMessage(body, 1, appendAny("/cosmos.bank.v1beta1.MsgSend", []byte("anything")))
	tx := appendMessage(appendMessage(nil, 2, []byte{}), 1, body)
	got, err := Messages(tx)
	want := []Message{{MsgAuthority, "last", [][]byte{{1}, {2}}}, {Type: "/cosmos.bank.v1beta1.MsgSend"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if statements, err := Statements(tx); err != nil || statements != nil {
		t.Errorf("statements of an authority message: %x, %v", statements, err)
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "garbage": []byte("garbage"), "cut": tx[:len(tx)-1],
		"no message":   appendMessage(nil, 1, appendBytes(nil, 2, "memo")),
		"body as int":  appendUint(nil, 1, 5),
		"part as int":  appendMessage(nil, 1, appendMessage(nil, 1, appendAny(MsgSubmit, appendUint(nil, 2, 1)))),
		"broken value": appendMessage(nil, 1, appendMessage(nil, 1, appendAny(MsgSubmit, []byte{0x12, 9}))),
	} {
		if _, err := Messages(bad); !errors.Is(err, errTx) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func encodeResults(typeURL string, results []Result) []byte {
	var value []byte
	for _, r := range results {
		b := appendBytes(appendUint(nil, 1, uint64(r.Code)), 2, r.Reason)
		var skipped []byte
		for _, i := range r.Skipped {
			skipped = append(skipped, byte(i>>8), byte(i))
		}
		value = appendMessage(value, 1, appendBytes(b, 3, skipped))
	}
	return appendMessage(nil, 2, appendAny(typeURL, value))
}

func TestResults(t *testing.T) {
	want := []Result{{}, {Code: 1, Reason: "done"}, {Code: 9, Skipped: []uint16{0, 258}}}
	for _, typeURL := range []string{MsgSubmit + "Response", MsgAuthority + "Response"} {
		got, err := Results(encodeResults(typeURL, want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	good := encodeResults(MsgSubmit+"Response", want)
	for name, bad := range map[string][]byte{
		"empty": nil, "other message": encodeResults("/x.MsgResponse", want), "cut": good[:len(good)-1],
		"trailing": append(bytes.Clone(good), 0), "two": append(bytes.Clone(good), good...),
		"odd skipped": appendMessage(nil, 2, appendAny(MsgSubmit+"Response", appendMessage(nil, 1, appendBytes(nil, 3, "x")))),
		"long code":   appendMessage(nil, 2, appendAny(MsgSubmit+"Response", appendMessage(nil, 1, appendUint(nil, 1, 1<<40)))),
		"too many":    encodeResults(MsgSubmit+"Response", make([]Result, MaxParts+1)),
	} {
		if _, err := Results(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseAccount(t *testing.T) {
	a := func() (out Answer) {
		var r struct{ Response Answer }
		if err := decodeAnswer(recorded(t, "one/account.json"), "abci_query", false, &r); err != nil {
			t.Fatal(err)
		}
		return r.Response
	}()
	const address = "cosmos1t9s4lea0tlddysxzh9up9lmhjmud5ytftk57cy"
	number, sequence, err := parseAccount(a.Value, address)
	if err != nil || number != 0 || sequence != 3 {
		t.Errorf("number %d, sequence %d, %v", number, sequence, err)
	}
	if _, _, err := parseAccount(a.Value, "cosmos1other"); err == nil {
		t.Error("another address was accepted")
	}
	for i := range a.Value {
		if _, _, err := parseAccount(a.Value[:i], address); err == nil {
			t.Errorf("%d of %d bytes were accepted", i, len(a.Value))
		}
	}
}

func TestIncluded(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	chain.block(nil, []byte("a"), []byte("b"))
	h := chain.block(nil, []byte("c"), []byte("d"))
	node, err := NewNode(n.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	in, err := node.Included(t.Context(), []byte("d"), 3, h)
	if err != nil || in.Height != h || in.Index != 1 || in.Result.Code != 1 {
		t.Errorf("%+v, %v", in, err)
	}
	if _, err := node.Included(t.Context(), []byte("d"), 3, h-1); !errors.Is(err, ErrNotIncluded) {
		t.Errorf("got %v", err)
	}
	if _, err := node.Included(t.Context(), []byte("x"), h, h+1); err == nil || errors.Is(err, ErrNotIncluded) {
		t.Errorf("a height that is not there yet: %v", err)
	}
}

func FuzzMessages(f *testing.F) {
	tx, err := testSigner(f, 1).Submit(Terms{ChainID: "c"}, [][]byte{{1}, {2}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tx)
	f.Fuzz(func(t *testing.T, b []byte) {
		messages, err := Messages(b)
		if err != nil {
			return
		}
		size := 0
		for _, m := range messages {
			if m.Parts != nil && m.Type != MsgSubmit && m.Type != MsgAuthority || len(m.Parts) > MaxParts {
				t.Fatalf("parts of %s", m.Type)
			}
			for _, p := range m.Parts {
				size += len(p)
			}
		}
		if size > len(b) {
			t.Fatal("more bytes out than in")
		}
	})
}

func FuzzResults(f *testing.F) {
	f.Add(encodeResults(MsgSubmit+"Response", []Result{{}, {Code: 1, Reason: "x", Skipped: []uint16{4}}}))
	f.Add(encodeResults(MsgAuthority+"Response", nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		results, err := Results(b)
		if err != nil {
			return
		}
		// What is read has one spelling, but for zero fields written out.
		if a := encodeResults(MsgSubmit+"Response", results); len(a) > len(b)+len("Authority") {
			t.Fatalf("%x is read as %+v", b, results)
		}
	})
}

func FuzzAccount(f *testing.F) {
	var r struct{ Response Answer }
	if err := decodeAnswer(recorded(f, "one/account.json"), "abci_query", false, &r); err != nil {
		f.Fatal(err)
	}
	const address = "cosmos1t9s4lea0tlddysxzh9up9lmhjmud5ytftk57cy"
	f.Add(r.Response.Value)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := parseAccount(b, address)
		if err == nil && !bytes.Contains(b, []byte(address)) {
			t.Fatal("an account of another address")
		}
	})
}

func FuzzHeadEvent(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"data":{"value":{"header":{"height":"7"}}}}}`))
	f.Add([]byte(`{"error":{"code":1,"message":"m","data":"d"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHeadEvent(b); err != nil && h != 0 {
			t.Fatalf("height %d beside %v", h, err)
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add(testSigner(f, 1).Address().String())
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAddress(s); err == nil && a.String() != s {
			t.Fatalf("%q is also %q", s, a)
		}
	})
}

func TestCallLimits(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	node, err := NewNode(n.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	n.answer = func(a *Answer) { a.Value = make([]byte, maxAnswer) }
	if _, err := node.Query(t.Context(), "/store/vault/key", []byte("k"), 2, true); err == nil || !strings.Contains(err.Error(), "answer over") {
		t.Errorf("an answer of %d bytes: %v", maxAnswer, err)
	}
	var rpc *RPCError
	if _, err := node.Commit(t.Context(), 999); !errors.As(err, &rpc) {
		t.Errorf("got %v", err)
	}
	n.commit = func(s *SignedHeader) { s.Header.Height++ }
	if _, err := node.Commit(t.Context(), 2); err == nil {
		t.Error("another height was accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := node.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
