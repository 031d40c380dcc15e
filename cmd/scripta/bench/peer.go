package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// peerAnswer is what a peer program prints: how many durable appends there were,
// and their latencies.
type peerAnswer struct {
	Count int           `json:"count"`
	Nanos time.Duration `json:"nanos"`
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
}

func (p peerAnswer) rate() float64 {
	if p.Nanos == 0 {
		return 0
	}
	return float64(p.Count) / p.Nanos.Seconds()
}

// runPeer lets another log's program append for as long, with as many writers and
// entries of the raw file's length, in an empty folder that is removed afterwards. The
// program is bench/tessera, or another with its flags and answer.
func runPeer(ctx context.Context, program, dir string, writers int, long time.Duration) (a peerAnswer, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return a, err
	}
	defer os.RemoveAll(dir)
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-dir", dir, "-writers", strconv.Itoa(writers), "-entry", strconv.Itoa(rawEntry),
		"-seconds", strconv.FormatFloat(long.Seconds(), 'f', -1, 64))
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return a, fmt.Errorf("the peer %s failed: %w: %.500s", program, err, complaints.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		return a, fmt.Errorf("the peer %s answered %.200q: %w", program, out.Bytes(), err)
	}
	return a, nil
}
