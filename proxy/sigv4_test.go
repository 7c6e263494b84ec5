package proxy

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"example.org/agentkeys/credential"
)

const (
	awsID     = "AKIAREALREALREALREAL"
	awsKey    = "real/secret+key0123456789abcdefghijklmnop"
	awsToken  = "real+session/token=="
	awsSecret = awsID + "\n" + awsKey
)

// verifyAWS checks a signature as the service would, written from the specification of
// Signature Version 4 and not with the signer.
func verifyAWS(r *http.Request, key string, s3 bool) bool {
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return false
	}
	field := map[string]string{}
	for f := range strings.SplitSeq(auth, ", ") {
		k, v, _ := strings.Cut(f, "=")
		field[k] = v
	}
	id, scope, _ := strings.Cut(field["Credential"], "/")
	part := strings.Split(scope, "/")
	body, _ := io.ReadAll(r.Body)
	hash := r.Header.Get("X-Amz-Content-Sha256")
	if hash == "" || len(hash) == 64 {
		sum := sha256.Sum256(body)
		if hash != "" && hash != hex.EncodeToString(sum[:]) {
			return false
		}
		hash = hex.EncodeToString(sum[:])
	}
	path := r.URL.EscapedPath()
	if !s3 {
		path = strings.ReplaceAll(url.PathEscape(path), "%2F", "/")
	}
	var query []string
	for k, vs := range r.URL.Query() {
		for _, v := range vs {
			query = append(query, strings.ReplaceAll(url.QueryEscape(k)+"="+url.QueryEscape(v), "+", "%20"))
		}
	}
	slices.Sort(query)
	lines := []string{r.Method, path, strings.Join(query, "&")}
	for name := range strings.SplitSeq(field["SignedHeaders"], ";") {
		v := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			v = r.Host
		case "content-length":
			v = r.Header.Get("Content-Length")
		}
		lines = append(lines, name+":"+strings.Join(strings.Fields(v), " "))
	}
	lines = append(lines, "", field["SignedHeaders"], hash)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	k := []byte("AWS4" + key)
	for _, p := range part {
		k = hmacOf(k, p)
	}
	want := hmacOf(k, strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(sum[:])}, "\n"))
	return id == awsID && field["Signature"] == hex.EncodeToString(want)
}

func hmacOf(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

func awsRig(t *testing.T, secret string, isS3 bool) *rig {
	return newRig(t, cred(credential.SigV4, "", secret), func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength >= 0 {
			r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
		}
		if strings.Contains(r.Header.Get("Authorization"), "PLACEHOLDER") || strings.Contains(r.Header.Get("X-Amz-Security-Token"), "placeholder") {
			t.Error("the placeholder went on")
		}
		if !verifyAWS(r, awsKey, isS3) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "SignatureDoesNotMatch "+r.Header.Get("Authorization")+r.Header.Get("X-Amz-Security-Token"))
			return
		}
		w.Header().Set("X-Token", r.Header.Get("X-Amz-Security-Token"))
		_, _ = io.WriteString(w, "ok")
	})
}

func TestSignsAgain(t *testing.T) {
	for name, test := range map[string]struct {
		secret, service, method, path, body, hash string
	}{
		"get":             {awsSecret, "s3", "GET", "/bucket/a%20b/%C3%A9+c?list-type=2&prefix=x%2Fy&acl", "", emptyHash},
		"post hashed":     {awsSecret, "dynamodb", "POST", "/", `{"TableName":"t"}`, ""},
		"post path":       {awsSecret, "lambda", "POST", "/2015-03-31/functions/a%3Ab/invocations", `{}`, ""},
		"put unsigned":    {awsSecret, "s3", "PUT", "/bucket/key", "hello", unsigned},
		"put trailer":     {awsSecret, "s3", "PUT", "/bucket/key", "5\r\nhello\r\n0\r\n\r\n", trailing},
		"s3 without hash": {awsSecret, "s3", "PUT", "/bucket/key", "hello", ""},
		"session token":   {awsSecret + "\n" + awsToken, "sts", "POST", "/", "Action=GetCallerIdentity", ""},
		"trailing break":  {awsSecret + "\n", "sts", "POST", "/", "Action=GetCallerIdentity", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := awsRig(t, test.secret, test.service == "s3")
			each(t, func(t *testing.T, h2 bool, base string) {
				req, err := http.NewRequestWithContext(t.Context(), test.method, base+test.path, strings.NewReader(test.body))
				if err != nil {
					t.Fatal(err)
				}
				if test.hash != "" {
					req.Header.Set(contentHash, test.hash)
				}
				req.Header.Set("X-Amz-Target", "a  b")
				req.Header.Set("Content-Type", "application/json")
				signPlaceholder(t, req, test.service)
				resp, err := r.client(t, h2).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				if string(b) != "ok" {
					t.Errorf("%s %q", resp.Status, b)
				}
				if token := resp.Header.Get("X-Token"); strings.Contains(token, awsToken) || (token != "") != strings.Contains(test.secret, awsToken) {
					t.Errorf("token %q", token)
				}
			})
		})
	}
}

