package register

import (
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register/record"
)

// infoPackage begins the label of the keys of conservation packages.
const infoPackage = "scripta/package/v1"

// PackageKey derives the key under which one conservation package holds the
// records of a month (record.Sealed.Month; 0 is the service): HKDF-SHA-256 of
// the month's secret with the label "scripta/package/v1" ‖ packageID. Destroying
// the secret therefore reaches every copy of every package. It never opens a
// month. Errors: keys.ErrNoSecret, keys.ErrDisposed, keys.ErrDamaged.
func (r *Register) PackageKey(month uint16, packageID []byte) ([32]byte, error) {
	secret := r.keys.months.Service()
	if month != 0 {
		var err error
		if secret, err = r.keys.months.Secret(keys.Month(month)); err != nil {
			return [32]byte{}, err
		}
	}
	return keys.Derive(secret, infoPackage+string(packageID)), nil
}

// OpenLeaf opens the sealed record that the log keeps beside a leaf, checks that
// it gives the leaf, and tells its month (0 is the service). The error is
// keys.ErrDisposed, with the month, when the month's secret was destroyed.
func (r *Register) OpenLeaf(l merkle.Leaf) (*record.Opened, uint16, error) { return r.openLeaf(l) }
