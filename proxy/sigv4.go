package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"example.org/agentkeys/api"
)

// maxHashed is the largest body that is held in memory to be hashed, for clients that
// send no x-amz-content-sha256. S3 clients send it.
const maxHashed = 16 << 20

// maxHashing is how many such bodies are held at once, of all children: until the head
// of the answer has come.
const maxHashing = 8

const (
	contentHash = "X-Amz-Content-Sha256"
	tokenHeader = "X-Amz-Security-Token"
	unsigned    = "UNSIGNED-PAYLOAD"
	trailing    = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// scope is what a client's own signature, made with a placeholder, tells of a request.
type scope struct {
	region, service string
	signed          []string // headers, lower case
}

// sign replaces the client's signature by one with the secret: access key id, newline,
// secret key, and with temporary keys newline, session token.
func sign(out *http.Request, secret []byte) error {
	s, err := readScope(out)
	if err != nil {
		return err
	}
	part := bytes.Split(bytes.TrimRight(secret, "\n"), []byte("\n"))
	if len(part) < 2 || len(part) > 3 || len(part[0]) == 0 || len(part[1]) == 0 {
		return errUnfit("it is not an access key id, a line break and a secret key")
	}
	keys := aws.Credentials{AccessKeyID: string(part[0]), SecretAccessKey: string(part[1])}
	if len(part) == 3 {
		keys.SessionToken = string(part[2])
	}
	hash, err := payloadHash(out)
	if err != nil {
		return err
	}
	if s.service == "s3" {
		out.Header.Set(contentHash, hash)
	}
	return resign(out, s, keys, hash)
}

// resign signs what the client had signed, and puts what comes out of it into out.
func resign(out *http.Request, s scope, keys aws.Credentials, hash string) error {
	for _, h := range []string{"Authorization", tokenHeader, "X-Amz-Date"} {
		out.Header.Del(h)
	}
	r := out.Clone(context.Background())
	r.Header = http.Header{}
	for name, values := range out.Header {
		low := strings.ToLower(name)
		if low == "content-type" || strings.HasPrefix(low, "x-amz-") || contains(s.signed, low) {
			r.Header[name] = values
		}
	}
	// A new signer each time: it keeps keys derived from the secret, and a lease is short.
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = strings.HasPrefix(s.service, "s3") })
	if err := signer.SignHTTP(out.Context(), keys, r, hash, s.service, s.region, time.Now()); err != nil {
		return errRequest("the request cannot be signed for AWS")
	}
	for _, h := range []string{"Authorization", "X-Amz-Date", tokenHeader} {
		if v := r.Header.Get(h); v != "" {
			setHeader(out, h, v)
		}
	}
	out.URL.RawQuery = r.URL.RawQuery // as it was signed
	return nil
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

func errSigning(message, next string) error {
	return &api.Error{Status: http.StatusBadRequest, Code: "signing_refused", Message: message, Next: next}
}

// readScope reads region, service and signed headers from Authorization:
// AWS4-HMAC-SHA256 Credential=ID/date/region/service/aws4_request, SignedHeaders=a;b, Signature=...
func readScope(out *http.Request) (scope, error) {
	q := out.URL.Query()
	for name := range q {
		if strings.EqualFold(name, "X-Amz-Signature") || strings.EqualFold(name, "X-Amz-Credential") {
			return scope{}, errSigning("presigned URLs are not signed again", "Send the request itself, with the placeholder keys in the environment")
		}
	}
	kind, rest, _ := strings.Cut(out.Header.Get("Authorization"), " ")
	if kind != "AWS4-HMAC-SHA256" || len(out.Header.Values("Authorization")) != 1 {
		return scope{}, errSigning("the request is not signed with AWS4-HMAC-SHA256",
			"Let the SDK sign with the placeholder keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; SigV4A and multi-region access points are not supported")
	}
	var s scope
	for field := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch key {
		case "Credential":
			part := strings.Split(value, "/")
			if len(part) == 5 && part[4] == "aws4_request" && isLabel(part[2]) && isLabel(part[3]) {
				s.region, s.service = part[2], part[3]
			}
		case "SignedHeaders":
			s.signed = strings.Split(strings.ToLower(value), ";")
		}
	}
	if s.service == "" {
		return scope{}, errSigning("the credential scope of the signature is not ID/date/region/service/aws4_request", "See the settings of the SDK")
	}
	return s, nil
}

func isLabel(s string) bool {
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// mustHash says that the body has to be read before anything can be sent.
func mustHash(out *http.Request) bool {
	return out.Header.Get(contentHash) == "" && out.Body != nil && out.Body != http.NoBody
}

// payloadHash is what the client says of its body, or the hash of the body.
func payloadHash(out *http.Request) (string, error) {
	said := out.Header.Get(contentHash)
	switch {
	case said == unsigned, said == trailing, len(said) == 64 && isHex(said):
		return said, nil
	case said != "":
		return "", errSigning("a body signed chunk by chunk cannot be signed again",
			"Set the SDK to unsigned payloads: for example aws configure set default.s3.payload_signing_enabled false, chunkedEncodingEnabled(false) in Java; or use https, where SDKs do so by themselves")
	}
	if !mustHash(out) {
		h := sha256.Sum256(nil)
		return hex.EncodeToString(h[:]), nil
	}
	body, err := io.ReadAll(io.LimitReader(out.Body, maxHashed+1))
	if err != nil {
		return "", errRequest("the body ended early")
	}
	if len(body) > maxHashed {
		return "", &api.Error{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large",
			Message: "a body over 16 MiB without x-amz-content-sha256 cannot be signed", Next: "Set the SDK to send the hash, or UNSIGNED-PAYLOAD"}
	}
	out.Body, out.ContentLength = &held{bytes.NewReader(body), out.Body}, int64(len(body))
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:]), nil
}

// held is a body that was read to be hashed.
type held struct {
	io.Reader
	io.Closer
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil
}
