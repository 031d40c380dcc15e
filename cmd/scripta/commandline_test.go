package main

import (
	"bytes"
	"runtime/debug"
	"strings"
	"testing"
)

// dispatched runs the program's dispatch in this process.
func dispatched(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = dispatch("scripta", commands(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// eachCommand calls f with the path of every command and group.
func eachCommand(all []command, path []string, f func(c command, path []string)) {
	for _, c := range all {
		p := append(append([]string(nil), path...), c.name)
		f(c, p)
		eachCommand(c.sub, p, f)
	}
}

// Help is asked for on purpose: it goes to the standard output and is no error,
// for every command in every spelling.
func TestHelp(t *testing.T) {
	t.Parallel()
	eachCommand(commands(), nil, func(c command, path []string) {
		if c.hidden {
			return
		}
		name := strings.Join(path, " ")
		for _, args := range [][]string{append(append([]string(nil), path...), "--help"), append(append([]string(nil), path...), "-h"), append([]string{"help"}, path...)} {
			code, out, errs := dispatched(args...)
			if code != 0 || errs != "" || !strings.HasPrefix(out, "usage: scripta "+name) {
				t.Errorf("%v: exit %d, stderr %q, stdout %q", args, code, errs, out)
			}
			for line := range strings.Lines(out) {
				if strings.HasPrefix(line, "  -") && !strings.HasPrefix(line, "  --") {
					t.Errorf("%v: a flag with one dash: %s", args, line)
				}
			}
		}
	})
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}} {
		code, out, errs := dispatched(args...)
		if code != 0 || errs != "" || !strings.Contains(out, "archive") {
			t.Errorf("%v: exit %d, stderr %q, stdout %q", args, code, errs, out)
		}
	}
}

// What cannot be understood says why, on the standard error, with code 2.
func TestWrongCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, reason string }{
		{"", "which command?"},
		{"server", `there is no command "server"`},
		{"help server", `there is no command "server"`},
		{"archive", "which command?"},
		{"archive open", `scripta archive: there is no command "open"`},
		{"clock set", `scripta clock: there is no command "set"`},
		{"log check --dir x", `scripta log: there is no command "check"`},
		{"serve", "scripta serve: --dir is missing"},
		{"serve --dir", "a value is missing after --dir"},
		{"serve --folder x", "there is no flag --folder"},
		{"serve x --dir y", `"x" is no flag`},
		{"serve --dir x --log-level loud", `--log-level: "loud" is none of debug, info, warn and error`},
		{"status --dir x --wait long", `for --wait`},
		{"clock confirm --dir x --month May", "--month"},
		{"verify", "one file, not 0"},
		{"verify a b --trust c", "one file, not 2"},
		{"verify a", "--trust is missing"},
		{"bench log --rounds 0", "--rounds 0 is too few"},
		{"version now", `"now" is no flag`},
	} {
		code, out, errs := dispatched(strings.Fields(c.line)...)
		if code != 2 || out != "" || !strings.HasPrefix(errs, "scripta") || !strings.Contains(errs, c.reason) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", c.line, code, out, errs)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if code, out, _ := dispatched("version"); code != 0 || !strings.HasPrefix(out, "scripta ") {
		t.Errorf("exit %d, %q", code, out)
	}
	got := buildVersion(&debug.BuildInfo{GoVersion: "go1.26.1", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-11-23T10:00:00Z"}, {Key: "vcs.modified", Value: "true"}}}, true)
	if !strings.HasPrefix(got, "scripta v1.2.3, commit 0123456789ab of 2026-11-23T10:00:00Z, changed since, go1.26.1 ") {
		t.Error(got)
	}
}
