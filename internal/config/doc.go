// Package config reads and writes the configuration of a provider,
// DIR/scripta.toml, and names the files of its folder.
//
// The file is made from the struct [Config]: the comment over each key, its
// unit, its limits and its default stand in the struct's tags, so that the
// file, the checks and the error messages cannot disagree. [Load] is strict:
// an unknown key, a wrong type or a value out of its range is an [Error] with
// the file, the line, the column, the key and what to write instead. A
// misspelt key that was silently ignored would leave a provider running with
// a limit that its operator believes changed.
//
// A key left out takes the value of [Default], which is the safe one for
// production; [Quickstart] is the variant that `scripta init` writes.
//
// The package never reads keys or passwords: the file names them by path.
package config
