package config

import (
	"bytes"
	"fmt"

	"scripta/internal/durable"
)

// Encode returns c as the commented file: each table and key with one line
// of comment and the default, in the struct's order.
func Encode(c Config) []byte {
	var b bytes.Buffer
	b.WriteString("# Configuration of a Scripta provider, read once when it starts.\n" +
		"# Unknown keys are errors; a key left out takes its default.\n")
	defaults := Default("", "", DefaultPortBase)
	walk(&c, func(f field) {
		if f.table {
			fmt.Fprintf(&b, "\n# %s.\n[%s]\n", f.doc, f.key)
			return
		}
		note := ""
		if d, ok := fieldOf(&defaults, f.key); ok && !required(f.key) {
			note = " Default: " + d.literal() + "."
		}
		fmt.Fprintf(&b, "\n# %s.%s\n%s = %s\n", f.doc, note, f.name, f.literal())
	})
	return b.Bytes()
}

// Write checks c and makes the file name of it, durably and with mode 0600,
// in the place of any that was there.
func Write(name string, c Config) error {
	if err := c.Check(); err != nil {
		return fmt.Errorf("couldn't write %s: %w", name, err)
	}
	if err := durable.WriteFile(durable.OS, name, Encode(c), 0o600); err != nil {
		return fmt.Errorf("couldn't write the configuration: %w", err)
	}
	return nil
}