const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func signPlaceholder(t *testing.T, req *http.Request, service string) {
	t.Helper()
	keys := aws.Credentials{AccessKeyID: "AKIAPLACEHOLDER", SecretAccessKey: "placeholder", SessionToken: "placeholder"}
	hash := req.Header.Get(contentHash)
	if hash == "" {
		hash = emptyHash
	}
	raw := req.URL.RawQuery
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, req, hash, service, "eu-central-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	req.URL.RawQuery = raw
}

func TestSigningRefused(t *testing.T) {
	for name, test := range map[string]struct {
		auth, query, hash, code string
		body                    io.Reader
	}{
		"chunk by chunk":    {awsAuth, "", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "signing_refused", nil},
		"chunks, trailer":   {awsAuth, "", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "signing_refused", nil},
		"presigned":         {"", "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00", "", "signing_refused", nil},
		"presigned, case":   {awsAuth, "?x-amz-signature=00", "", "signing_refused", nil},
		"unsigned":          {"", "", "", "signing_refused", nil},
		"bearer":            {"Bearer x", "", "", "signing_refused", nil},
		"SigV4A":            {strings.Replace(awsAuth, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", 1), "", "", "signing_refused", nil},
		"bad scope":         {strings.Replace(awsAuth, "dynamodb/", "", 1), "", "", "signing_refused", nil},
		"scope with a path": {strings.Replace(awsAuth, "dynamodb", "a b", 1), "", "", "signing_refused", nil},
		"too much to hash":  {awsAuth, "", "", "body_too_large", io.LimitReader(zeros{}, maxHashed+1)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, cred(credential.SigV4, "", awsSecret), func(http.ResponseWriter, *http.Request) { t.Error("called") })
			req, _ := http.NewRequestWithContext(t.Context(), "PUT", "https://"+testHost+"/"+test.query, test.body)
			if test.auth != "" {
				req.Header.Set("Authorization", test.auth)
			}
			if test.hash != "" {
				req.Header.Set(contentHash, test.hash)
			}
			resp, err := r.client(t, true).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if e := refusalOf(t, resp); e.Code != test.code {
				t.Errorf("%+v", e)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The AWS SDK, with a placeholder for a key, through the proxy.
func TestSDK(t *testing.T) {
	r := awsRig(t, awsSecret, true)
	c := s3.New(s3.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String("https://" + testHost), UsePathStyle: true, HTTPClient: r.client(t, true),
		Credentials:      credentials.NewStaticCredentialsProvider("AKIAPLACEHOLDER", "placeholder", ""),
		RetryMaxAttempts: 1,
	})
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("a key/ü+?"), Body: bytes.NewReader(make([]byte, 100_000))}); err != nil {
		t.Error(err)
	}
	pr, pw := io.Pipe()
	go func() {
		_, _ = pw.Write(make([]byte, 100_000))
		_ = pw.Close()
	}()
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("stream"), Body: pr, ContentLength: aws.Int64(100_000)},
		s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)); err != nil {
		t.Error(err)
	}
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("a key/ü+?"), Range: aws.String("bytes=0-1")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if b, _ := io.ReadAll(out.Body); string(b) != "ok" {
		t.Errorf("%q", b)
	}
}
