package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// PinnedTransport speaks TLS 1.3 and accepts exactly the certificate with this
// SHA-256 (of the DER bytes), whatever its names say: trust comes from the pin.
func PinnedTransport(pin [32]byte) *http.Transport {
	return &http.Transport{
		MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute,
		ForceAttemptHTTP2: false,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS13,
			InsecureSkipVerify: true, //nolint:gosec // VerifyPeerCertificate below compares the pin instead
			VerifyPeerCertificate: func(certs [][]byte, _ [][]*x509.Certificate) error {
				if len(certs) == 0 {
					return errors.New("tls: no certificate")
				}
				got := sha256.Sum256(certs[0])
				if subtle.ConstantTimeCompare(got[:], pin[:]) != 1 {
					return errors.New("tls: this is not the custodian of the profile: its certificate has SHA-256 " + hex.EncodeToString(got[:]))
				}
				return nil
			},
		},
	}
}

// Call posts a JSON request and reads a JSON answer. A refusal comes back as
// [*Error]; a server that cannot be reached as an Error with code "unreachable".
func Call(ctx context.Context, c *http.Client, method, url string, header http.Header, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &Error{Status: 503, Code: "unreachable", Message: err.Error(), Next: "See whether it runs: agentkeys dev status", Retry: true}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxResponse))
	if err != nil {
		return fmt.Errorf("response: %w", err)
	}
	if resp.StatusCode >= 300 {
		e := &Error{}
		if json.Unmarshal(b, e) != nil || e.Code == "" {
			e = &Error{Status: resp.StatusCode, Code: "http", Message: resp.Status}
		}
		return e
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}
