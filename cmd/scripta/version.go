package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
)

const versionUsage = `usage: scripta version

Tells which release or commit the program was built from, and by which Go.
`

func runVersion(args []string, stdout, stderr io.Writer) int {
	f := newFlags("version", versionUsage, stdout, stderr)
	if code, ok := f.parse(args, nil); !ok {
		return code
	}
	fmt.Fprintln(stdout, buildVersion(debug.ReadBuildInfo()))
	return 0
}

// buildVersion is one line about a build.
func buildVersion(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return "scripta, of a build that does not tell"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	// A version made from a commit names it, and says "+dirty" of what changed since.
	if r := settings["vcs.revision"]; r != "" && !strings.Contains(version, r[:min(12, len(r))]) {
		version += ", commit " + r[:min(12, len(r))] + " of " + settings["vcs.time"]
		if settings["vcs.modified"] == "true" {
			version += ", changed since"
		}
	}
	return fmt.Sprintf("scripta %s, %s %s/%s", version, info.GoVersion, runtime.GOOS, runtime.GOARCH)
}
