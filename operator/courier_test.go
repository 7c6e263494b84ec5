package operator

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/rotation"
)

// objects is a store that gives and takes whole objects.
type objects struct {
	mu   sync.Mutex
	held map[string][]byte
	down bool
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := strings.TrimPrefix(r.URL.Path, "/bucket/")
	b, ok := o.held[key]
	switch {
	case o.down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.Method == http.MethodPut && ok:
		w.WriteHeader(http.StatusPreconditionFailed)
	case r.Method == http.MethodPut:
		o.held[key], _ = io.ReadAll(r.Body)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `<Error><Code>NoSuchKey</Code></Error>`)
	default:
		_, _ = w.Write(b)
	}
}

func testStore(t *testing.T) (*objects, *blobstore.Courier) {
	t.Helper()
	o := &objects{held: map[string][]byte{}}
	srv := httptest.NewServer(o)
	t.Cleanup(srv.Close)
	c, err := blobstore.NewCourier(blobstore.Session{Endpoint: srv.URL, Region: "us-east-1", Bucket: "bucket", AccessKey: "a",
		Secret: "b", SessionToken: "c", Expiry: time.Now().Add(time.Hour)}, srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	return o, c
}

func hashOf(b string) string {
	h := sha256.Sum256([]byte(b))
	return hex.EncodeToString(h[:])
}

func TestFetch(t *testing.T) {
	o, store := testStore(t)
	var moves []api.Move
	for _, k := range []string{"a", "b", "c"} {
		o.held[k] = []byte("bytes of " + k)
		moves = append(moves, api.Move{From: k, Hash: hashOf("bytes of " + k), To: "new/" + k})
	}
	got, err := fetch(t.Context(), store, moves)
	if err != nil || len(got) != 3 || string(got[0]) != "bytes of a" || string(got[2]) != "bytes of c" {
		t.Fatalf("%q %v", got, err)
	}
	delete(o.held, "a")
	o.held["c"] = []byte("other bytes")
	var missing errMissing
	if _, err := fetch(t.Context(), store, moves); !errors.As(err, &missing) {
		t.Fatal(err)
	}
	slices.Sort(missing.keys)
	if !slices.Equal(missing.keys, []string{"a", "c"}) {
		t.Errorf("missing %v", missing.keys)
	}
	o.down = true
	if _, err := fetch(t.Context(), store, moves); err == nil || errors.As(err, &missing) {
		t.Errorf("an outage counts as loss: %v", err)
	}
}

func TestPutsTakeWhatIsThere(t *testing.T) {
	o, store := testStore(t)
	o.held["there"] = []byte("x")
	p := newPuts(t.Context(), store)
	for _, k := range []string{"there", "new"} {
		p.add(k, []byte("x"))
	}
	if err := p.wait(); err != nil {
		t.Error(err)
	}
	o.mu.Lock()
	o.down = true
	o.mu.Unlock()
	p = newPuts(t.Context(), store)
	p.add("later", []byte("x"))
	if err := p.wait(); err == nil {
		t.Error("an outage is not told")
	}
	if string(o.held["new"]) != "x" || o.held["later"] != nil {
		t.Errorf("held %q", o.held)
	}
}

// scripted is a rotator of which only the types of its answers matter.
func scripted(t *testing.T, answers ...uint8) *rotatorProcess {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close() })
	go func() {
		defer far.Close()
		for _, a := range answers {
			if _, _, err := rotation.ReadMessage(far); err != nil {
				return
			}
			if rotation.WriteMessage(far, a, binary.BigEndian.AppendUint16(nil, 3)) != nil {
				return
			}
		}
	}()
	return &rotatorProcess{conn: near}
}

