// Command scripta is a certified e-mail provider (PEC) with a verifiable log
// register, and the tools to run it and to check what it says.
//
// Each subcommand is in the file of its name; what is put together for all of
// them is in app.go, and nowhere else.
package main

import "os"

// commands are all that the program can do, in the order in which help lists them.
func commands() []command {
	return []command{
		{name: "init", about: "make a provider's folder: configuration, keys, accounts", run: runInit},
		{name: "serve", about: "run the provider", run: runServe},
		{name: "status", about: "tell whether it runs and every role is healthy", run: runStatus},
		{name: "account", about: "add, suspend and close mailboxes, change passwords", sub: accountCommands()},
		{name: "queue", about: "list, retry and hold what waits for other servers", sub: queueCommands()},
		{name: "extract", about: "write an evidence file of a mailbox or a message", run: runExtract},
		{name: "verify", about: "check an evidence file, offline", run: runVerify},
		{name: "audit", about: "check the rules of certified e-mail over all records", run: runAudit},
		{name: "log", about: "check the whole log and register", sub: logCommands()},
		{name: "register", about: "make the register's index anew", sub: registerCommands()},
		{name: "clock", about: "confirm the month after the clock jumped", sub: clockCommands()},
		{name: "archive", about: "close days, list and check their packages", sub: archiveCommands()},
		{name: "witness", about: "cosign other providers' logs", sub: witnessCommands()},
		{name: "backup", about: "make a backup of the data, also while running", run: runBackup},
		{name: "restore", about: "bring a backup back into an empty folder", run: runRestore},
		{name: "index", about: "the directory of all providers: show, refresh, accept, export ours", sub: indexCommands()},
		{name: "keys", about: "copy the month secrets, dispose of a month, hold records", sub: keysCommands()},
		{name: "quarantine", about: "list and export infected messages", sub: quarantineCommands()},
		{name: "bench", about: "measure the log and the mail path on this machine", sub: benchCommands()},
		{name: "version", about: "tell which build this is", run: runVersion},
	}
}

func main() {
	os.Exit(dispatch("scripta", commands(), os.Args[1:], os.Stdout, os.Stderr))
}
