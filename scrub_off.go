//go:build !goexperiment.runtimesecret

package agentkeys

// Scrubbed runs f. This program is not built with GOEXPERIMENT=runtimesecret, so what
// f leaves in freed memory stays there until it is used again.
func Scrubbed(f func()) { f() }
