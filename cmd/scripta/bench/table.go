package bench

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is a Markdown table whose columns are padded, so that it can also be
// read on a terminal.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	line := func(row []string) string {
		var b strings.Builder
		for i, c := range row {
			fmt.Fprintf(&b, "| %s%s ", c, strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)))
		}
		return b.String() + "|\n"
	}
	rule := make([]string, len(width))
	for i, n := range width {
		rule[i] = strings.Repeat("-", n)
	}
	all := line(t.head) + line(rule)
	for _, row := range t.rows {
		all += line(row)
	}
	_, err := io.WriteString(w, all+"\n")
	return err
}

// goal says whether a figure reaches its goal.
func goal(reached bool, text string) string {
	if reached {
		return text + ": reached"
	}
	return text + ": missed"
}
