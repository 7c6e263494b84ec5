package statement_test

import (
	"bytes"
	"crypto/ed25519"
	"reflect"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/statement"
)

// size is the length of each body as docs/spec/statements.md states it.
var size = map[statement.Kind]int{
	statement.KindEnrol: 20, statement.KindAdmitAgent: 57, statement.KindRevokeAgent: 48, statement.KindGrant: 190,
	statement.KindDelete: 80, statement.KindAskRotation: 24,
	statement.KindRegisterBlob: 297, statement.KindDrop: 121, statement.KindReportLost: 129, statement.KindOpenEpoch: 144,
	statement.KindRotateBlobs: 122 + 2*140, statement.KindRewrapDEK: 148, statement.KindDestroyEpoch: 64, statement.KindCommitTree: 72,
	statement.KindTakeKeeper: 40, statement.KindRecordReads: 100, statement.KindHeartbeat: 40, statement.KindVouch: 193,
	statement.KindSetParams: 56, statement.KindAllowMeasurement: 50, statement.KindRemoveMeasurement: 50, statement.KindRegisterEnclave: 122,
	statement.KindRevokeEnclave: 33, statement.KindSetOidcKey: 33, statement.KindAddAnchor: 17, statement.KindRetireAnchor: 16,
	statement.KindEvictAnchor: 16, statement.KindRotateUser: 20, statement.KindRotateAll: 0,
}

// bodies has one of each kind, every field with bytes of its own: a field that is
// forgotten or exchanged shows.
func bodies() []statement.Body {
	f := &filler{}
	rows := make([]receipt.Row, 2)
	f.fill(reflect.ValueOf(&rows).Elem())
	all := []statement.Body{
		filled[statement.Enrol](f), filled[statement.AdmitAgent](f), filled[statement.RevokeAgent](f), filled[statement.Grant](f),
		filled[statement.Delete](f), filled[statement.AskRotation](f), filled[statement.RegisterBlob](f), filled[statement.Drop](f),
		filled[statement.ReportLost](f), filled[statement.OpenEpoch](f), filled[statement.RotateBlobs](f), filled[statement.RewrapDEK](f),
		filled[statement.DestroyEpoch](f), filled[statement.CommitTree](f), filled[statement.TakeKeeper](f), filled[statement.RecordReads](f),
		filled[statement.Heartbeat](f), filled[statement.Vouch](f), filled[statement.SetParams](f), filled[statement.AllowMeasurement](f),
		filled[statement.RemoveMeasurement](f), filled[statement.RegisterEnclave](f), filled[statement.RevokeEnclave](f),
		filled[statement.SetOidcKey](f), filled[statement.AddAnchor](f), filled[statement.RetireAnchor](f), filled[statement.EvictAnchor](f),
		filled[statement.RotateUser](f), filled[statement.RotateAll](f),
	}
	for i, b := range all {
		if r, ok := b.(statement.RotateBlobs); ok {
			r.Receipt.Rows = rows
			all[i] = r
		}
	}
	return all
}

// filler counts bytes up; enumerations get their highest value.
type filler struct{ next byte }

func filled[T any](f *filler) (v T) {
	f.fill(reflect.ValueOf(&v).Elem())
	return v
}

var enumerations = map[reflect.Type]uint64{
	reflect.TypeFor[statement.Role](): 2, reflect.TypeFor[statement.Mode](): 2, reflect.TypeFor[statement.SlotKind](): 2,
	reflect.TypeFor[statement.IdleRule](): 2, reflect.TypeFor[statement.DropReason](): 2, reflect.TypeFor[statement.EnclaveRole](): 2,
}

func (f *filler) fill(v reflect.Value) {
	if n, ok := enumerations[v.Type()]; ok {
		v.SetUint(n)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	case reflect.Array, reflect.Slice:
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Bool:
		v.SetBool(true)
	default:
		n := uint64(0)
		for range v.Type().Size() {
			f.next++
			n = n<<8 | uint64(f.next)
		}
		v.SetUint(n)
	}
}

var (
	vault = agentkeys.VaultID(bytes.Repeat([]byte{0x5a}, 32))
	chief = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)) // custodian or keeper
	maker = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)) // rotator
)

