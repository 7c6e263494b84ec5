package main

import (
	"testing"

	"golang.org/x/sys/unix"

	"example.org/agentkeys/blobstore/conformance"
)

func TestConformance(t *testing.T) {
	for name, extra := range map[string][]string{"unversioned": nil, "versioned": {"--versioned"}} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, extra...)
			c.publish(t, c.issuer)
			ends := c.start(t).ends
			conformance.Run(t, conformance.Target{
				Config: c.config(ends), Issuer: c.issuer, Versioned: extra != nil,
				Stop: func(t testing.TB) {
					if code := c.stop(t, unix.SIGTERM); code != 0 {
						t.Fatalf("exit code %d", code)
					}
				},
				Start: func(t testing.TB) { c.restart(t, ends) },
			})
		})
	}
}

func BenchmarkStore(b *testing.B) {
	c := newCloud(b)
	c.publish(b, c.issuer)
	conformance.Benchmark(b, conformance.Target{Config: c.config(c.start(b).ends), Issuer: c.issuer})
}
