// Package kmsanchor is an [erasure.Anchor] on AWS KMS: each root is encrypted under a
// key of its own whose material was made here, imported and forgotten. To forget the
// root, the imported material is deleted, which KMS does at once, and the empty key is
// scheduled for deletion, which takes at least 7 days and can be cancelled. A cancelled
// key is still empty. docs/spec/anchors.md, "AWS KMS".
//
// KMS takes the same material again. So it must never exist outside this process: it is
// 32 random bytes that are encrypted to KMS's import key and cleared. What is left is
// the encrypted import itself: for 24 hours whoever has its bytes, which only travel
// inside TLS, and may cancel a deletion and import, brings the key back.
//
// State: the key in KMS; the ciphertexts in the directory of [wrapanchor].
package kmsanchor

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/wrapanchor"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Config says which KMS and what for.
type Config struct {
	Client *kms.Client // its rights: docs/spec/anchors.md, "AWS KMS"
	Dir    string      // for two files of ciphertext; of this anchor alone
	ID     erasure.AnchorID
	// Policy is the key policy of every key made, JSON; empty is that of the account.
	Policy string
}

// Anchor is a [wrapanchor.Anchor] with its kind and limit.
type Anchor struct{ *wrapanchor.Anchor }

// New calls nothing.
func New(cfg Config) (*Anchor, error) {
	if cfg.Client == nil || cfg.Dir == "" {
		return nil, errors.New("kms anchor: client or directory is missing")
	}
	return &Anchor{wrapanchor.New("kms anchor", cfg.Dir, &keys{client: cfg.Client, policy: cfg.Policy,
		context: map[string]string{contextKey: hex.EncodeToString(cfg.ID[:])}})}, nil
}

// Kind is the kind in the Anchor row.
func (a *Anchor) Kind() string { return "kms" }

// Limit says what this anchor does not withstand.
func (a *Anchor) Limit() string {
	return "kms anchor: that AWS deleted the material is attested by AWS, not proved, and AWS sees each root. Kept import material undoes an erasure: " +
		"for 24 hours after a commit that is the recorded import call, with the right to cancel a key's deletion and to import. " +
		"Whoever may decrypt in that account reads the present root"
}

const (
	// contextKey is the encryption context and the tag of every key.
	contextKey = "agentkeys-anchor"
	// pendingDays is the shortest that KMS allows.
	pendingDays = 7
	// KMS answers from more than one place: what was just done may not show yet.
	settleTries = 20
	settleWait  = 250 * time.Millisecond
)

// keys is KMS as wrapanchor sees it. Names are key ARNs.
type keys struct {
	client  *kms.Client
	policy  string
	context map[string]string
}

// Name makes a key without material. A crash before its name is written leaves it,
// empty and tagged, in the account.
func (k *keys) Name(ctx context.Context) (string, error) {
	in := &kms.CreateKeyInput{
		Origin: types.OriginTypeExternal, KeySpec: types.KeySpecSymmetricDefault, KeyUsage: types.KeyUsageTypeEncryptDecrypt,
		Description: aws.String("AgentKeys anchor: one root, deleted with it"),
		Tags:        []types.Tag{{TagKey: aws.String(contextKey), TagValue: aws.String(k.context[contextKey])}},
	}
	if k.policy != "" {
		in.Policy = aws.String(k.policy)
	}
	out, err := k.client.CreateKey(ctx, in)
	if err != nil {
		return "", err
	}
	if out.KeyMetadata == nil || aws.ToString(out.KeyMetadata.Arn) == "" {
		return "", errors.New("create key: answer has no ARN")
	}
	return *out.KeyMetadata.Arn, nil
}

// Seal imports fresh material and encrypts the root under it.
func (k *keys) Seal(ctx context.Context, name string, root erasure.Root) ([]byte, error) {
	if err := k.fill(ctx, name); err != nil {
		return nil, err
	}
	var out *kms.EncryptOutput
	err := k.settle(ctx, func() (again bool, err error) {
		out, err = k.client.Encrypt(ctx, &kms.EncryptInput{KeyId: &name, Plaintext: root[:], EncryptionContext: k.context})
		return isState(err), err // PendingImport may still show
	})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

// fill makes the material, imports it and forgets it.
func (k *keys) fill(ctx context.Context, name string) error {
	var p *kms.GetParametersForImportOutput
	err := k.settle(ctx, func() (again bool, err error) {
		p, err = k.client.GetParametersForImport(ctx, &kms.GetParametersForImportInput{KeyId: &name,
			WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa4096})
		return isNotFound(err), err // the new key may not show yet
	})
	if err != nil {
		return err
	}
	key, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		return fmt.Errorf("import key: %w", err)
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok || public.Size() < 512 {
		return errors.New("import key: want RSA of 4096 bits")
	}
	material := make([]byte, 32)
	defer clear(material)
	rand.Read(material)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, material, nil)
	if err != nil {
		return fmt.Errorf("import key: %w", err)
	}
	_, err = k.client.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{KeyId: &name, ImportToken: p.ImportToken,
		EncryptedKeyMaterial: wrapped, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire})
	return err
}

