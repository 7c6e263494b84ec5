package api

import (
	"errors"
	"fmt"
	"testing"
)

func TestPassing(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"none":       {nil, false},
		"other":      {errors.New("away"), false},
		"stale head": {fmt.Errorf("read: %w", &Error{Code: "stale_head", Retry: true}), true},
		"refused":    {&Error{Code: "session_expired"}, false},
	} {
		if got := Passing(c.err); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
