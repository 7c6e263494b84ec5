package client

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/record"
	"example.org/agentkeys/statement"
)

func TestDialWantsAPin(t *testing.T) {
	for _, pin := range []string{"", "xx", strings.Repeat("00", 31), strings.Repeat("00", 33)} {
		if _, err := Dial(Endpoint{URL: "https://127.0.0.1:1", Pin: pin}); err == nil {
			t.Errorf("pin %q is taken", pin)
		}
	}
}

func TestOtherCertificateIsRefused(t *testing.T) {
	f := newCustodian(t)
	f.at.Pin = strings.Repeat("ab", 32)
	c, err := Dial(f.at)
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(t)
	err = c.Login(t.Context(), k, k.Wallet(), 0)
	if api.CodeOf(err) != "unreachable" || !strings.Contains(err.Error(), "not the custodian of the profile") {
		t.Errorf("%v", err)
	}
	if len(f.nonces) != 0 {
		t.Error("the request got through")
	}
}

func TestLoginBindsTheClient(t *testing.T) {
	f := newCustodian(t)
	c, k := owner(t, f)
	if c.User() != k.Wallet() || time.Until(c.Expires()) < 50*time.Minute {
		t.Errorf("user %s, expires %v", c.User(), c.Expires())
	}
	if w, err := c.WhoAmI(t.Context()); err != nil || w.User != k.Wallet().String() {
		t.Error(w, err)
	}
	stolen := c.State()
	rand.Read(stolen.Key)
	thief, err := Dial(f.at)
	if err != nil {
		t.Fatal(err)
	}
	if err := thief.Resume(stolen); err != nil {
		t.Fatal(err)
	}
	if _, err := thief.WhoAmI(t.Context()); api.CodeOf(err) != "session_invalid" {
		t.Errorf("a token without its key: %v", err)
	}
}

func TestTokenSealedToAnother(t *testing.T) {
	f := newCustodian(t)
	other, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.sealTo = func([]byte) []byte { return other.PublicKey().Bytes() }
	c, err := Dial(f.at)
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(t)
	if err := c.Login(t.Context(), k, k.Wallet(), 0); err == nil || !strings.Contains(err.Error(), "not sealed to this client") {
		t.Errorf("%v", err)
	}
	if _, err := c.WhoAmI(t.Context()); api.CodeOf(err) != "session_invalid" {
		t.Errorf("after a failed login: %v", err)
	}
}

func TestOpenTokenRefusesChanges(t *testing.T) {
	seal, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]api.Session{
		"nothing":            {},
		"short encapsulated": {Encapsulated: make([]byte, 31), Sealed: make([]byte, 40)},
		"zero point":         {Encapsulated: make([]byte, 32), Sealed: make([]byte, 40)},
		"noise":              {Encapsulated: seal.PublicKey().Bytes(), Sealed: make([]byte, 40)},
	} {
		if _, err := openToken(testVault, seal, s); err == nil {
			t.Errorf("%s is opened", name)
		}
	}
}

func TestStateSurvivesAFile(t *testing.T) {
	f := newCustodian(t)
	c, _ := owner(t, f)
	b, err := json.Marshal(c.State())
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	again, err := Dial(f.at)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Resume(s); err != nil {
		t.Fatal(err)
	}
	if _, err := again.List(t.Context()); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]State{"user": {User: "me", Agent: s.Agent, Key: s.Key}, "agent": {User: s.User, Key: s.Key}, "key": {User: s.User, Agent: s.Agent, Key: s.Key[1:]}} {
		if err := again.Resume(bad); err == nil {
			t.Errorf("a state with a damaged %s is taken", name)
		}
	}
}

func TestWriteReadReplace(t *testing.T) {
	f := newCustodian(t)
	c, k := owner(t, f)
	var shared agentkeys.Wallet
	if w, err := c.Write(t.Context(), "github", shared, bearer("one"), statement.IdleCarry, 0, nil); err != nil || w.Version != 1 {
		t.Fatal(w, err)
	}
	if _, err := c.Write(t.Context(), "github", shared, bearer("two"), statement.IdleCarry, 1, nil); api.CodeOf(err) != "presence_invalid" {
		t.Errorf("overwriting without the wallet: %v", err)
	}
	stranger := newKey(t)
	if _, err := c.Write(t.Context(), "github", shared, bearer("two"), statement.IdleCarry, 1, &stranger); api.CodeOf(err) != "presence_invalid" {
		t.Errorf("overwriting with another wallet: %v", err)
	}
	if w, err := c.Write(t.Context(), "github", shared, bearer("two"), statement.IdleCarry, 1, &k); err != nil || w.Version != 2 {
		t.Fatal(w, err)
	}
	v, err := c.Read(t.Context(), "github", shared, &k)
	if err != nil || string(v.Secret.Reveal()) != "two" || v.Version != 2 || v.Receipt.Record.Sequence != 3 {
		t.Errorf("%+v %v", v, err)
	}
	if _, err := c.Read(t.Context(), "none", shared, &k); api.CodeOf(err) != "not_found" {
		t.Errorf("%v", err)
	}
}

