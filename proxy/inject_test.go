package proxy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
)

// seen is what an upstream was asked.
type seen struct {
	Header http.Header
	URI    string
	Host   string
	Proto  string
}

func TestInjects(t *testing.T) {
	for name, test := range map[string]struct {
		c     credential.Credential
		check func(seen) bool
	}{
		"bearer": {cred(credential.Bearer, "", testSecret), func(s seen) bool {
			return len(s.Header["Authorization"]) == 1 && s.Header.Get("Authorization") == "Bearer "+testSecret
		}},
		"basic": {cred(credential.Basic, "", "me:pass:word"), func(s seen) bool {
			return len(s.Header["Authorization"]) == 1 && s.Header.Get("Authorization") == "Basic bWU6cGFzczp3b3Jk"
		}},
		"token": {cred(credential.Token, "x-api-key: v1 {secret}", testSecret), func(s seen) bool {
			return len(s.Header["X-Api-Key"]) == 1 && s.Header.Get("X-Api-Key") == "v1 "+testSecret &&
				s.Header.Get("Authorization") == "Bearer placeholder" && s.Header["X_api_key"] == nil
		}},
		"query": {cred(credential.Query, "key", "a&b c"), func(s seen) bool {
			return s.URI == "/p/%2F//x?a=1;z&b=%zz&key=a%26b+c"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan seen, 1)
			r := newRig(t, test.c, func(w http.ResponseWriter, r *http.Request) {
				got <- seen{r.Header.Clone(), r.RequestURI, r.Host, r.Proto}
			})
			each(t, func(t *testing.T, h2 bool, base string) {
				req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/p/%2F//x?a=1;z&key=old&b=%zz&%6bey=2&KEY=3&q;key=4", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header["Authorization"] = []string{"Bearer placeholder", "Bearer other"}
				if test.c.Kind == credential.Token {
					req.Header["Authorization"] = req.Header["Authorization"][:1]
				}
				req.Header["X-Api-Key"] = []string{"one", "two"}
				req.Header["X_api_key"] = []string{"three"}
				req.Header.Set("Connection", "Authorization")
				if h2 {
					req.Header.Del("Connection")
				} else if test.c.Kind == credential.Token {
					req.Header.Del("Connection")
				}
				resp, err := r.client(t, h2).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Fatal(resp.Status)
				}
				s := <-got
				if !test.check(s) || s.Host != testHost || s.Header.Get("Proxy-Authorization") != "" || s.Header.Get("Proxy-Connection") != "" {
					t.Errorf("%+v", s)
				}
				if strings.HasPrefix(base, "https") && s.Proto != "HTTP/2.0" {
					t.Errorf("upstream was spoken to in %s", s.Proto)
				}
			})
		})
	}
}

// What cannot be put on the wire is refused, and the upstream hears nothing.
func TestUnfit(t *testing.T) {
	for name, c := range map[string]credential.Credential{
		"line break":        cred(credential.Bearer, "", "abc\r\nX: y"),
		"trailing newline":  cred(credential.Bearer, "", "abc\n"),
		"DEL":               cred(credential.Bearer, "", "a\x7f"),
		"not ASCII":         cred(credential.Bearer, "", "é"),
		"query line break":  cred(credential.Query, "k", "a\nb"),
		"query no name":     cred(credential.Query, "", "a"),
		"basic no user":     cred(credential.Basic, "", "abc"),
		"no template":       cred(credential.Token, "", "abc"),
		"no slot":           cred(credential.Token, "X-Key: abc", "abc"),
		"two slots":         cred(credential.Token, "X-Key: {secret}{secret}", "abc"),
		"bad name":          cred(credential.Token, "X Key: {secret}", "abc"),
		"steering header":   cred(credential.Token, "transfer-encoding: {secret}", "abc"),
		"host header":       cred(credential.Token, "Host: {secret}", "abc"),
		"other":             cred(credential.Other, "", "abc"),
		"too long":          cred(credential.Bearer, "", strings.Repeat("a", maxWire+1)),
		"sigv4 one line":    cred(credential.SigV4, "", "abc"),
		"sigv4 with a tab":  cred(credential.SigV4, "", "abc\nd\te"),
		"sigv4 four lines":  cred(credential.SigV4, "", "a\nb\nc\nd"),
		"sigv4 empty parts": cred(credential.SigV4, "", "\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c, func(http.ResponseWriter, *http.Request) { t.Error("called") })
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://"+testHost+"/", nil)
			req.Header.Set("Authorization", awsAuth)
			resp, err := r.client(t, true).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if e := refusalOf(t, resp); e.Code != "credential_unfit" {
				t.Errorf("%+v", e)
			}
		})
	}
}

const awsAuth = "AWS4-HMAC-SHA256 Credential=AKIAPLACEHOLDER/20260101/eu-central-1/dynamodb/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"

func refusalOf(t *testing.T, resp *http.Response) (e api.Error) {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal(b, &e) != nil || resp.Header.Get(RefusalHeader) != e.Code || resp.Header.Get("Content-Type") != "application/json" || e.Status != resp.StatusCode || e.Message == "" || e.Next == "" {
		t.Fatalf("no refusal: %s %v %q", resp.Status, resp.Header, b)
	}
	return e
}

func FuzzSetQuery(f *testing.F) {
	f.Add("a=1&key=2;b&%6Bey&c", "key", "v&%=")
	f.Fuzz(func(t *testing.T, raw, name, value string) {
		u := &url.URL{RawQuery: raw}
		setQuery(u, name, value)
		last := u.RawQuery[strings.LastIndexByte(u.RawQuery, '&')+1:]
		q, err := url.ParseQuery(last)
		if err != nil || len(q[name]) != 1 || q[name][0] != value {
			t.Fatalf("%q: %v %v", u.RawQuery, q, err)
		}
		for pair := range strings.SplitSeq(strings.TrimSuffix(u.RawQuery, last), "&") {
			if pair != "" && names(pair, name) {
				t.Fatalf("%q keeps %q", u.RawQuery, pair)
			}
		}
	})
}