// signProcess signs a process's statement, its receipt by the rotator.
func signProcess(b statement.Body) []byte {
	var sig receipt.Signature
	switch s := b.(type) {
	case statement.OpenEpoch:
		sig = receipt.Sign(maker, vault, receipt.KindMade, s.Receipt.Append(nil))
	case statement.RotateBlobs:
		sig = receipt.Sign(maker, vault, receipt.KindRotated, s.Receipt.Append(nil))
	case statement.RewrapDEK:
		sig = receipt.Sign(maker, vault, receipt.KindRewrapped, s.Receipt.Append(nil))
	default:
		return statement.SignProcess(chief, vault, b, nil)
	}
	return statement.SignProcess(chief, vault, b, &sig)
}

// wireOf gives the wire form; a user's signature is made of counted bytes.
func wireOf(b statement.Body) []byte {
	switch k := b.Kind(); {
	case k.ByUser():
		s := statement.Signed{Body: b}
		(&filler{}).fill(reflect.ValueOf(&s.User).Elem())
		return s.Append(nil)
	case k.ByProcess():
		return signProcess(b)
	}
	return statement.AppendAct(nil, b)
}

// again parses and appends.
func again(wire []byte) (statement.Body, []byte, error) {
	if len(wire) > 0 && statement.Kind(wire[0]).ByAuthority() {
		b, err := statement.ParseAct(wire)
		if err != nil {
			return nil, nil, err
		}
		return b, statement.AppendAct(nil, b), nil
	}
	s, err := statement.Parse(wire)
	if err != nil {
		return nil, nil, err
	}
	return s.Body, s.Append(nil), nil
}

func TestEveryKindRoundTrips(t *testing.T) {
	if len(bodies()) != len(size) {
		t.Fatalf("%d bodies for %d kinds", len(bodies()), len(size))
	}
	for _, b := range bodies() {
		wire := wireOf(b)
		if got := len(b.Append(nil)); got != size[b.Kind()] {
			t.Errorf("%T: body of %d bytes, the page says %d", b, got, size[b.Kind()])
		}
		got, bytesAgain, err := again(wire)
		if err != nil || !reflect.DeepEqual(got, b) || !bytes.Equal(bytesAgain, wire) {
			t.Errorf("%T: %v\n%+v became\n%+v", b, err, b, got)
		}
		if wire[0] != byte(b.Kind()) {
			t.Errorf("%T: begins with %d", b, wire[0])
		}
		if _, _, err := again(append(bytes.Clone(wire), 0)); err == nil {
			t.Errorf("%T: a trailing byte passes", b)
		}
		for n := range wire {
			if _, _, err := again(wire[:n]); err == nil {
				t.Errorf("%T: %d of %d bytes pass", b, n, len(wire))
			}
		}
	}
}

func TestKindsArePutToOneSigner(t *testing.T) {
	for k := range 256 {
		kind := statement.Kind(k)
		groups := 0
		for _, in := range []bool{kind.ByUser(), kind.ByProcess(), kind.ByAuthority()} {
			if in {
				groups++
			}
		}
		if _, known := size[kind]; known != (groups == 1) || groups > 1 {
			t.Errorf("kind %d belongs to %d signers", k, groups)
		}
		b := make([]byte, 600)
		b[0] = byte(k)
		if _, err := statement.Parse(b); err == nil {
			t.Errorf("600 bytes of kind %d pass", k)
		}
	}
	act := statement.AppendAct(nil, statement.RotateAll{})
	if _, err := statement.Parse(act); err == nil {
		t.Error("an act passes as a statement")
	}
	if _, err := statement.ParseAct(wireOf(statement.Enrol{})); err == nil {
		t.Error("a statement passes as an act")
	}
}

