// Package fakekms is a KMS for tests: what AWS's documentation says of keys with imported
// material, over HTTP or TLS, and nothing else. It checks no signature.
package fakekms

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
	"slices"
	"strings"
	"sync"
	"time"
)

// KMS answers the calls that an anchor makes, and those of a thief, with
// what its documentation says of keys with imported material: a ciphertext opens only
// while that very material is there; deleting material is at once; a key takes back
// only the material it had; a deletion waits for 7 to 30 days and can be cancelled;
// import parameters are good for 24 hours and any number of imports.
type KMS struct {
	Mu       sync.Mutex // holds for the fields that follow
	Now      time.Time
	Keys     map[string]*Key // by ARN
	Requests []Request       // what was inside TLS
	Lag      int             // looks for which deleted material still shows
	Refused  map[string]bool // action: the account does not allow it

	imports map[string]importParameters // by token
	private *rsa.PrivateKey

	wireMu sync.Mutex
	wire   []byte // what crossed the TCP connection
}

// Key is one with imported material.
type Key struct {
	Material []byte // nil = PendingImport
	Disabled bool
	DeleteAt time.Time // zero = not pending
	first    []byte    // the material this key is bound to for ever
	lag      int       // looks until deleted material is gone
}

type importParameters struct {
	key   string
	until time.Time
}

// Request is one call and what it was answered.
type Request struct {
	Action string
	Body   []byte
	Answer []byte
}

// failure is the code that KMS gives.
type failure string

// wrappingKey is slow to make.
var wrappingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 4096) })

// New makes a KMS without keys; it is an http.Handler.
func New() (*KMS, error) {
	private, err := wrappingKey()
	if err != nil {
		return nil, err
	}
	return &KMS{Now: time.Unix(1_800_000_000, 0), Keys: map[string]*Key{}, imports: map[string]importParameters{}, private: private,
		Refused: map[string]bool{}}, nil
}

// Record keeps what crosses a link, TLS and all: see [KMS.Recorded].
func (f *KMS) Record(l net.Listener) net.Listener { return recordingListener{l, f} }

// Advance lets time pass; keys whose time has come are deleted.
func (f *KMS) Advance(d time.Duration) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Now = f.Now.Add(d)
	for arn, k := range f.Keys {
		if !k.DeleteAt.IsZero() && !f.Now.Before(k.DeleteAt) {
			delete(f.Keys, arn)
		}
	}
}

// Input is the fields of every call that is understood.
type Input struct {
	KeyId, Origin, KeySpec, KeyUsage, WrappingAlgorithm, WrappingKeySpec, ExpirationModel string
	ImportToken, EncryptedKeyMaterial, Plaintext, CiphertextBlob                          []byte
	EncryptionContext                                                                     map[string]string
	PendingWindowInDays                                                                   int
	Tags                                                                                  []struct{ TagKey, TagValue string }
}

// ServeHTTP answers one call.
func (f *KMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	var in Input
	if err != nil || json.Unmarshal(body, &in) != nil || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	f.Mu.Lock()
	defer f.Mu.Unlock()
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
	f.Requests = append(f.Requests, Request{action, body, answer})
	_, _ = w.Write(answer)
}

