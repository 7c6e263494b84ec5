package conformance

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"example.org/agentkeys/blobstore"
)

// clients is how many requests the benchmarks keep in flight.
const clients = 8

// Benchmark measures Get and Put of 1 KiB objects with 8 clients in flight; ops/s
// is what docs/spec/store.md sets a bar for.
func Benchmark(b *testing.B, target Target) {
	store, err := blobstore.New(target.Config, target.Issuer)
	must(b, err)
	defer store.Close()
	user := wallet(b)
	body := fill(b, make([]byte, 1024))
	keys := make([]string, 256)
	for i := range keys {
		keys[i] = key(b, user, 1)
		must(b, store.Put(b.Context(), user, keys[i], body))
	}
	b.Run(fmt.Sprintf("get/clients=%d", clients), func(b *testing.B) {
		inFlight(b, func(i int) error {
			_, err := store.Get(b.Context(), user, keys[i%len(keys)], limit)
			return err
		})
	})
	b.Run(fmt.Sprintf("put/clients=%d", clients), func(b *testing.B) {
		fresh := make([]string, b.N)
		for i := range fresh {
			fresh[i] = key(b, user, 1)
		}
		inFlight(b, func(i int) error { return store.Put(b.Context(), user, fresh[i], body) })
	})
}

func inFlight(b *testing.B, op func(i int) error) {
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := op(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
