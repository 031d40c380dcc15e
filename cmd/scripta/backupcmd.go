package main

import (
	"os"
	"path/filepath"
)

// backupMark is the file that makes a folder a backup of the data.
const backupMark = "SHA256SUMS"

// holdsBackup says whether a folder, or one above it, is a backup of the data.
func holdsBackup(folder string) bool {
	for {
		if _, err := os.Lstat(filepath.Join(folder, backupMark)); err == nil {
			return true
		}
		up := filepath.Dir(folder)
		if up == folder {
			return false
		}
		folder = up
	}
}
