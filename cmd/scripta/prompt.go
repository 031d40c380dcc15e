package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"scripta/mta/mailbox"
)

// askPassword asks for a new password on a terminal, twice and without showing
// it. The terminal is as it was when it returns, also when it is interrupted.
func askPassword(terminal *os.File, prompt io.Writer) (string, error) {
	fd := int(terminal.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", errors.New("there is no terminal to ask for the password on: give --password-file FILE, or - for the standard input")
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return "", fmt.Errorf("couldn't make the terminal silent: %w", err)
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	var said [2]string
	for i, text := range []string{"new password: ", "again: "} {
		fmt.Fprint(prompt, text)
		read := make(chan error, 1)
		go func() {
			var err error
			said[i], err = firstLine(terminal)
			read <- err
		}()
		select {
		case err = <-read:
		case <-interrupted: // the process ends, and the reader with it
			err = errors.New("interrupted; nothing was changed")
		}
		fmt.Fprintln(prompt)
		if err != nil {
			return "", err
		}
	}
	if said[0] != said[1] {
		return "", errors.New("the two are not the same; nothing was changed")
	}
	return said[0], nil
}

// firstLine reads a line without its end, byte by byte: what comes after it is
// for somebody else.
func firstLine(r io.Reader) (string, error) {
	var line []byte
	var one [1]byte
	for {
		_, err := io.ReadFull(r, one[:])
		switch {
		case err == io.EOF && len(line) > 0, err == nil && one[0] == '\n':
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			if len(line) == 0 {
				return "", errors.New("the password is empty")
			}
			return string(line), nil
		case err == io.EOF:
			return "", errors.New("the password is empty")
		case err != nil:
			return "", fmt.Errorf("couldn't read the password: %w", err)
		}
		if line = append(line, one[0]); len(line) > mailbox.MaxPassword+1 {
			return "", fmt.Errorf("the password is longer than %d bytes", mailbox.MaxPassword)
		}
	}
}
