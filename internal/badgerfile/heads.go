package badgerfile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The registry of encryption keys of a database that has none is
//
//	initialisation vector (16) ‖ "Hello Badger"
const (
	registryName   = "KEYREGISTRY"
	registryVector = 16
	registryText   = "Hello Badger"
)

// checkRegistry checks that the registry says that nothing is encrypted; its
// vector is for nothing.
func checkRegistry(dir string) error {
	name := filepath.Join(dir, registryName)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return nil
	} else if err != nil {
		return err
	}
	if len(b) != registryVector+len(registryText) || string(b[registryVector:]) != registryText {
		return &DamageError{File: name, Offset: registryVector, Reason: "it is not that of a database without encryption"}
	}
	return nil
}

// checkValueLogs checks that the heads of value logs name no encryption key. What
// else they hold was written by nobody here: values stand in tables.
func checkValueLogs(dir string) error {
	names, err := numbered(dir, ".vlog")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		var key [8]byte
		_, err = io.ReadFull(f, key[:])
		if err = errors.Join(ignoreEnd(err), f.Close()); err == nil && !bytes.Equal(key[:], make([]byte, len(key))) {
			err = &DamageError{File: name, Reason: "it names an encryption key, and there is none"}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func ignoreEnd(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}
