package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// command is one thing that the program can do, or, with sub, a group of them.
type command struct {
	name  string
	about string // one line of the list of commands
	// run returns the exit code: 0, 1 when something failed or did not verify,
	// 2 when the command line is wrong. Errors go to stderr, help to stdout.
	run    func(args []string, stdout, stderr io.Writer) int
	sub    []command
	hidden bool // not for people: help does not list it
}

// dispatch runs the command of all that the first argument names. path is what
// was written before it.
//
//	scripta help archive close   scripta archive close --help   are the same
func dispatch(path string, all []command, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintf(stderr, "%s: which command? They are:\n\n", path)
		listCommands(stderr, path, all)
		return 2
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(rest) > 0 {
			return dispatch(path, all, append(rest, "--help"), stdout, stderr)
		}
		fmt.Fprintf(stdout, "usage: %s COMMAND [flags]\n\n", path)
		listCommands(stdout, path, all)
		return 0
	}
	for _, c := range all {
		switch {
		case c.name != name:
		case c.sub != nil:
			return dispatch(path+" "+name, c.sub, rest, stdout, stderr)
		default:
			return c.run(rest, stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "%s: there is no command %q; the commands are:\n\n", path, name)
	listCommands(stderr, path, all)
	return 2
}

func listCommands(w io.Writer, path string, all []command) {
	for _, c := range all {
		if !c.hidden {
			fmt.Fprintf(w, "  %-16s %s\n", c.name, c.about)
		}
	}
	fmt.Fprintf(w, "\n%s COMMAND --help tells more\n", path)
}

// flags are those of one command.
type flags struct {
	*flag.FlagSet
	usage          string // printed before the flags
	stdout, stderr io.Writer
}

// newFlags begins the flags of a command. name is its path after "scripta", as
// errors begin with it. A word in back quotes in a flag's text names its value.
func newFlags(name, usage string, stdout, stderr io.Writer) *flags {
	f := &flags{flag.NewFlagSet(name, flag.ContinueOnError), usage, stdout, stderr}
	f.SetOutput(io.Discard) // parse says it better
	f.Usage = func() {}
	return f
}

// folder is the flag --dir.
func (f *flags) folder() *string { return f.String("dir", "", "`DIR`, the provider's folder") }

// parse parses a command line that has flags only; dir, if not nil, must have
// been given. ok is false when the command must end with the code.
func (f *flags) parse(args []string, dir *string) (code int, ok bool) {
	rest, code, ok := f.parseWith(args)
	switch {
	case !ok:
		return code, false
	case len(rest) > 0:
		return f.wrong("%q is no flag", rest[0]), false
	case dir != nil && *dir == "":
		return f.wrong("--dir is missing"), false
	}
	return 0, true
}

// parseWith parses flags and returns the arguments between and after them.
func (f *flags) parseWith(args []string) (rest []string, code int, ok bool) {
	for {
		err := f.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			f.help()
			return nil, 0, false
		case err != nil:
			return nil, f.wrong("%s", twoDashes.Replace(err.Error())), false
		case f.NArg() == 0:
			return rest, 0, true
		}
		rest, args = append(rest, f.Arg(0)), f.Args()[1:]
	}
}

// twoDashes writes the flag package's errors as we write flags.
var twoDashes = strings.NewReplacer("flag provided but not defined: -", "there is no flag --", "flag needs an argument: -", "a value is missing after --",
	"for flag -", "for --", "for -", "for --")

// wrong says what is wrong with the command line.
func (f *flags) wrong(format string, a ...any) (code int) {
	fmt.Fprintf(f.stderr, "scripta %s: %s; see scripta %[1]s --help\n", f.Name(), fmt.Sprintf(format, a...))
	return 2
}

// failed says why a command failed.
func (f *flags) failed(err error) (code int) {
	fmt.Fprintf(f.stderr, "scripta %s: %v\n", f.Name(), err)
	return 1
}

// help prints the usage and every flag.
func (f *flags) help() {
	fmt.Fprint(f.stdout, f.usage)
	f.VisitAll(func(x *flag.Flag) {
		value, text := flag.UnquoteUsage(x)
		if value != "" {
			value = " " + value
		}
		fmt.Fprintf(f.stdout, "  --%s%s\n        %s", x.Name, value, text)
		if x.DefValue != "" && x.DefValue != "false" && x.DefValue != "0" && x.DefValue != "0s" && x.DefValue != "-1" {
			fmt.Fprintf(f.stdout, " (default %s)", x.DefValue)
		}
		fmt.Fprintln(f.stdout)
	})
}

func newLogger(w io.Writer, level string, asJSON bool) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is none of debug, info, warn and error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}

// commandLogger is for a command that works in its own process: it says only
// what its user should know.
func commandLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
