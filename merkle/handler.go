package merkle

import (
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"scripta/merkle/tiles"
)

const (
	// requestsAtOnce bounds the tiles and bundles that are being made.
	requestsAtOnce = 64
	// longestPath bounds what is looked at of a path.
	longestPath = 128

	checkpointAge = "public, max-age=2"
	tileAge       = "public, max-age=31536000, immutable"
)

// Handler serves what is published, below the origin's path (strip it with
// http.StripPrefix), as c2sp.org/tlog-tiles has it: /checkpoint,
// /tile/<L>/<N>[.p/<W>] and /tile/entries/<N>[.p/<W>], to GET and HEAD. A tile or
// bundle exists if the published size determines all of it; partial ones are cut
// from what is stored, so that every width exists for ever. Everything else is
// 404.
func (l *Log) Handler() http.Handler {
	h := &handler{log: l, slots: make(chan struct{}, requestsAtOnce)}
	h.zippers.New = func() any {
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // for an invalid level only
		}
		return w
	}
	return h
}

type handler struct {
	log     *Log
	slots   chan struct{} // holds one element for each request being worked on
	zippers sync.Pool
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Access-Control-Allow-Origin", "*") // public for any reader, a browser's too
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	published := h.log.Checkpoint()
	path, ok := strings.CutPrefix(r.URL.Path, "/")
	if !ok || len(path) > longestPath || published == nil {
		http.NotFound(w, r)
		return
	}
	if path == CheckpointFile {
		header.Set("Content-Type", "text/plain; charset=utf-8")
		header.Set("Cache-Control", checkpointAge)
		send(w, published.Note)
		return
	}
	tile, err := tiles.ParsePath(path)
	if err != nil || !tile.In(published.Size) {
		http.NotFound(w, r)
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-r.Context().Done():
		return
	}
	h.serve(w, r, tile)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, tile tiles.Tile) {
	var body []byte
	var err error
	if tile.Level == tiles.Entries {
		body, err = h.log.Entries(r.Context(), tile.Index, tile.Width)
	} else {
		body, err = h.log.Tile(r.Context(), tile.Level, tile.Index, tile.Width)
	}
	if err != nil {
		if errors.Is(err, ErrFatal) || errors.Is(err, ErrClosed) {
			http.Error(w, "the log is not available", http.StatusServiceUnavailable)
			return
		}
		if r.Context().Err() == nil {
			h.log.opt.Logger.Error("couldn't serve a tile", "tile", tile.Path(), "err", err)
			http.Error(w, "internal error", http.StatusInternalServerError)
		}
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Cache-Control", tileAge)
	if tile.Level == tiles.Entries {
		header.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r) {
			header.Set("Content-Encoding", "gzip")
			body = h.zip(body)
		}
	}
	send(w, body)
}

// send writes a body of known length; net/http leaves it out for HEAD.
func send(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // an error is the reader's
}

func (h *handler) zip(body []byte) []byte {
	var b bytes.Buffer
	z := h.zippers.Get().(*gzip.Writer)
	defer h.zippers.Put(z)
	z.Reset(&b)
	_, _ = z.Write(body) // a bytes.Buffer takes everything
	_ = z.Close()
	return b.Bytes()
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3): gzip is named, and not
// with weight zero.
func acceptsGzip(r *http.Request) bool {
	for _, item := range strings.Split(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		coding, weight, _ := strings.Cut(item, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q, weighted := strings.CutPrefix(strings.TrimSpace(weight), "q=")
			v, err := strconv.ParseFloat(q, 64)
			return !weighted || err == nil && v > 0
		}
	}
	return false
}
