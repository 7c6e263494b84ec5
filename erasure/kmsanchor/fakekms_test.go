package kmsanchor

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeKMS answers the calls of KMS that an anchor makes, and those of a thief, with
// what its documentation says of keys with imported material: a ciphertext opens only
// while that very material is there; deleting material is at once; a key takes back
// only the material it had; a deletion waits for 7 to 30 days and can be cancelled;
// import parameters are good for 24 hours and any number of imports.
type fakeKMS struct {
	mu       sync.Mutex
	now      time.Time
	keys     map[string]*fakeKey
	imports  map[string]importParameters // by token
	private  *rsa.PrivateKey
	requests []request       // what was inside TLS
	lag      int             // looks for which deleted material still shows
	refused  map[string]bool // action: the account does not allow it

	wireMu sync.Mutex
	wire   []byte // what crossed the TCP connection
}

type fakeKey struct {
	material, first []byte // present, and the one this key is bound to for ever
	lag             int    // looks until deleted material is gone
	disabled        bool
	deleteAt        time.Time // zero = not pending
}

type importParameters struct {
	key   string
	until time.Time
}

type request struct {
	action string
	body   []byte
	answer []byte
}

// kmsError is the code that KMS gives.
type kmsError string

// wrappingKey is slow to make.
var wrappingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 4096) })

func startKMS(t *testing.T) (*fakeKMS, *httptest.Server) {
	t.Helper()
	private, err := wrappingKey()
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeKMS{now: time.Unix(1_800_000_000, 0), keys: map[string]*fakeKey{}, imports: map[string]importParameters{}, private: private,
		refused: map[string]bool{}}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	srv.Listener = recordingListener{srv.Listener, f}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return f, srv
}

func (f *fakeKMS) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	for arn, k := range f.keys {
		if !k.deleteAt.IsZero() && !f.now.Before(k.deleteAt) {
			delete(f.keys, arn)
		}
	}
}

type input struct {
	KeyId, Origin, KeySpec, KeyUsage, WrappingAlgorithm, WrappingKeySpec, ExpirationModel string
	ImportToken, EncryptedKeyMaterial, Plaintext, CiphertextBlob                          []byte
	EncryptionContext                                                                     map[string]string
	PendingWindowInDays                                                                   int
	Tags                                                                                  []struct{ TagKey, TagValue string }
}

func (f *fakeKMS) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	var in input
	if err != nil || json.Unmarshal(body, &in) != nil || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out, code := f.call(action, in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if code != "" {
		out = map[string]any{"__type": string(code), "message": action}
		w.WriteHeader(http.StatusBadRequest)
	}
	answer, err := json.Marshal(out)
	if err != nil {
		panic(err)
	}
	f.requests = append(f.requests, request{action, body, answer})
	_, _ = w.Write(answer)
}

func (f *fakeKMS) call(action string, in input) (any, kmsError) {
	if f.refused[action] {
		return nil, "AccessDeniedException"
	}
	if action == "CreateKey" {
		return f.createKey(in)
	}
	k, ok := f.keys[in.KeyId]
	if !ok {
		return nil, "NotFoundException"
	}
	if k.lag > 0 {
		if k.lag--; k.lag == 0 {
			k.material = nil
		}
	}
	pending := !k.deleteAt.IsZero()
	switch action {
	case "DescribeKey":
		return map[string]any{"KeyMetadata": map[string]any{"KeyId": in.KeyId, "Arn": in.KeyId, "Origin": "EXTERNAL", "KeyState": f.state(k)}}, ""
	case "GetParametersForImport":
		return f.parameters(in, pending)
	case "ImportKeyMaterial":
		return f.importMaterial(in, k)
	case "DeleteImportedKeyMaterial":
		if k.lag = f.lag; k.lag == 0 {
			k.material = nil
		}
		return map[string]any{}, ""
	case "ScheduleKeyDeletion":
		if pending {
			return nil, "KMSInvalidStateException"
		}
		if in.PendingWindowInDays < 7 || in.PendingWindowInDays > 30 {
			return nil, "ValidationException"
		}
		k.deleteAt = f.now.Add(time.Duration(in.PendingWindowInDays) * 24 * time.Hour)
		return map[string]any{"KeyId": in.KeyId, "KeyState": "PendingDeletion"}, ""
	case "CancelKeyDeletion":
		if !pending {
			return nil, "KMSInvalidStateException"
		}
		k.deleteAt, k.disabled = time.Time{}, k.material != nil
		return map[string]any{"KeyId": in.KeyId}, ""
	case "EnableKey":
		if pending || k.material == nil {
			return nil, "KMSInvalidStateException"
		}
		k.disabled = false
		return map[string]any{}, ""
	case "Encrypt", "Decrypt":
		return f.crypt(action, in, k)
	}
	return nil, "UnknownOperationException"
}

