package node

import (
	"log/slog"

	cometlog "github.com/cometbft/cometbft/libs/log"
)

// cometLogger lets CometBFT write to slog.
type cometLogger struct{ *slog.Logger }

func (l cometLogger) With(keyvals ...any) cometlog.Logger {
	return cometLogger{l.Logger.With(keyvals...)}
}
