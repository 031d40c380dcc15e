// Command scripta is a certified e-mail provider (PEC) with a verifiable log
// register, and the tools to run it and to check what it says.
//
// Each subcommand is in the file of its name; what is put together for all of
// them is in app.go, and nowhere else.
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
)

// command is one subcommand. It returns the exit code: 0, 1 when something
// failed or did not verify, 2 when the command line is wrong.
type command struct {
	run   func(args []string, stdout, stderr io.Writer) int
	about string
}

func commands() map[string]command {
	return map[string]command{
		"init":    {runInit, "make a provider's folder: configuration, keys, accounts"},
		"serve":   {runServe, "run the provider"},
		"status":  {runStatus, "tell whether it runs and every role is healthy"},
		"extract": {runExtract, "write an evidence file of a mailbox or a message"},
		"verify":  {runVerify, "check an evidence file, offline"},
		"log":     {runLog, "check the whole log and register"},
		"clock":   {runClock, "confirm the month after the clock jumped"},
		"archive": {runArchive, "close days, list and check their packages"},
		"bench":   {runBench, "measure the log and the mail path on this machine"},
	}
}

func main() {
	os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr))
}

func dispatch(args []string, stdout, stderr io.Writer) int {
	all := commands()
	if len(args) > 0 {
		if c, ok := all[args[0]]; ok {
			return c.run(args[1:], stdout, stderr)
		}
	}
	help := len(args) > 0 && slices.Contains([]string{"help", "-h", "--help"}, args[0])
	out := stderr
	if help {
		out = stdout
	}
	if len(args) > 0 && !help {
		fmt.Fprintf(stderr, "scripta: there is no command %q\n", args[0])
	}
	fmt.Fprint(out, "usage: scripta COMMAND [flags]; scripta COMMAND --help tells the flags\n\n")
	for _, name := range []string{"init", "serve", "status", "extract", "verify", "log", "clock", "archive", "bench"} {
		fmt.Fprintf(out, "  %-8s  %s\n", name, all[name].about)
	}
	if help {
		return 0
	}
	return 2
}
