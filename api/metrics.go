package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"scripta/merkle/checkpoint"
	"scripta/merkle/witness"
	"scripta/mta"
	"scripta/mta/mailbox"
	"scripta/mta/providers"
	"scripta/mta/rates"
	"scripta/mta/relay"
	"scripta/register"
)

// Sources are where the numbers of /metrics come from. What is nil is left out.
// Functions are called at every scrape and must be quick.
type Sources struct {
	Register   *register.Metrics
	Waiting    func() (records, bytes int) // in the register, for the disk
	MTA        *mta.Metrics
	LogSize    func() uint64                                // leaves
	Checkpoint func() *checkpoint.Signed                    // the latest published one
	Published  func() time.Time                             // when it was published; zero: not known
	Stamps     func() (granted, failed uint64)              // requests to time-stamp authorities
	StampedTo  func() (size uint64, ok bool)                // of the newest stamped checkpoint
	Clock      func() (bound time.Duration, traceable bool) // how far the time may be off
	Signatures func() (age time.Duration, known, up bool)   // of the virus scanner, and whether it answers
	Backlog    func() mta.Backlog                           // accepted messages that are not finished
	Relay      *relay.Queue                                 // of messages to other servers
	Accounts   func() mailbox.Counts                        // by state
	Limited    func(limit string) uint64                    // what was put off by each of rates.Names
	Extracts   func() (open, late int, failures uint64)     // unanswered, past their due date; failed productions
	FreeBytes  func() (int64, error)                        // on the disk that everything lies on
	Witnesses  func() []witness.PeerState                   // of the log, always in one order
	Cosigned   func() *checkpoint.Signed                    // the latest one that a quorum of them cosigned
	Scrub      func() (findings int, ended time.Time)       // what is not as it was written; when everything was last read
	Providers  func() providers.Status                      // of the index of providers
}

// Metrics is a Prometheus registry with everything that an operator watches.
type Metrics struct {
	registry     *prometheus.Registry
	requests     *prometheus.CounterVec
	elapsed      *prometheus.HistogramVec
	authFailures prometheus.Counter
	slowed       prometheus.Counter
}

// NewMetrics makes the registry. Names begin with scripta_ and units are base
// units: seconds, bytes.
func NewMetrics(s Sources) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scripta_api_requests_total", Help: "HTTP requests answered."}, []string{"method", "route", "status"}),
		elapsed: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scripta_api_request_seconds", Help: "Time to answer HTTP requests.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10}}, []string{"route"}),
		authFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: "scripta_api_auth_failures_total", Help: "Wrong passwords."}),
		slowed:       prometheus.NewCounter(prometheus.CounterOpts{Name: "scripta_api_auth_slowed_total", Help: "Logins refused unchecked after too many wrong passwords."}),
	}
	m.registry.MustRegister(m.requests, m.elapsed, m.authFailures, m.slowed,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.ofRegister(s)
	m.ofLog(s)
	m.ofMail(s)
	m.ofRelay(s)
	m.ofWitnesses(s)
	m.ofRest(s)
	return m
}

func (m *Metrics) counter(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "scripta_" + name, Help: help}, read))
}

func (m *Metrics) gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "scripta_" + name, Help: help}, read))
}

// histogram exports one that is kept elsewhere.
func (m *Metrics) histogram(name, help string, read func() (count uint64, sum float64, upTo map[float64]uint64)) {
	m.registry.MustRegister(collected{prometheus.NewDesc("scripta_"+name, help, nil, nil), read})
}

// collected is a prometheus.Collector of one histogram.
type collected struct {
	desc *prometheus.Desc
	read func() (count uint64, sum float64, upTo map[float64]uint64)
}

func (c collected) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

func (c collected) Collect(to chan<- prometheus.Metric) {
	count, sum, upTo := c.read()
	to <- prometheus.MustNewConstHistogram(c.desc, count, sum, upTo)
}

func seconds(nanos uint64) float64 { return float64(nanos) / 1e9 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *Metrics) ofRegister(s Sources) {
	if r := s.Register; r != nil {
		m.counter("register_records_total", "Records appended.", func() float64 { return float64(r.Records.Load()) })
		m.counter("register_refused_total", "Appends refused because too many records waited.", func() float64 { return float64(r.Refused.Load()) })
		m.histogram("register_append_seconds", "Time that callers waited for appends that succeeded.", r.AppendSeconds)
		m.histogram("register_commit_records", "Records of a commit to the log.", r.CommitRecords)
	}
	if s.Waiting != nil {
		m.gauge("register_waiting_records", "Records that are sealed and wait to be written.", func() float64 { n, _ := s.Waiting(); return float64(n) })
		m.gauge("register_waiting_bytes", "Bytes of the records that are sealed and wait to be written.", func() float64 { _, n := s.Waiting(); return float64(n) })
	}
}