// Each place of a body that holds an enumeration, a bool or a count, and values
// that it must not have.
func TestValuesOutOfRange(t *testing.T) {
	for _, c := range []struct {
		kind statement.Kind
		at   int // in the body
		bad  []byte
	}{
		{statement.KindAdmitAgent, 40, []byte{0, 3, 255}},
		{statement.KindGrant, 88, []byte{3, 255}},
		{statement.KindGrant, 89, []byte{0, 3, 255}},
		{statement.KindRegisterBlob, 164, []byte{0, 3, 255}},
		{statement.KindDrop, 112, []byte{0, 3, 255}},
		{statement.KindReportLost, 120, []byte{2, 255}},
		{statement.KindRotateBlobs, 112, []byte{1}}, // 258 rows
		{statement.KindRotateBlobs, 113, []byte{0, 1, 3}},
		{statement.KindAllowMeasurement, 0, []byte{0, 3}},
		{statement.KindRemoveMeasurement, 0, []byte{0, 3}},
		{statement.KindRegisterEnclave, 0, []byte{0, 3}},
		{statement.KindRevokeEnclave, 0, []byte{0, 3}},
		{statement.KindSetOidcKey, 32, []byte{2, 255}},
	} {
		for _, b := range bodies() {
			if b.Kind() != c.kind {
				continue
			}
			for _, v := range c.bad {
				wire := wireOf(b)
				wire[1+c.at] = v
				if _, _, err := again(wire); err == nil {
					t.Errorf("%T: byte %d = %d passes", b, c.at, v)
				}
			}
		}
	}
}

func TestLargestChunkFitsAndALargerOneDoesNot(t *testing.T) {
	chunk := func(n int) []byte {
		return signProcess(statement.RotateBlobs{Receipt: receipt.Rotated{Rows: make([]receipt.Row, n)}})
	}
	if wire := chunk(receipt.MaxRows); len(wire) > statement.MaxSize {
		t.Fatalf("%d bytes", len(wire))
	} else if _, err := statement.Parse(wire); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, receipt.MaxRows + 1} {
		if _, err := statement.Parse(chunk(n)); err == nil {
			t.Errorf("%d rows pass", n)
		}
	}
	if _, err := statement.Parse(make([]byte, statement.MaxSize+1)); err == nil {
		t.Error("more than MaxSize passes")
	}
}

func TestProcessSignaturesCoverEverything(t *testing.T) {
	for _, b := range bodies() {
		if !b.Kind().ByProcess() {
			continue
		}
		wire := signProcess(b)
		s, err := statement.Parse(wire)
		if err != nil || !s.VerifyProcess(vault) {
			t.Fatalf("%T: %v", b, err)
		}
		if s.VerifyProcess(agentkeys.VaultID{}) {
			t.Errorf("%T: verifies for another vault", b)
		}
		for i := 1; i < len(wire); i++ {
			wire[i] ^= 1
			if s, err := statement.Parse(wire); err == nil && s.VerifyProcess(vault) {
				t.Errorf("%T: byte %d is not signed", b, i)
			}
			wire[i] ^= 1
		}
	}
	user, err := statement.Parse(wireOf(statement.Enrol{}))
	if err != nil || user.VerifyProcess(vault) {
		t.Error("a user's statement passes as a process's")
	}
}

// The custodian's signature covers the receipt's: neither can be exchanged.
func TestReceiptCannotBeExchanged(t *testing.T) {
	b := statement.OpenEpoch{Receipt: receipt.Made{Epoch: 1}, ValidUntil: 9}
	s, err := statement.Parse(signProcess(b))
	if err != nil {
		t.Fatal(err)
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	s.Receipt = receipt.Sign(other, vault, receipt.KindMade, b.Receipt.Append(nil))
	if s.VerifyProcess(vault) {
		t.Fatal("another rotator's receipt passes under the custodian's signature")
	}
	wrong := receipt.Sign(maker, vault, receipt.KindRewrapped, b.Receipt.Append(nil))
	if s, err = statement.Parse(statement.SignProcess(chief, vault, b, &wrong)); err != nil || s.VerifyProcess(vault) {
		t.Fatal("a receipt of another kind passes")
	}
	if s, err = statement.Parse(statement.SignProcess(chief, vault, b, nil)); err != nil || s.VerifyProcess(vault) {
		t.Fatal("no receipt passes")
	}
}

func FuzzParseStatement(f *testing.F) { fuzz(f, false) }

func FuzzParseAct(f *testing.F) { fuzz(f, true) }

func fuzz(f *testing.F, acts bool) {
	for _, b := range bodies() {
		if b.Kind().ByAuthority() == acts {
			f.Add(wireOf(b))
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		if acts {
			if b, err := statement.ParseAct(wire); err == nil && !bytes.Equal(statement.AppendAct(nil, b), wire) {
				t.Fatalf("%x has two spellings", wire)
			}
			return
		}
		s, err := statement.Parse(wire)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Append(nil), wire) {
			t.Fatalf("%x has two spellings", wire)
		}
		_ = s.VerifyProcess(vault)
	})
}
