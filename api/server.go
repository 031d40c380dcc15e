package api

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"time"
)

const (
	headerTimeout = 10 * time.Second
	readTimeout   = 20 * time.Second
	writeTimeout  = time.Minute
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10 // bytes
	maxStreams    = 64       // of one HTTP/2 connection
)

// NewServer makes an HTTP server with limits for a port that anybody reaches: the
// API's, and the metrics'. Without tls it serves in clear. What the server has to
// say goes to log at debug level, because it is about what strangers send.
func NewServer(h http.Handler, tls *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, TLSConfig: atLeast12(tls), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

func atLeast12(c *tls.Config) *tls.Config {
	if c != nil && c.MinVersion < tls.VersionTLS12 {
		c = c.Clone()
		c.MinVersion = tls.VersionTLS12
	}
	return c
}

// stream writes size bytes of r as the body. A large file takes longer than the
// server's timeout; each part of it must go out in time instead.
func stream(ctx context.Context, w http.ResponseWriter, r io.ReaderAt, size int64) error {
	const part = 1 << 20
	deadline := http.NewResponseController(w)
	for off := int64(0); off < size; off += part {
		if err := ctx.Err(); err != nil {
			return err
		}
		// An error says that the writer knows no deadlines: a test's.
		_ = deadline.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := io.Copy(w, io.NewSectionReader(r, off, min(part, size-off))); err != nil {
			return err
		}
	}
	return nil
}
