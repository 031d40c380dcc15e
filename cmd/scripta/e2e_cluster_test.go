package main

import (
	"crypto/x509"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/merkle/cluster/clustertest"
	"scripta/mta/pec"
)

var copiedRecords = regexp.MustCompile(`(?s)register +(\d+) records\b.*cluster +(\d+) records copied`)

// TestCluster moves a provider's log to a real cluster without stopping more than
// the daemon: first copied and compared, then on the cluster alone. Then the
// node is killed under load and another adopts its folder.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := clustertest.Start(t)
	p := newProvider(t, []string{"mario", "lucia"}, nil)
	roots := pool(must[[]*x509.Certificate](t)(keys.LoadCertificates(p.dir.PublicTLSCA())))
	where, err := c.ServeTLS(p.dir.TLSCertificate(), p.dir.TLSKey(), roots)
	if err != nil {
		t.Fatal(err)
	}
	engine := func(engine, node string) {
		t.Helper()
		p.configure(t, func(k *config.Config) {
			k.Log.Engine = engine
			k.Cluster = config.Cluster{Address: where, TLS: "on", TLSCA: p.dir.PublicTLSCA(), Database: c.Database, Node: node,
				Lease: config.Duration{Duration: 2 * time.Second}, Patience: config.Duration{Duration: 20 * time.Second}}
		})
	}
	sent := 0
	send := func(n int) {
		t.Helper()
		for range n {
			p.send(t, letter{id: fmt.Sprintf("<c%d@client>", sent), from: address("mario"), to: []string{address("lucia")}, subject: "log"})
			sent++
		}
	}

	p.start(t) // embedded
	send(3)
	p.idle(t, patience)
	p.stop(t)

	engine(config.EngineCrossCheck, "uno")
	p.start(t)
	send(3)
	p.idle(t, patience)
	eventually(t, time.Minute, "the copy", func() bool {
		_, out := p.scripta(t, "status")
		m := copiedRecords.FindStringSubmatch(out)
		return m != nil && m[1] == m[2]
	})
	p.stop(t)

	engine(config.EngineTrillian, "uno")
	p.start(t)
	send(3)
	p.idle(t, patience)

	// Without the signer nothing gets into the tree: the client is put off, and
	// what it handed in is carried on afterwards all the same, whole.
	p.stop(t)
	p.configure(t, func(k *config.Config) { k.Cluster.Patience.Duration = time.Second })
	p.start(t)
	c.KillSigner()
	l := letter{id: "<doubt@client>", from: address("mario"), to: []string{address("lucia")}, subject: "doubt"}
	author := must[*client](t)(p.login("mario"))
	if err := author.submit(l.from, l.recipients(), l.String()); !strings.HasPrefix(refusal(err), "451 ") {
		t.Errorf("without the signer a message was answered %v", err)
	}
	author.Close()
	eventually(t, time.Minute, "status to tell of the signer", func() bool {
		code, out := p.scripta(t, "status")
		return code != 0 && strings.Contains(out, "is the log signer running")
	})
	if err := c.StartSigner(); err != nil {
		t.Fatal(err)
	}
	p.idle(t, patience)
	if len(p.about(t, "lucia", pec.TransportEnvelope, l.id)) != 1 || len(p.about(t, "mario", pec.Delivery, l.id)) != 1 || len(p.about(t, "mario", pec.Acceptance, l.id)) != 1 {
		t.Error("the message whose record was in doubt was not carried on, or twice")
	}

	// Killed with messages under way; another node has the folder.
	send(size(3, 10, 100))
	p.daemon.kill()
	engine(config.EngineTrillian, "due")
	p.start(t)
	if !strings.Contains(p.logged(t), "the log came from another node") {
		t.Errorf("the log was not adopted:\n%s", p.logged(t))
	}
	send(3)
	p.idle(t, patience)
	if out := p.command(t, "status"); !strings.Contains(out, "cluster") {
		t.Errorf("status says nothing of the cluster:\n%s", out)
	}
	for i := range sent {
		id := "<c" + strconv.Itoa(i) + "@client>"
		if got := p.about(t, "lucia", pec.TransportEnvelope, id); len(got) != 1 {
			t.Errorf("message %s was delivered %d times", id, len(got))
		}
		if got := p.about(t, "mario", pec.Delivery, id); len(got) != 1 {
			t.Errorf("message %s has %d delivery receipts", id, len(got))
		}
	}
	if e := p.extract(t, "--mailbox", address("mario")); len(e.records) < 3*sent {
		t.Errorf("the extract has %d records of %d messages", len(e.records), sent)
	}
	p.stop(t)
	p.verifyLog(t)

	// The cluster is gone: the provider does not start, and says why.
	c.KillPostgres()
	if code, out := p.scripta(t, "log", "verify"); code == 0 || !strings.Contains(out, "lease") {
		t.Errorf("without the cluster: exit %d, %s", code, out)
	}
}