func (f *fakeKMS) state(k *fakeKey) string {
	switch {
	case !k.deleteAt.IsZero():
		return "PendingDeletion"
	case k.material == nil:
		return "PendingImport"
	case k.disabled:
		return "Disabled"
	}
	return "Enabled"
}

func (f *fakeKMS) createKey(in input) (any, kmsError) {
	if in.Origin != "EXTERNAL" || in.KeySpec != "SYMMETRIC_DEFAULT" || in.KeyUsage != "ENCRYPT_DECRYPT" || len(in.Tags) != 1 {
		return nil, "ValidationException"
	}
	arn := fmt.Sprintf("arn:aws:kms:us-east-1:000000000000:key/%08x-0000-0000-0000-000000000000", len(f.keys)+1)
	for f.keys[arn] != nil {
		arn += "0"
	}
	f.keys[arn] = &fakeKey{}
	return map[string]any{"KeyMetadata": map[string]any{"KeyId": arn, "Arn": arn, "Origin": "EXTERNAL", "KeyState": "PendingImport"}}, ""
}

func (f *fakeKMS) parameters(in input, pending bool) (any, kmsError) {
	if in.WrappingAlgorithm != "RSAES_OAEP_SHA_256" || in.WrappingKeySpec != "RSA_4096" {
		return nil, "ValidationException"
	}
	if pending {
		return nil, "KMSInvalidStateException"
	}
	public, err := x509.MarshalPKIXPublicKey(&f.private.PublicKey)
	if err != nil {
		panic(err)
	}
	token, until := rand.Text(), f.now.Add(24*time.Hour)
	f.imports[token] = importParameters{in.KeyId, until}
	return map[string]any{"KeyId": in.KeyId, "ImportToken": []byte(token), "PublicKey": public, "ParametersValidTo": until.Unix()}, ""
}

func (f *fakeKMS) importMaterial(in input, k *fakeKey) (any, kmsError) {
	p, ok := f.imports[string(in.ImportToken)]
	switch {
	case !ok || p.key != in.KeyId:
		return nil, "InvalidImportTokenException"
	case f.now.After(p.until):
		return nil, "ExpiredImportTokenException"
	case f.state(k) != "PendingImport":
		return nil, "KMSInvalidStateException"
	case in.ExpirationModel != "KEY_MATERIAL_DOES_NOT_EXPIRE":
		return nil, "ValidationException"
	}
	material, err := rsa.DecryptOAEP(sha256.New(), nil, f.private, in.EncryptedKeyMaterial, nil)
	if err != nil || len(material) != 32 {
		return nil, "InvalidCiphertextException"
	}
	if k.first != nil && !bytes.Equal(k.first, material) {
		return nil, "IncorrectKeyMaterialException"
	}
	k.first, k.material = material, material
	return map[string]any{}, ""
}

func (f *fakeKMS) crypt(action string, in input, k *fakeKey) (any, kmsError) {
	switch f.state(k) {
	case "Disabled":
		return nil, "DisabledException"
	case "PendingDeletion", "PendingImport":
		return nil, "KMSInvalidStateException"
	}
	block, err := aes.NewCipher(k.material)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	aad := fmt.Append([]byte(in.KeyId), in.EncryptionContext)
	if action == "Encrypt" {
		return map[string]any{"KeyId": in.KeyId, "CiphertextBlob": gcm.Seal(nil, nil, in.Plaintext, aad)}, ""
	}
	plain, err := gcm.Open(nil, nil, in.CiphertextBlob, aad)
	if err != nil {
		return nil, "InvalidCiphertextException"
	}
	return map[string]any{"KeyId": in.KeyId, "Plaintext": plain}, ""
}

func (f *fakeKMS) recorded() []byte {
	f.wireMu.Lock()
	defer f.wireMu.Unlock()
	return slices.Clone(f.wire)
}

func (f *fakeKMS) sent(action string) (bodies []request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r.action == action {
			bodies = append(bodies, r)
		}
	}
	return bodies
}

// recordingListener keeps what crosses the link, TLS and all.
type recordingListener struct {
	net.Listener
	f *fakeKMS
}

func (l recordingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return recordingConn{c, l.f}, err
}

type recordingConn struct {
	net.Conn
	f *fakeKMS
}

func (c recordingConn) keep(b []byte) {
	c.f.wireMu.Lock()
	defer c.f.wireMu.Unlock()
	c.f.wire = append(c.f.wire, b...)
}

func (c recordingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.keep(b[:n])
	return n, err
}

func (c recordingConn) Write(b []byte) (int, error) {
	c.keep(b)
	return c.Conn.Write(b)
}
