//go:build goexperiment.runtimesecret

package agentkeys

import "runtime/secret"

// Scrubbed runs f, which handles keys. What f leaves on the stack and in registers
// is erased when it returns, and what it leaves on the heap when the collector finds
// it unreachable (package runtime/secret; Linux on amd64 and arm64). That holds in
// programs built with GOEXPERIMENT=runtimesecret, as scripts/build.sh builds the
// custodian and the rotator; in others Scrubbed only runs f. Goroutines that f starts
// are not covered.
func Scrubbed(f func()) { secret.Do(f) }
