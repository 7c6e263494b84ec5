package custodian

import (
	"testing"
)

func TestFirstEpochOpens(t *testing.T) {
	rotate(t, 1, func(r *rotating) {
		if u := r.user(); u.Active.Epoch != 1 || u.Draining.Epoch != 0 {
			t.Fatalf("%+v", u)
		}
		r.keep("github", "openai")
		r.intact()
	})
}

func TestAskedRotationMovesEverything(t *testing.T) {
	rotate(t, 1, func(r *rotating) {
		r.keep("github", "openai", "slack")
		r.ask()
		r.settle(2)
		r.intact()
		r.restart()
		r.settle(2)
		r.intact()
	})
}
