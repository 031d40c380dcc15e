package keys

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable"
)

const (
	pemPrivateKey  = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
)

// maxKeyFile bounds what is read of a key or certificate file, in bytes.
const maxKeyFile = 1 << 20

// ErrExposed is the error of a secret file that others than its owner can
// read or write.
var ErrExposed = errors.New("others can read this secret file")

// readSecret returns the content of a file that only its owner may open.
func readSecret(fsys durable.FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: %w (mode %04o); run: chmod 600 %s, and make a new key if others had access", path, ErrExposed, fi.Mode().Perm(), path)
	}
	return readBounded(f, path)
}

func readBounded(r io.Reader, path string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%s is larger than 1 MiB", path)
	}
	return data, nil
}

// LoadSigner returns the private key of a PEM file with one PKCS#8 key (RSA,
// ECDSA or Ed25519). The file must be readable by its owner alone; otherwise
// the error is [ErrExposed].
func LoadSigner(path string) (crypto.Signer, error) {
	data, err := readSecret(durable.OS, path)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the private key: %w", err)
	}
	signer, err := parseSigner(data)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the private key %s: %w", path, err)
	}
	return signer, nil
}

func parseSigner(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("no PEM block; write the key as PKCS#8 PEM (openssl pkcs8 -topk8 -nocrypt)")
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, errors.New("the key is encrypted; decrypt it (openssl pkcs8 -topk8 -nocrypt) and protect the file by its mode")
	case strings.HasSuffix(block.Type, pemPrivateKey) && block.Type != pemPrivateKey:
		return nil, fmt.Errorf("a key of the form %q; convert it to PKCS#8 (openssl pkcs8 -topk8 -nocrypt)", block.Type)
	case block.Type != pemPrivateKey:
		return nil, fmt.Errorf("a PEM block %q where %q is expected", block.Type, pemPrivateKey)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("more than one key in the file")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}

// SaveSigner writes the key as PKCS#8 PEM, durably and with mode 0600. It
// replaces what was there.
func SaveSigner(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("couldn't encode the private key for %s: %w", path, err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der})
	if err := durable.WriteFile(durable.OS, path, data, 0o600); err != nil {
		return fmt.Errorf("couldn't save the private key: %w", err)
	}
	return nil
}

// LoadCertificates returns the certificates of a PEM file in their order, at
// least one. Text between the blocks is ignored, other blocks are errors.
func LoadCertificates(path string) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the certificates: %w", err)
	}
	defer f.Close()
	data, err := readBounded(f, path)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the certificates: %w", err)
	}
	certs, err := ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the certificates of %s: %w", path, err)
	}
	return certs, nil
}

// ParseCertificates is [LoadCertificates] on the content of a file.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("a PEM block %q where %q is expected", block.Type, pemCertificate)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate; write them as PEM")
	}
	return certs, nil
}

// EncodeCertificates returns the certificates as PEM in their order.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw}))
	}
	return b.Bytes()
}

// LoadPair returns a key and the certificates of its chain, the key's own
// first, after checking that they belong together.
func LoadPair(keyPath, certPath string) (crypto.Signer, []*x509.Certificate, error) {
	key, err := LoadSigner(keyPath)
	if err != nil {
		return nil, nil, err
	}
	certs, err := LoadCertificates(certPath)
	if err != nil {
		return nil, nil, err
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(certs[0].PublicKey) {
		return nil, nil, fmt.Errorf("the key %s is not that of the first certificate of %s", keyPath, certPath)
	}
	return key, certs, nil
}

// LoadNoteSigner returns the log's signing key from a file of the form of
// [note.NewSigner], which only its owner may read.
func LoadNoteSigner(path string) (note.Signer, error) {
	data, err := readSecret(durable.OS, path)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the log's key: %w", err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(data)))
	if err != nil {
		// The cause of note may quote the key.
		return nil, fmt.Errorf("couldn't read the log's key %s: it is not a C2SP note signer key", path)
	}
	return signer, nil
}

// exists says whether there is a file at path.
func exists(fsys durable.FS, path string) (bool, error) {
	_, err := fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