func (f *KMS) call(action string, in Input) (any, failure) {
	if f.Refused[action] {
		return nil, "AccessDeniedException"
	}
	if action == "CreateKey" {
		return f.createKey(in)
	}
	k, ok := f.Keys[in.KeyId]
	if !ok {
		return nil, "NotFoundException"
	}
	if k.lag > 0 {
		if k.lag--; k.lag == 0 {
			k.Material = nil
		}
	}
	pending := !k.DeleteAt.IsZero()
	switch action {
	case "DescribeKey":
		return map[string]any{"KeyMetadata": map[string]any{"KeyId": in.KeyId, "Arn": in.KeyId, "Origin": "EXTERNAL", "KeyState": f.state(k)}}, ""
	case "GetParametersForImport":
		return f.parameters(in, pending)
	case "ImportKeyMaterial":
		return f.importMaterial(in, k)
	case "DeleteImportedKeyMaterial":
		if k.lag = f.Lag; k.lag == 0 {
			k.Material = nil
		}
		return map[string]any{}, ""
	case "ScheduleKeyDeletion":
		if pending {
			return nil, "KMSInvalidStateException"
		}
		if in.PendingWindowInDays < 7 || in.PendingWindowInDays > 30 {
			return nil, "ValidationException"
		}
		k.DeleteAt = f.Now.Add(time.Duration(in.PendingWindowInDays) * 24 * time.Hour)
		return map[string]any{"KeyId": in.KeyId, "KeyState": "PendingDeletion"}, ""
	case "CancelKeyDeletion":
		if !pending {
			return nil, "KMSInvalidStateException"
		}
		k.DeleteAt, k.Disabled = time.Time{}, k.Material != nil
		return map[string]any{"KeyId": in.KeyId}, ""
	case "EnableKey":
		if pending || k.Material == nil {
			return nil, "KMSInvalidStateException"
		}
		k.Disabled = false
		return map[string]any{}, ""
	case "Encrypt", "Decrypt":
		return f.crypt(action, in, k)
	}
	return nil, "UnknownOperationException"
}

func (f *KMS) state(k *Key) string {
	switch {
	case !k.DeleteAt.IsZero():
		return "PendingDeletion"
	case k.Material == nil:
		return "PendingImport"
	case k.Disabled:
		return "Disabled"
	}
	return "Enabled"
}

func (f *KMS) createKey(in Input) (any, failure) {
	if in.Origin != "EXTERNAL" || in.KeySpec != "SYMMETRIC_DEFAULT" || in.KeyUsage != "ENCRYPT_DECRYPT" || len(in.Tags) != 1 {
		return nil, "ValidationException"
	}
	arn := fmt.Sprintf("arn:aws:kms:us-east-1:000000000000:key/%08x-0000-0000-0000-000000000000", len(f.Keys)+1)
	for f.Keys[arn] != nil {
		arn += "0"
	}
	f.Keys[arn] = &Key{}
	return map[string]any{"KeyMetadata": map[string]any{"KeyId": arn, "Arn": arn, "Origin": "EXTERNAL", "KeyState": "PendingImport"}}, ""
}

func (f *KMS) parameters(in Input, pending bool) (any, failure) {
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
	token, until := rand.Text(), f.Now.Add(24*time.Hour)
	f.imports[token] = importParameters{in.KeyId, until}
	return map[string]any{"KeyId": in.KeyId, "ImportToken": []byte(token), "PublicKey": public, "ParametersValidTo": until.Unix()}, ""
}

func (f *KMS) importMaterial(in Input, k *Key) (any, failure) {
	p, ok := f.imports[string(in.ImportToken)]
	switch {
	case !ok || p.key != in.KeyId:
		return nil, "InvalidImportTokenException"
	case f.Now.After(p.until):
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
	k.first, k.Material = material, material
	return map[string]any{}, ""
}

func (f *KMS) crypt(action string, in Input, k *Key) (any, failure) {
	switch f.state(k) {
	case "Disabled":
		return nil, "DisabledException"
	case "PendingDeletion", "PendingImport":
		return nil, "KMSInvalidStateException"
	}
	block, err := aes.NewCipher(k.Material)
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

// Recorded is what crossed the listener of Record.
func (f *KMS) Recorded() []byte {
	f.wireMu.Lock()
	defer f.wireMu.Unlock()
	return slices.Clone(f.wire)
}

// Sent gives the calls of one action.
func (f *KMS) Sent(action string) (bodies []Request) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	for _, r := range f.Requests {
		if r.Action == action {
			bodies = append(bodies, r)
		}
	}
	return bodies
}

// recordingListener keeps what crosses the link, TLS and all.
type recordingListener struct {
	net.Listener
	f *KMS
}

func (l recordingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return recordingConn{c, l.f}, err
}

type recordingConn struct {
	net.Conn
	f *KMS
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
