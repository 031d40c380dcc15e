package badgerlog

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// badgerLogger hands Badger's messages to slog; what Badger calls information is
// for debugging here.
type badgerLogger struct{ *slog.Logger }

func (l badgerLogger) Errorf(f string, a ...any)   { l.log(slog.LevelError, f, a) }
func (l badgerLogger) Warningf(f string, a ...any) { l.log(slog.LevelWarn, f, a) }
func (l badgerLogger) Infof(f string, a ...any)    { l.log(slog.LevelDebug, f, a) }

// Debugf is called for each write.
func (badgerLogger) Debugf(string, ...any) {}

func (l badgerLogger) log(level slog.Level, f string, a []any) {
	ctx := context.Background()
	if l.Enabled(ctx, level) {
		l.LogAttrs(ctx, level, "badger: "+strings.TrimSpace(fmt.Sprintf(f, a...)))
	}
}
