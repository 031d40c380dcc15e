package scan_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"scripta/mta/scan"
	"scripta/mta/scan/clamdtest"
)

func open(address string, timeout time.Duration) *scan.Scanner {
	return scan.New(scan.Options{Clamd: address, Timeout: timeout, Concurrency: 2, MaxAge: 72 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
}

// mail is a message with a part, within an envelope if that is asked for.
func mail(part string, encoded, enclosed bool) string {
	encoding := "7bit"
	if encoded {
		encoding, part = "base64", base64.StdEncoding.EncodeToString([]byte(part))
	}
	m := "From: a@x.test\r\nTo: b@x.test\r\nSubject: prova\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n" +
		"--in\r\nContent-Type: text/plain\r\n\r\nbuongiorno\r\n--in\r\nContent-Type: application/octet-stream; name=f.bin\r\nContent-Transfer-Encoding: " + encoding +
		"\r\nContent-Disposition: attachment; filename=f.bin\r\n\r\n" + part + "\r\n--in--\r\n"
	if enclosed {
		m = "From: p@x.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=out; protocol=\"application/x-pkcs7-signature\"\r\n\r\n--out\r\n" +
			"Content-Type: multipart/mixed; boundary=mid\r\n\r\n--mid\r\nContent-Type: text/plain\r\n\r\nbusta\r\n--mid\r\nContent-Type: message/rfc822; name=postacert.eml\r\n\r\n" +
			m + "\r\n--mid--\r\n--out--\r\n"
	}
	return m
}

func TestRealEngineFindsIt(t *testing.T) {
	t.Parallel()
	s := open(clamdtest.Start(t).Address, 30*time.Second)
	for name, content := range map[string]string{
		"plain": clamdtest.EICAR(), "in a part": mail(clamdtest.EICAR(), false, false), "base64": mail(clamdtest.EICAR(), true, false),
		"in postacert.eml": mail(clamdtest.EICAR(), false, true), "base64 in postacert.eml": mail(clamdtest.EICAR(), true, true),
	} {
		f, err := s.Scan(context.Background(), strings.NewReader(content))
		if err != nil || f == nil || f.Virus != clamdtest.Virus {
			t.Errorf("%s: found %+v, %v", name, f, err)
			continue
		}
		if !strings.HasPrefix(f.Engine, "ClamAV ") || f.Signatures != "local ones of unknown age" {
			t.Errorf("%s: found by %q with %q", name, f.Engine, f.Signatures)
		}
	}
	for name, content := range map[string]string{"nothing": "", "clean": mail("innocuo", true, true), "long": strings.Repeat("innocuo\r\n", 1<<20)} {
		if f, err := s.Scan(context.Background(), strings.NewReader(content)); err != nil || f != nil {
			t.Errorf("%s: found %+v, %v", name, f, err)
		}
	}
}

func TestEngineDownAndUp(t *testing.T) {
	t.Parallel()
	server := clamdtest.Start(t)
	s := open(server.Address, 30*time.Second)
	server.Down()
	if f, err := s.Scan(context.Background(), strings.NewReader("x")); f != nil || !errors.Is(err, scan.ErrUnavailable) {
		t.Fatalf("without an engine: %+v, %v", f, err)
	}
	if !s.Check(context.Background(), false) || s.State().Err == nil {
		t.Error("nobody noticed that the engine is down")
	}
	server.Up()
	if f, err := s.Scan(context.Background(), strings.NewReader(clamdtest.EICAR())); err != nil || f == nil {
		t.Fatalf("with it: %+v, %v", f, err)
	}
	if s.Check(context.Background(), true) || s.State().Err != nil || !strings.HasPrefix(s.State().Version.Engine, "ClamAV ") {
		t.Errorf("nobody noticed that it is up: %+v", s.State())
	}
}

func TestMessageBeyondTheEnginesLimit(t *testing.T) {
	t.Parallel()
	s := open(clamdtest.Start(t, "StreamMaxLength 1M").Address, 30*time.Second)
	for range 5 { // clamd hangs up while we send
		f, err := s.Scan(context.Background(), io.LimitReader(endless{}, 32<<20))
		if f != nil || !errors.Is(err, scan.ErrTooLarge) {
			t.Fatalf("%+v, %v; want %v", f, err, scan.ErrTooLarge)
		}
	}
}

// What clamd takes is tried at its first answer, and when it was away.
func TestLimitIsTriedBefore(t *testing.T) {
	t.Parallel()
	server := clamdtest.Start(t, "StreamMaxLength 1M")
	for octets, small := range map[int64]bool{1 << 20: false, 1<<20 + 1<<17: true} {
		s := scan.New(scan.Options{Clamd: server.Address, Timeout: 30 * time.Second, Largest: octets, Logger: slog.New(slog.DiscardHandler)})
		if s.Check(t.Context(), true) || s.State().Small != small {
			t.Errorf("%d octets: %+v", octets, s.State())
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// serve plays a clamd that takes everything and answers as it is told.
func serve(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer(c)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().String()
}

// What is no verdict is never taken for one.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"hangs up": "", "cut short": "stream: OK", "error": "stream: Can't allocate memory ERROR\x00", "another's verdict": "x: OK\x00",
		"no verdict": "\x00", "timed out": "COMMAND READ TIMED OUT\x00", "too long": strings.Repeat("stream: OK", 1<<12) + "\x00", "two": "stream: OK stream: OK\x00",
	} {
		address := serve(t, func(c net.Conn) {
			_, _ = io.WriteString(c, answer)
			_ = c.(*net.TCPConn).CloseWrite()
		})
		if f, err := open(address, 30*time.Second).Scan(context.Background(), strings.NewReader("x")); f != nil || !errors.Is(err, scan.ErrUnavailable) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

func TestEngineThatHangs(t *testing.T) {
	t.Parallel()
	address := serve(t, func(net.Conn) {})
	s := open(address, 50*time.Millisecond)
	if f, err := s.Scan(context.Background(), strings.NewReader("x")); f != nil || !errors.Is(err, scan.ErrUnavailable) {
		t.Errorf("%+v, %v", f, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if f, err := open(address, time.Hour).Scan(ctx, strings.NewReader("x")); f != nil || err == nil {
		t.Errorf("given up: %+v, %v", f, err)
	}
}

// A message that cannot be read is the reader's error, not the engine's verdict.
func TestMessageThatCannotBeRead(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk")
	address := serve(t, func(c net.Conn) { _, _ = io.WriteString(c, "stream: OK\x00") })
	f, err := open(address, 30*time.Second).Scan(context.Background(), io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)))
	if f != nil || !errors.Is(err, broken) {
		t.Errorf("%+v, %v", f, err)
	}
}

// The finding says how old the signatures are, and old ones are warned of once a
// day.
func TestAgeOfSignatures(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	made := now.Add(-73 * time.Hour)
	address := serve(t, func(c net.Conn) {
		b := make([]byte, 9)
		_, _ = io.ReadFull(c, b)
		if strings.HasPrefix(string(b), "zVERSION") {
			_, _ = io.WriteString(c, "ClamAV 1.4.6/27450/"+made.Format(time.ANSIC)+"\x00")
			return
		}
		_, _ = io.WriteString(c, "stream: Win.Test FOUND\x00")
	})
	var log strings.Builder
	s := scan.New(scan.Options{Clamd: address, Timeout: 30 * time.Second, MaxAge: 72 * time.Hour, Now: func() time.Time { return now },
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	f, err := s.Scan(context.Background(), strings.NewReader("x"))
	want := scan.Finding{Virus: "Win.Test", Engine: "ClamAV 1.4.6", Signatures: "27450 of " + made.UTC().Format(time.RFC3339) + ", 73 hours old"}
	if err != nil || f == nil || *f != want {
		t.Fatalf("%+v, %v; want %+v", f, err, want)
	}
	for range 2 {
		s.Check(context.Background(), false)
	}
	if n := strings.Count(log.String(), "signatures are old"); n != 1 || !s.Old() {
		t.Errorf("warned %d times: %s", n, log.String())
	}
	now = now.Add(25 * time.Hour)
	s.Check(context.Background(), false)
	if n := strings.Count(log.String(), "signatures are old"); n != 2 {
		t.Errorf("warned %d times in two days", n)
	}
}
