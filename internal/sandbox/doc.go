// Package sandbox shuts a process in, so that one descriptor is its only way to the
// world. It is for the rotator: what is closed, in which order and what stays open
// is in docs/spec/rotation.md, "Sandbox", and why it is made here, of the standard
// library alone, in docs/adr/0014. [Again] gives the program namespaces of its own;
// [Shut] closes the rest, for good.
//
// There is one for Linux on amd64 and arm64, in programs without cgo. Elsewhere
// [Here] is false.
package sandbox
