package config

import (
	"bytes"
	"fmt"
	"os"

	"scripta/internal/durable"
)

// Edit changes the file name, durably, and keeps what a person wrote around the
// keys that change; a key that has no line of its own makes the whole file be
// written anew.
func Edit(name string, change func(*Config)) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("couldn't read the configuration: %w", err)
	}
	c, err := Parse(name, data)
	if err != nil {
		return err
	}
	before := map[string]string{}
	walk(&c, func(f field) {
		if !f.table {
			before[f.key] = f.literal()
		}
	})
	change(&c)
	if err := c.Check(); err != nil {
		return fmt.Errorf("couldn't change %s: %w", name, err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	places := positions(data)
	walk(&c, func(f field) {
		if f.table || before[f.key] == f.literal() {
			return
		}
		if at, ok := places[f.key]; ok && at.Line > 0 && at.Line <= len(lines) {
			lines[at.Line-1] = []byte(f.name + " = " + f.literal() + "\n")
		}
	})
	edited := bytes.Join(lines, nil)
	if again, err := Parse(name, edited); err != nil || !bytes.Equal(Encode(again), Encode(c)) {
		edited = Encode(c)
	}
	if err := durable.WriteFile(durable.OS, name, edited, 0o600); err != nil {
		return fmt.Errorf("couldn't write the configuration: %w", err)
	}
	return nil
}
