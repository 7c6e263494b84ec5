// Package guard holds the rules about which code may reach which: the arrow table,
// what an enclave program may contain, and how much code the rotator may be. It has
// no functions for other packages; its tests are the guards. Change the table in
// arrows.go first, then refresh what is printed from it: UPDATE=1 go test ./internal/guard.
package guard
