//go:build goexperiment.runtimesecret

package rotator

import "runtime/secret"

// alone runs a job whose stack and registers are erased when it ends, and whose
// freed memory is when the collector finds it.
func alone(job func()) { secret.Do(job) }
