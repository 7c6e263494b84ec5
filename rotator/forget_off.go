//go:build !goexperiment.runtimesecret

package rotator

// alone runs a job. What it leaves in freed memory stays there until it is used
// again; docs/spec/rotation.md, "Memory".
func alone(job func()) { job() }
