package rules_test

import (
	"fmt"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// BenchmarkApply measures one accepted statement of each common kind, signature
// checks included; the writes are dropped every time.
func BenchmarkApply(b *testing.B) {
	for _, c := range []struct {
		name string
		make func(f *fixture) []byte
	}{
		{"Enrol", func(f *fixture) []byte {
			bob := rulestest.Wallet("bob")
			return f.SignUser(bob, statement.Enrol{User: bob.Wallet()})
		}},
		{"AdmitAgent", func(f *fixture) []byte { return f.sign(f.admit()) }},
		{"RevokeAgent", func(f *fixture) []byte { return f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent}) }},
		{"Grant", func(f *fixture) []byte {
			f.ok(f.sign(f.admit()))
			return f.sign(f.grant(github))
		}},
		{"Delete", func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			return f.sign(statement.Delete{User: f.user, Agent: f.user, Service: github, Version: 1})
		}},
		{"RegisterBlob", func(f *fixture) []byte { return f.SignProcess(f.write(github, "1")) }},
		{"OpenEpoch", func(f *fixture) []byte { return f.open(2) }},
		{"RotateBlobs256", func(f *fixture) []byte {
			var services []agentkeys.ServiceID
			for i := range receipt.MaxRows {
				services = append(services, eip712.ServiceID(fmt.Sprint(i)))
				f.ok(f.SignProcess(f.write(services[i], "1")))
			}
			f.ok(f.open(2))
			return f.SignProcess(f.rotate(services...))
		}},
		{"RewrapDEK", func(f *fixture) []byte {
			return f.SignProcess(statement.RewrapDEK{ValidUntil: f.soon(), Receipt: receipt.Rewrapped{User: f.user, Epoch: 1,
				DEKID: dekID(f.user, 1), From: 1, Wrapped: wrapped(2, 1)}})
		}},
		{"DestroyEpoch", func(f *fixture) []byte {
			f.ok(f.open(2))
			return f.SignProcess(f.destroy(anchorA))
		}},
		{"RecordReads", func(f *fixture) []byte {
			return f.SignProcess(statement.RecordReads{First: 1, Count: 1000, ValidUntil: f.soon()})
		}},
		{"Heartbeat", func(f *fixture) []byte { return f.SignProcess(statement.Heartbeat{ValidUntil: f.soon()}) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := enrolled(b, anchorA)
			wire := c.make(f)
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				if r, err := rules.Apply(rulestest.NewLayer(f.KV), f.Block, wire); err != nil || r.Code != rules.OK {
					b.Fatal(r, err)
				}
			}
		})
	}
}
