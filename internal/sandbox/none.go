//go:build !linux || (!amd64 && !arm64)

package sandbox

import (
	"errors"
	"runtime"
)

// Here is false: this system has no sandbox.
const Here = false

var errNone = errors.New("sandbox: there is none for " + runtime.GOOS + "/" + runtime.GOARCH)

// Again refuses: there are no namespaces here.
func Again(int, []string, func(string)) (int, error) { return 0, errNone }

// Shut refuses: nothing is closed here.
func Shut(int) error { return errNone }
