package keys

import "encoding/hex"

// Vectors of Derive for the secret 000102…1f, computed outside of Go.
const (
	nonceVector   = "431428643932055d47ed3ef088e63c3b12ada4a9a874935b6dcc82fc3c1e661a"
	sealVector    = "d3d6500bc73ba962d70a267c07ec3d915034b51f61fb09f9a10916d37485337b"
	indexVector   = "26b410ff0a7c30e4e8679389e90b4b62b4c8fb2c7c0c0e61d8ed23f44866699f"
	receiptVector = "c448097c78914bb2f1e6551ad413924288f260b9d9f2a86692a1d8bcfc7d2e0f"
)

func hexOf(b [32]byte) string { return hex.EncodeToString(b[:]) }
