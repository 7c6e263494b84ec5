package custodian

import (
	"context"
	"errors"
	"net/http"

	"example.org/agentkeys/api"
)

var rotatorUnknown = code{"rotator_unknown", http.StatusForbidden, true}

// Routes adds the paths of the operator's jobs. The caller has checked the
// operator's token.
func (j *Jobs) Routes(mux *http.ServeMux) {
	handle(mux, j, api.PathVouch, func(ctx context.Context, in api.RotatorHello) (api.Accepted, error) {
		return api.Accepted{Name: "ok"}, j.vouch(ctx, in)
	})
	handle(mux, j, api.PathJob, j.next)
	handle(mux, j, api.PathHandshake, j.handshake)
	handle(mux, j, api.PathReceipt, func(ctx context.Context, in api.JobReceipt) (api.Accepted, error) {
		return api.Accepted{Name: "ok"}, j.receipt(ctx, in)
	})
	handle(mux, j, api.PathWrap, j.wrap)
	handle(mux, j, api.PathWrapped, func(ctx context.Context, in api.JobReceipts) (api.Accepted, error) {
		return api.Accepted{Name: "ok"}, j.wrapped(ctx, in)
	})
	handle(mux, j, api.PathShielding, j.shielding)
	handle(mux, j, api.PathHints, func(context.Context, struct{}) (api.Hints, error) {
		out := api.Hints{Version: j.k.version()}
		for _, u := range j.s.hints.users() {
			out.Users = append(out.Users, u.String())
		}
		return out, nil
	})
}

// handle decodes, calls and replies. Errors that are not for the caller go to the
// log.
func handle[In, Out any](mux *http.ServeMux, j *Jobs, path string, f func(context.Context, In) (Out, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := api.Decode(r.Body, api.MaxFrames, &in); err != nil {
			api.Fail(w, badRequest.because("", "%v", err))
			return
		}
		out, err := f(r.Context(), in)
		if err != nil {
			var known *api.Error
			if !errors.As(err, &known) {
				j.s.log.Error("operator request failed", "path", path, "error", err.Error())
			}
			api.Fail(w, err)
			return
		}
		api.Reply(w, out)
	})
}