func TestFeed(t *testing.T) {
	for _, c := range []struct {
		name    string
		frames  int
		answers []uint8
		want    uint8
		left    int
	}{
		{"one frame", 1, []uint8{rotation.Receipt}, rotation.Receipt, 0},
		{"more frames", 3, []uint8{rotation.More, rotation.More, rotation.Feed}, rotation.Feed, 0},
		{"the rest is the next chunk's", 3, []uint8{rotation.More, rotation.Feed}, rotation.Feed, 1},
		{"frames run out", 1, []uint8{rotation.More}, 0, 0},
		{"the rotator dies", 2, []uint8{rotation.More}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			frames := make([]byte, c.frames*channel.FrameSize)
			typ, _, err := feed(scripted(t, c.answers...), &frames)
			if typ != c.want || (err == nil) != (c.want != 0) {
				t.Errorf("type %d, %v", typ, err)
			}
			if c.want != 0 && len(frames) != c.left*channel.FrameSize {
				t.Errorf("%d bytes are left", len(frames))
			}
		})
	}
}

// A job that is no move has nothing but receipts, one or more.
func TestFeedAll(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []uint8
		want    string
	}{
		{"another answer", []uint8{rotation.Feed}, "rotator: answered with type 6 where a receipt was due"},
		{"too short", []uint8{rotation.More, rotation.Receipt}, "rotator: receipt is too short"},
		{"no receipt", []uint8{rotation.More, rotation.More, rotation.More}, "courier: the job's frames ran out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := feedAll(scripted(t, c.answers...), "00", make([]byte, 3*channel.FrameSize)); err == nil || err.Error() != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// custodianThat answers the operator's calls from a table.
func custodianThat(t *testing.T, answers map[string]any) *custodianClient {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" {
			api.Fail(w, &api.Error{Status: 401, Code: "no"})
			return
		}
		switch a := answers[r.URL.Path].(type) {
		case error:
			api.Fail(w, a)
		case nil:
			api.Fail(w, errors.New("unexpected call"))
		default:
			api.Reply(w, a)
		}
	}))
	t.Cleanup(srv.Close)
	return newCustodianClient(srv.URL+"/", "token")
}

func TestStepWaits(t *testing.T) {
	bin := rotatorBin(t)
	for _, c := range []struct {
		name string
		job  any
		want time.Duration
		code string
	}{
		{"nothing due", api.Job{Kind: api.JobNone}, -1, ""},
		{"under way", api.Job{Kind: api.JobWait, WaitMS: 4000}, 4 * time.Second, ""},
		{"never at once", api.Job{Kind: api.JobWait}, 10 * time.Millisecond, ""},
		{"refused", &api.Error{Status: 503, Code: "stale_head"}, 0, "stale_head"},
		{"unknown rotator", &api.Error{Status: 409, Code: "rotator_unknown"}, 0, "rotator_unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := custodianThat(t, map[string]any{api.PathVouch: api.Accepted{}, api.PathJob: c.job})
			pool := &rotatorPool{bin: bin, vault: testVault, stderr: io.Discard, vouch: cl.vouch}
			t.Cleanup(pool.close)
			courier := &Courier{custodian: cl, rotators: pool, store: http.DefaultClient}
			wait, err := courier.Step(t.Context(), [20]byte{1}, 7)
			if wait != c.want || api.CodeOf(err) != c.code || (err == nil) != (c.code == "") {
				t.Errorf("%v, %v", wait, err)
			}
			if gone := pool.p == nil; gone != (c.code == "rotator_unknown") {
				t.Errorf("rotator gone: %v", gone)
			}
		})
	}
}

// A job whose parts do not fit ends the rotator: it may have keys in memory.
func TestBrokenJobEndsTheRotator(t *testing.T) {
	cl := custodianThat(t, map[string]any{api.PathVouch: api.Accepted{}, api.PathJob: api.Job{Kind: api.JobMake, ID: "00", Handshake: []byte("none")}})
	pool := &rotatorPool{bin: rotatorBin(t), vault: testVault, stderr: io.Discard, vouch: cl.vouch}
	t.Cleanup(pool.close)
	courier := &Courier{custodian: cl, rotators: pool, store: http.DefaultClient}
	if _, err := courier.Step(context.WithoutCancel(t.Context()), [20]byte{1}, 0); err == nil || !strings.HasPrefix(err.Error(), "rotator: ") {
		t.Errorf("%v", err)
	}
	if pool.p != nil {
		t.Error("the rotator lives on")
	}
}
