package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"scripta/mta/relay"
)

// lettersAsked is what a command asks for by POST /queue/letters.
type lettersAsked struct {
	Selection relay.Selection `json:"selection"`
	Max       int             `json:"max"`
}

// queueHandlers serve what operators ask of the relay's queue.
func (d *daemon) queueHandlers(m *http.ServeMux) {
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			http.Error(w, strings.TrimPrefix(err.Error(), "relay: "), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	m.HandleFunc("POST /queue", func(w http.ResponseWriter, r *http.Request) {
		var asked lettersAsked
		err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&asked)
		answer(w, d.queue.Overview(max(asked.Max, 0)), err)
	})
	m.HandleFunc("POST /queue/letters", func(w http.ResponseWriter, r *http.Request) {
		var asked lettersAsked
		err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&asked)
		var list []relay.LetterState
		if err == nil {
			list, err = d.queue.Letters(asked.Selection, max(asked.Max, 0))
		}
		answer(w, list, err)
	})
	m.HandleFunc("POST /queue/{action}", func(w http.ResponseWriter, r *http.Request) {
		var s relay.Selection
		err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&s)
		var n int
		action := relay.Action(r.PathValue("action"))
		if err == nil {
			n, err = d.queue.Do(action, s)
		}
		if err == nil {
			d.log.Info("an operator changed the relay's queue", "action", action, "job", s.ID, "destination", s.Destination, "all", s.All, "letters", n)
		}
		answer(w, n, err)
	})
}

// Queue tells of at most max destinations of the running provider's queue.
func (c *controlClient) Queue(ctx context.Context, max int) (o relay.Overview, err error) {
	err = c.ask(ctx, "/queue", lettersAsked{Max: max}, &o)
	return o, err
}

// Letters tells of the letters that are selected, at most max of them.
func (c *controlClient) Letters(ctx context.Context, s relay.Selection, max int) (list []relay.LetterState, err error) {
	err = c.ask(ctx, "/queue/letters", lettersAsked{s, max}, &list)
	return list, err
}

// ChangeQueue holds, releases or retries what is selected and returns how many
// letters that concerns.
func (c *controlClient) ChangeQueue(ctx context.Context, action relay.Action, s relay.Selection) (n int, err error) {
	err = c.ask(ctx, "/queue/"+string(action), s, &n)
	return n, err
}

func (c *controlClient) ask(ctx context.Context, path string, asked, answer any) error {
	resp, err := c.do(ctx, http.MethodPost, path, asked)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(answer)
}