// Open decrypts. Only a key that has no material any more, or is deleted, is gone: one
// that is disabled or pending deletion by somebody else's hand can come back.
func (k *keys) Open(ctx context.Context, name string, blob []byte) (root erasure.Root, err error) {
	out, err := k.client.Decrypt(ctx, &kms.DecryptInput{KeyId: &name, CiphertextBlob: blob, EncryptionContext: k.context})
	if isState(err) {
		return root, k.why(ctx, name, err)
	}
	if isNotFound(err) {
		return root, fmt.Errorf("%w: %w", wrapanchor.ErrGone, err)
	}
	if err != nil {
		return root, err
	}
	defer clear(out.Plaintext)
	if len(out.Plaintext) != len(root) {
		return root, fmt.Errorf("ciphertext of key %s does not hold a root", name)
	}
	copy(root[:], out.Plaintext)
	return root, nil
}

// why explains a key that does not decrypt.
func (k *keys) why(ctx context.Context, name string, refusal error) error {
	state, err := k.state(ctx, name)
	switch {
	case isNotFound(err):
		return fmt.Errorf("%w: %w", wrapanchor.ErrGone, err)
	case err != nil:
		return err
	case state == types.KeyStatePendingImport:
		return fmt.Errorf("%w: no material", wrapanchor.ErrGone)
	case state == types.KeyStatePendingDeletion:
		return fmt.Errorf("key %s is pending deletion: if its root is still needed, cancel the deletion, else evict the anchor", name)
	}
	return fmt.Errorf("key %s is %s: %w", name, state, refusal)
}

// Destroy deletes the material, sees that KMS acts on it, and has the empty key
// deleted. Of a key that is pending deletion the material goes all the same.
func (k *keys) Destroy(ctx context.Context, name string, blob []byte) error {
	_, err := k.client.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: &name})
	if isNotFound(err) {
		return nil
	}
	if err != nil && !isState(err) { // a key that never had any may refuse; its state tells
		return err
	}
	err = k.settle(ctx, func() (again bool, err error) { return k.empty(ctx, name, blob) })
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = k.client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &name, PendingWindowInDays: aws.Int32(pendingDays)})
	if isState(err) || isNotFound(err) { // done by an earlier try
		return nil
	}
	return err
}

// empty is nil once the key has no material and blob does not open.
func (k *keys) empty(ctx context.Context, name string, blob []byte) (again bool, err error) {
	state, err := k.state(ctx, name)
	if err != nil {
		return false, err
	}
	if state != types.KeyStatePendingImport && state != types.KeyStatePendingDeletion {
		return true, fmt.Errorf("key %s is %s after its material was deleted", name, state)
	}
	if len(blob) == 0 {
		return false, nil
	}
	root, err := k.Open(ctx, name, blob)
	clear(root[:])
	if err == nil {
		return true, fmt.Errorf("key %s still decrypts after its material was deleted", name)
	}
	if errors.Is(err, wrapanchor.ErrGone) || state == types.KeyStatePendingDeletion {
		return false, nil
	}
	return false, err
}

func (k *keys) state(ctx context.Context, name string) (types.KeyState, error) {
	out, err := k.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &name})
	if err != nil {
		return "", err
	}
	if out.KeyMetadata == nil {
		return "", errors.New("describe key: answer is empty")
	}
	return out.KeyMetadata.KeyState, nil
}

// settle repeats what KMS may not show yet, for some seconds.
func (k *keys) settle(ctx context.Context, try func() (again bool, err error)) error {
	for n := 1; ; n++ {
		again, err := try()
		if err == nil || !again || n == settleTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settleWait):
		}
	}
}

func isState(err error) bool {
	var state *types.KMSInvalidStateException
	return errors.As(err, &state)
}

func isNotFound(err error) bool {
	var missing *types.NotFoundException
	return errors.As(err, &missing)
}
