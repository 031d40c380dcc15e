package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxFileBytes bounds what is read: a real file has 6 KB.
const maxFileBytes = 1 << 20

// An Error is one thing wrong with the configuration. Line and Column count
// from 1 and are 0 when the key is absent from the file or there is no file.
type Error struct {
	File    string
	Line    int
	Column  int
	Key     string // "mail.max_recipients", or empty when the text is not TOML
	Problem string
	Fix     string // what to write instead
}

// Error returns "file:line:column: key: problem; fix".
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
		if e.Line > 0 {
			fmt.Fprintf(&b, "%d:%d:", e.Line, e.Column)
		}
		b.WriteByte(' ')
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Problem)
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return b.String()
}

// Load reads and checks the file at path. The error joins one [*Error] for
// each thing wrong with the content, or says why the file cannot be read.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("couldn't read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return Config{}, fmt.Errorf("couldn't read the configuration: %w", err)
	}
	if len(data) > maxFileBytes {
		return Config{}, &Error{File: path, Problem: "the file is larger than 1 MiB", Fix: "give the path of a scripta.toml"}
	}
	return Parse(path, data)
}

// Parse reads and checks the content of a file; name only stands in errors.
func Parse(name string, data []byte) (Config, error) {
	c := Default("", "", DefaultPortBase)
	dec := toml.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, decodeErrors(name, data, err)
	}
	if err := c.Check(); err != nil {
		places := positions(data)
		var all []error
		for _, e := range unjoin(err) {
			var ce *Error
			if errors.As(e, &ce) {
				p := places[strings.ToLower(ce.Key)]
				ce.File, ce.Line, ce.Column = name, p.Line, p.Column
			}
			all = append(all, e)
		}
		return Config{}, errors.Join(all...)
	}
	return c, nil
}

// decodeErrors turns the TOML decoder's errors into ours.
func decodeErrors(name string, data []byte, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var all []error
		places := positions(data)
		for i := range strict.Errors {
			d := &strict.Errors[i]
			key := strings.Join(d.Key(), ".")
			line, column := d.Position()
			for k, p := range places {
				// The decoder leaves out the table that an inline one stands for.
				if p.Line == line && p.Column == column && strings.HasSuffix(k, "."+strings.ToLower(key)) {
					key = k
				}
			}
			all = append(all, &Error{File: name, Line: line, Column: column, Key: key, Problem: "unknown key", Fix: knownBeside(key)})
		}
		return errors.Join(all...)
	}
	var d *toml.DecodeError
	if !errors.As(err, &d) {
		return &Error{File: name, Problem: err.Error()}
	}
	e := &Error{File: name, Key: strings.Join(d.Key(), "."), Problem: strings.TrimPrefix(d.Error(), "toml: ")}
	e.Line, e.Column = d.Position()
	if strings.Contains(e.Problem, " already ") {
		e.Fix = "write it once"
		return e
	}
	defaults := Default("", "", DefaultPortBase)
	if f, ok := fieldOf(&defaults, innermost(data, e)); ok {
		e.Key, e.Problem, e.Fix = f.key, "wrong type of value", f.expected()
	} else if e.Key == "" {
		e.Fix = "this is not TOML"
	}
	return e
}

// innermost returns the key that a decoder's error is about: the decoder
// names the table only when the key stands in an inline one.
func innermost(data []byte, e *Error) string {
	if e.Key == "" {
		return ""
	}
	key := e.Key
	var last unstable.Position
	for k, p := range positions(data) {
		before := p.Line < e.Line || p.Line == e.Line && p.Column <= e.Column
		if before && p.Offset >= last.Offset && strings.HasPrefix(k, strings.ToLower(e.Key)+".") {
			key, last = k, p
		}
	}
	return key
}

// knownBeside lists the keys that may stand where the unknown one does.
func knownBeside(key string) string {
	prefix := ""
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		prefix = key[:i+1]
	}
	var names []string
	defaults := Default("", "", DefaultPortBase)
	walk(&defaults, func(f field) {
		if f.key == prefix+f.name {
			names = append(names, f.name)
		}
	})
	if names == nil {
		return "remove it"
	}
	where := "here"
	if prefix != "" {
		where = "in [" + strings.TrimSuffix(prefix, ".") + "]"
	}
	return "remove it or write one of the keys known " + where + ": " + strings.Join(names, ", ")
}

// positions returns where each key of a valid document stands.
func positions(data []byte) map[string]unstable.Position {
	places := make(map[string]unstable.Position)
	var p unstable.Parser
	p.Reset(data)
	prefix := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			prefix = ""
			prefix = place(&p, places, "", e) + "."
		case unstable.KeyValue:
			placeValue(&p, places, prefix, e)
		}
	}
	return places
}

func placeValue(p *unstable.Parser, places map[string]unstable.Position, prefix string, e *unstable.Node) {
	key := place(p, places, prefix, e)
	if v := e.Value(); v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			placeValue(p, places, key+".", it.Node())
		}
	}
}

func place(p *unstable.Parser, places map[string]unstable.Position, prefix string, e *unstable.Node) string {
	var parts []string
	var at unstable.Position
	for it := e.Key(); it.Next(); {
		if parts == nil {
			at = p.Shape(it.Node().Raw).Start
		}
		parts = append(parts, string(it.Node().Data))
	}
	key := strings.ToLower(prefix + strings.Join(parts, "."))
	places[key] = at
	return key
}

func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}