func TestReceiptMustFit(t *testing.T) {
	f := newCustodian(t)
	c, _ := owner(t, f)
	if _, err := c.Write(t.Context(), "s", agentkeys.Wallet{}, bearer("x"), statement.IdleCarry, 0, nil); err != nil {
		t.Fatal(err)
	}
	for name, lie := range map[string]func(record.ReadReceipt) record.ReadReceipt{
		"signature": func(r record.ReadReceipt) record.ReadReceipt { r.Signature[3] ^= 1; return r },
		"record":    func(r record.ReadReceipt) record.ReadReceipt { r.Record.Time++; return r },
		"version": func(r record.ReadReceipt) record.ReadReceipt {
			r.Record.Version++
			return record.SignReceipt(f.key, testVault, r.Record)
		},
		"vault": func(r record.ReadReceipt) record.ReadReceipt {
			return record.SignReceipt(f.key, agentkeys.VaultID{1}, r.Record)
		},
	} {
		f.receipt = lie
		v, err := c.Read(t.Context(), "s", agentkeys.Wallet{}, nil)
		if err == nil || v.Secret.Len() != 0 {
			t.Errorf("a receipt with another %s is taken", name)
		}
	}
}

func TestWriteWaitsForTheFirstEpoch(t *testing.T) {
	f := newCustodian(t)
	c, _ := owner(t, f)
	opening := &api.Error{Status: 503, Code: "epoch_opening", Retry: true}
	f.fail = func(path string, n int) error {
		if path == api.PathWrite && n < 3 {
			clear(f.held)
			clear(f.versions)
			return opening
		}
		return nil
	}
	if _, err := c.Write(t.Context(), "s", agentkeys.Wallet{}, bearer("x"), statement.IdleCarry, 0, nil); err != nil || f.calls[api.PathWrite] != 3 {
		t.Errorf("%d calls, %v", f.calls[api.PathWrite], err)
	}
}

// A write that landed without an answer is repeated with its blob id and is one write.
func TestUnknownOutcomeIsRepeated(t *testing.T) {
	f := newCustodian(t)
	c, k := owner(t, f)
	lost := 1
	f.fail = func(path string, n int) error {
		if path != api.PathWrite || n > lost {
			return nil
		}
		return &api.Error{Status: 504, Code: "unknown_outcome", Retry: true, BlobID: f.held["s"].BlobID}
	}
	w, err := c.Write(t.Context(), "s", agentkeys.Wallet{}, bearer("x"), statement.IdleCarry, 0, nil)
	if err != nil || w.Version != 1 || f.versions["s"] != 1 {
		t.Errorf("%+v, version %d, %v", w, f.versions["s"], err)
	}
	f.calls[api.PathWrite] = 0
	if w, err = c.Write(t.Context(), "s", agentkeys.Wallet{}, bearer("y"), statement.IdleCarry, 1, &k); err != nil || w.Version != 2 {
		t.Errorf("replace: %+v, %v", w, err)
	}
	lost = 1000
	f.calls[api.PathWrite] = 0
	if _, err = c.Write(t.Context(), "s", agentkeys.Wallet{}, bearer("z"), statement.IdleCarry, 2, &k); api.CodeOf(err) != "unknown_outcome" {
		t.Errorf("for ever: %v", err)
	}
	if n := f.calls[api.PathWrite]; n != 1+maxUnknown {
		t.Errorf("%d tries", n)
	}
}

func TestSubmitSigns(t *testing.T) {
	f := newCustodian(t)
	c, k := owner(t, f)
	a, err := c.Submit(t.Context(), k, statement.AskRotation{User: k.Wallet(), Due: 2})
	if err != nil || a.Height != 8 || len(f.wires) != 1 {
		t.Fatal(a, err)
	}
	s, err := statement.Parse(f.wires[0])
	if ask, ok := s.Body.(statement.AskRotation); err != nil || !ok || ask.Due != 2 {
		t.Errorf("%+v %v", s, err)
	}
}

func TestReads(t *testing.T) {
	f := newCustodian(t)
	c, _ := owner(t, f)
	got, next, err := c.Reads(t.Context(), 17, 1)
	if err != nil || len(got) != 1 || got[0].Sequence != 17 || next != 18 {
		t.Error(got, next, err)
	}
}

func TestWithoutSession(t *testing.T) {
	c, err := Dial(newCustodian(t).at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context()); api.CodeOf(err) != "session_invalid" || !strings.Contains(err.Error(), "agentkeys login") {
		t.Errorf("%v", err)
	}
}
