package custodian

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/statement"
)

// BenchmarkRead is a whole request without network: proof of the session, rows,
// cached envelope, open, record with fsync, rows again, receipt.
func BenchmarkRead(b *testing.B) {
	for name, clients := range map[string]int{"1 client": 1, "64 clients": 64} {
		b.Run(name, func(b *testing.B) { benchmarkRead(b, clients) })
	}
}

func benchmarkRead(b *testing.B, clients int) {
	w := newWorld(b)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(3000))
	_, text, key, err := w.login(w.scribe)
	check(b, err)
	body, err := json.Marshal(api.Read{Service: "github"})
	check(b, err)
	h := w.s.Handler()
	b.SetParallelism(max(clients/2, 1))
	read := func() {
		r := httptest.NewRequest(http.MethodPost, api.PathRead, bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+text)
		r.Header.Set(api.ProofHeader, api.Prove(key, w.vault, text, http.MethodPost, api.PathRead, body, time.Now()))
		out := httptest.NewRecorder()
		if h.ServeHTTP(out, r); out.Code != http.StatusOK {
			b.Errorf("%d %s", out.Code, out.Body)
		}
	}
	b.ResetTimer()
	if clients == 1 {
		for b.Loop() {
			read()
		}
		return
	}
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			read()
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	w := newWorld(b)
	c := w.session(w.owner)
	names := make([]string, b.N)
	for i := range names {
		names[i] = "s" + time.Unix(int64(i), 0).UTC().Format("20060102150405")
	}
	cred := secretBytes(b, "one")
	b.ResetTimer()
	for _, name := range names {
		if _, err := w.s.write(b.Context(), c, api.Write{Service: name, Credential: append([]byte(nil), cred...), Idle: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