func (m *Metrics) ofLog(s Sources) {
	if s.LogSize != nil {
		m.gauge("log_leaves", "Leaves in the log.", func() float64 { return float64(s.LogSize()) })
	}
	if s.Checkpoint != nil {
		m.gauge("log_checkpoint_leaves", "Leaves that the latest published checkpoint covers.", func() float64 {
			if c := s.Checkpoint(); c != nil {
				return float64(c.Size)
			}
			return 0
		})
	}
	if s.Published != nil {
		m.gauge("log_checkpoint_age_seconds", "Time since the latest checkpoint was published.", func() float64 {
			if t := s.Published(); !t.IsZero() {
				return time.Since(t).Seconds()
			}
			return 0
		})
	}
	if s.Stamps != nil {
		m.counter("tsa_granted_total", "Time stamps granted.", func() float64 { n, _ := s.Stamps(); return float64(n) })
		m.counter("tsa_failed_total", "Requests for a time stamp that failed.", func() float64 { _, n := s.Stamps(); return float64(n) })
	}
	if s.StampedTo != nil {
		m.gauge("tsa_stamped_leaves", "Leaves that the newest time stamp covers.", func() float64 { n, _ := s.StampedTo(); return float64(n) })
	}
}

func (m *Metrics) ofMail(s Sources) {
	if x := s.MTA; x != nil {
		m.gauge("mta_connections", "SMTP connections open.", func() float64 { return float64(x.Connections.Load()) })
		for _, c := range []struct {
			name, help string
			read       func() uint64
		}{
			{"mta_auth_failures_total", "Wrong passwords at the Access Point.", x.AuthFailures.Load},
			{"mta_auth_slowed_total", "Logins at the Access Point refused unchecked after too many wrong passwords.", x.AuthSlowed.Load},
			{"mta_messages_accepted_total", "Messages answered 250.", x.Accepted.Load},
			{"mta_messages_refused_total", "Messages answered 4xx or 5xx.", x.Refused.Load},
			{"mta_messages_not_accepted_total", "Messages that got a non-acceptance.", x.NonAccepted.Load},
			{"mta_scanned_messages_total", "Messages that the virus scanner gave a verdict on.", x.Scanned.Load},
			{"mta_infected_messages_total", "Messages that the virus scanner found something in, whoever sent them.", x.Infected.Load},
			{"mta_not_scanned_messages_total", "Messages that the virus scanner gave no verdict on: put off, or let pass, as [scan] on_failure says.", x.NotScanned.Load},
			{"mta_scored_messages_total", "Ordinary messages that the spam scorer gave a score.", x.Scored.Load},
			{"mta_not_scored_messages_total", "Ordinary messages that passed without a spam score: the scorer did not answer.", x.NotScored.Load},
			{"mta_spam_refused_total", "Mailboxes that did not want an ordinary message because of its spam score.", x.Spam.Load},
			{"mta_messages_finished_total", "Messages with every outcome issued.", x.Finished.Load},
			{"mta_deliveries_total", "Recipients who got their message.", x.Delivered.Load},
			{"mta_deliveries_failed_total", "Recipients who did not get their message.", x.NotDelivered.Load},
			{"mta_incoming_messages_total", "Messages of other mail servers answered 250.", x.Received.Load},
			{"mta_incoming_duplicates_total", "Messages of other mail servers answered 250 and dropped: they came before.", x.Duplicates.Load},
			{"mta_incoming_refused_total", "Commands and messages of other mail servers answered 4xx or 5xx.", x.IncomingRefused.Load},
			{"mta_incoming_ordinary_refused_total", "Mailboxes that ordinary mail was refused for.", x.OrdinaryRefused.Load},
			{"mta_incoming_revocation_unknown_total", "Messages of providers of whose certificates nobody told whether they were revoked.", x.RevocationUnknown.Load},
			{"mta_anomaly_envelopes_total", "Messages put into mailboxes that are no certified mail.", x.Anomalies.Load},
			{"mta_delay_notices_total", "Recipients of whom nothing was heard for 12 hours, as their authors were told.", x.DelayNotices.Load},
			{"mta_timeout_notices_total", "Recipients without an outcome after 24 hours, as their authors were told.", x.TimeoutNotices.Load},
			{"mta_returned_recipients_total", "Ordinary recipients whom a message did not reach.", x.Returned.Load},
			{"mta_retries_total", "Jobs that failed and were put off.", x.Retries.Load},
			{"mta_abuse_messages_total", "Infected messages that accounts of ours handed in.", x.Abused.Load},
			{"mta_abuse_suspensions_total", "Accounts whose sending was suspended because of infected messages.", x.Suspended.Load},
			{"mta_alarms_total", "Events that a person must look at.", x.Alarms.Load},
		} {
			m.counter(c.name, c.help, func() float64 { return float64(c.read()) })
		}
		m.counter("mta_work_seconds_total", "Time that workers spent on finished messages.", func() float64 { return seconds(x.FinishedNanos.Load()) })
	}
	if s.Accounts != nil {
		for state, of := range map[string]func(mailbox.Counts) int{
			"active":            func(n mailbox.Counts) int { return n.Active },
			"suspended":         func(n mailbox.Counts) int { return n.Suspended },
			"sending_suspended": func(n mailbox.Counts) int { return n.NotSending },
			"closed":            func(n mailbox.Counts) int { return n.Closed },
		} {
			m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "scripta_accounts", Help: "Accounts by state.",
				ConstLabels: prometheus.Labels{"state": state}}, func() float64 { return float64(of(s.Accounts())) }))
		}
		m.gauge("accounts_abused", "Accounts whose sending the provider suspended because of infected messages.", func() float64 { return float64(len(s.Accounts().Abused)) })
	}
	if s.Limited != nil {
		for _, limit := range rates.Names() {
			m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "scripta_mta_limited_total",
				Help: "What was put off because of a limit of [limits].", ConstLabels: prometheus.Labels{"limit": limit}}, func() float64 { return float64(s.Limited(limit)) }))
		}
	}
	if s.Signatures != nil {
		m.gauge("scan_up", "Whether the virus scanner answers.", func() float64 { _, _, up := s.Signatures(); return truth(up) })
		m.gauge("scan_signatures_age_seconds", "Age of the virus signatures; -1 if it is not known.", func() float64 {
			if age, known, _ := s.Signatures(); known {
				return age.Seconds()
			}
			return -1
		})
	}
	if s.Backlog != nil {
		m.gauge("spool_waiting_messages", "Messages accepted and not finished.", func() float64 { return float64(s.Backlog().Waiting) })
		m.gauge("spool_oldest_seconds", "Time since the oldest of them was accepted; 0 when there is none.", func() float64 {
			if t := s.Backlog().Oldest; !t.IsZero() {
				return time.Since(t).Seconds()
			}
			return 0
		})
		m.gauge("spool_elsewhere_messages", "Messages that wait for other providers' receipts, beside those of spool_waiting_messages.", func() float64 { return float64(s.Backlog().Elsewhere) })
		m.gauge("spool_failing_messages", "Messages whose last run failed and that wait for the next.", func() float64 { return float64(s.Backlog().Failing) })
	}
}

func (m *Metrics) ofRest(s Sources) {
	if s.Clock != nil {
		m.gauge("clock_bound_seconds", "How far the time may be off; meaningless while it is not traceable.", func() float64 { d, _ := s.Clock(); return d.Seconds() })
		m.gauge("clock_traceable", "Whether the time is traceable to UTC.", func() float64 { _, ok := s.Clock(); return truth(ok) })
	}
	if s.Extracts != nil {
		m.gauge("extracts_open", "Extracts asked for and not answered.", func() float64 { n, _, _ := s.Extracts(); return float64(n) })
		m.gauge("extracts_late", "Extracts not answered by their due date.", func() float64 { _, n, _ := s.Extracts(); return float64(n) })
		m.counter("extracts_failures_total", "Productions of an extract that failed and were put off.", func() float64 { _, _, n := s.Extracts(); return float64(n) })
	}
	if s.Scrub != nil {
		m.gauge("scrub_findings", "Things that are not what was written, as the scrub found.", func() float64 { n, _ := s.Scrub(); return float64(n) })
		m.gauge("scrub_age_seconds", "Time since everything was last read by the scrub; -1 if it never was.", func() float64 {
			if _, ended := s.Scrub(); !ended.IsZero() {
				return time.Since(ended).Seconds()
			}
			return -1
		})
	}
	if s.Providers != nil {
		m.gauge("index_providers", "Records of the copy of the directory of providers.", func() float64 { return float64(s.Providers().Providers) })
		m.gauge("index_domains", "Certified domains in it.", func() float64 { return float64(s.Providers().Domains) })
		m.gauge("index_remarks", "Records and values of it that are wrong.", func() float64 { return float64(len(s.Providers().Faults)) })
		m.counter("index_failures_total", "Refreshes of it that failed.", func() float64 { return float64(s.Providers().Failures) })
		m.gauge("index_signed_age_seconds", "Time since the copy was signed; -1 without a signature. One that grows beyond its keeper's habit may be an old file that is given out again.", func() float64 {
			if x := s.Providers(); !x.SigningTime.IsZero() {
				return time.Since(x.SigningTime).Seconds()
			}
			return -1
		})
		m.gauge("index_age_seconds", "Time since its source last said that it is the newest; -1 without a copy.", func() float64 {
			if x := s.Providers(); x.Copy {
				return time.Since(x.Checked).Seconds()
			}
			return -1
		})
	}
	if s.FreeBytes != nil {
		m.gauge("disk_free_bytes", "Free space where the data lies; -1 if it cannot be told.", func() float64 {
			n, err := s.FreeBytes()
			if err != nil {
				return -1
			}
			return float64(n)
		})
	}
}

// observe counts one answered request. An unknown path counts under no route, so
// that what strangers ask for makes no new series.
func (m *Metrics) observe(verb, route string, status int, elapsed time.Duration) {
	m.requests.WithLabelValues(method(verb), route, strconv.Itoa(status)).Inc()
	m.elapsed.WithLabelValues(route).Observe(elapsed.Seconds())
}

// Handler answers GET /metrics in Prometheus's text format, and nothing else. It
// belongs on a private port: it asks for no password.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	return mux
}
