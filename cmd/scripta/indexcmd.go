package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/mta/providers"
)

const indexShowUsage = `usage: scripta index show --dir DIR [--providers] [--json]

Tells of the directory of providers: where it comes from, how old the last good
copy is, who signed it, and what in it is wrong or contradicts us. With
--providers, also who is in it.

`

const indexRefreshUsage = `usage: scripta index refresh --dir DIR

Fetches the directory of providers now.

`

const indexAcceptUsage = `usage: scripta index accept --dir DIR --digest DIGEST

Fetches the directory of providers and takes it although it was refused: with
far fewer providers or domains than before, or signed before the one that we
have. The digest is the one that the refusal named; any other directory is
refused as before. A bad signature is never accepted.

`

const indexExportUsage = `usage: scripta index export --dir DIR --out FILE [--plain]

Writes our own record of the directory of providers (RFC 6109 §4.5), signed by
us (.p7m; openssl cms -verify -inform DER -binary reads it), as it is published
at https://…` + providers.PublishedPath + `. With --plain, as bare LDIF.

`

func indexCommands() []command {
	return []command{
		{name: "show", about: "tell who is in the directory, and how old our copy is", run: runIndexShow},
		{name: "refresh", about: "fetch it now", run: runIndexRefresh},
		{name: "accept", about: "take one that looked wrong, after looking at it", run: runIndexAccept},
		{name: "export", about: "write our own record, signed", run: runIndexExport},
	}
}

// indexOperations are what commands do with the index of providers.
type indexOperations interface {
	// Directory tells of the index.
	Directory(ctx context.Context) (*directory, error)
	// RefreshIndex fetches the directory now; accept is a digest that a person
	// accepts, or "".
	RefreshIndex(ctx context.Context, accept string) (*providers.Update, error)
	// OwnLDIF returns our own record, signed or bare.
	OwnLDIF(ctx context.Context, plain bool) ([]byte, error)
}

// directory is the index as index show tells of it.
type directory struct {
	providers.Status
	WarnAfter string          `json:"warn_after"`
	Entries   []indexProvider `json:"entries"`
}

type indexProvider struct {
	Name         string   `json:"name"`
	Own          bool     `json:"own"`
	MailReceipt  string   `json:"mail_receipt"`
	Domains      []string `json:"domains"`
	Certificates []string `json:"certificates"` // SHA-1, as the directory names them, and their end
}

// Directory implements operations.
func (a *app) Directory(context.Context) (*directory, error) {
	d := &directory{Status: a.mirror.Status(), WarnAfter: a.cfg.Index.WarnAfter.String()}
	for _, p := range a.mirror.Index().Entries() {
		x := indexProvider{Name: p.String(), Own: p == a.publisher.Own[0], MailReceipt: p.ServiceAddress, Domains: p.Domains}
		for _, c := range p.Certificates {
			x.Certificates = append(x.Certificates, providers.Hash(c)+" until "+c.NotAfter.UTC().Format(time.DateOnly))
		}
		d.Entries = append(d.Entries, x)
	}
	return d, nil
}

// RefreshIndex implements operations.
func (a *app) RefreshIndex(ctx context.Context, accept string) (*providers.Update, error) {
	return a.mirror.Refresh(ctx, accept)
}

// OwnLDIF implements operations.
func (a *app) OwnLDIF(_ context.Context, plain bool) ([]byte, error) {
	now, err := a.now()
	if err != nil {
		return nil, err
	}
	bare, signed, err := a.publisher.Make(now)
	if plain {
		return bare, err
	}
	return signed, err
}

// indexHandlers serve indexOperations to commands.
func (d *daemon) indexHandlers(handle func(path string, do func(r *http.Request) (any, error))) {
	handle("/index/show", func(r *http.Request) (any, error) { return d.Directory(r.Context()) })
	handle("/index/refresh", func(r *http.Request) (any, error) {
		var accept string
		if err := json.NewDecoder(r.Body).Decode(&accept); err != nil {
			return nil, err
		}
		return d.RefreshIndex(r.Context(), accept)
	})
	handle("/index/export", func(r *http.Request) (any, error) {
		var plain bool
		if err := json.NewDecoder(r.Body).Decode(&plain); err != nil {
			return nil, err
		}
		return d.OwnLDIF(r.Context(), plain)
	})
}

// Directory implements operations.
func (c *controlClient) Directory(ctx context.Context) (*directory, error) {
	d := new(directory)
	return d, c.post(ctx, "/index/show", nil, d)
}

// RefreshIndex implements operations.
func (c *controlClient) RefreshIndex(ctx context.Context, accept string) (*providers.Update, error) {
	u := new(providers.Update)
	return u, c.post(ctx, "/index/refresh", accept, u)
}

// OwnLDIF implements operations.
func (c *controlClient) OwnLDIF(ctx context.Context, plain bool) (file []byte, err error) {
	return file, c.post(ctx, "/index/export", plain, &file)
}

func runIndexShow(args []string, stdout, stderr io.Writer) int {
	f := newFlags("index show", indexShowUsage, stdout, stderr)
	dir := f.folder()
	all := f.Bool("providers", false, "list who is in it")
	asJSON := f.Bool("json", false, "write JSON, with everything")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	var d *directory
	err := withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) (err error) {
		d, err = o.Directory(ctx)
		return err
	})
	if err != nil {
		return f.failed(err)
	}
	if *asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(d); err != nil {
			return f.failed(err)
		}
		return 0
	}
	d.print(stdout)
	if *all {
		for _, p := range d.Entries {
			own := ""
			if p.Own {
				own = " (this provider)"
			}
			fmt.Fprintf(stdout, "%s%s\n  mailReceipt  %s\n  domains      %s\n", p.Name, own, p.MailReceipt, fewDomains(p.Domains))
			for _, c := range p.Certificates {
				fmt.Fprintf(stdout, "  certificate  %s\n", c)
			}
		}
	}
	return 0
}

// print tells of the directory in lines.
func (d *directory) print(w io.Writer) {
	switch {
	case d.Source == "":
		fmt.Fprintln(w, "source     none: index.source is empty, and only this provider is known")
		return
	case !d.Copy:
		fmt.Fprintf(w, "source     %s\ncopy       NONE YET: no message is taken until it comes\n", d.Source)
	default:
		fmt.Fprintf(w, "source     %s\nchecked    %s (%v ago)\ntaken      %s\ndigest     %s\nfile       %s\nholds      %d records, %d domains\n", d.Source,
			d.Checked.UTC().Format(time.RFC3339), time.Since(d.Checked).Round(time.Second), d.Taken.UTC().Format(time.RFC3339), d.Index, d.File, d.Status.Providers, d.Status.Domains)
		if d.Location != "" && d.Location != d.Source {
			fmt.Fprintf(w, "location   %s, as the directory says\n", d.Location)
		}
		if d.Signer != "" {
			fmt.Fprintf(w, "signed     %s by %s\n", d.SigningTime.UTC().Format(time.RFC3339), d.Signer)
		} else {
			fmt.Fprintln(w, "signed     no: an LDAP server says so")
		}
	}
	if d.Trouble != "" {
		fmt.Fprintf(w, "trouble    %s\n", d.Trouble)
	}
	for _, x := range d.Faults {
		fmt.Fprintf(w, "remark     %s\n", x)
	}
}

// fewDomains lists domains as far as a person reads; --json has all of them.
func fewDomains(all []string) string {
	const few = 20
	if len(all) <= few {
		return strings.Join(all, " ")
	}
	return fmt.Sprintf("%s … and %d more", strings.Join(all[:few], " "), len(all)-few)
}

func runIndexRefresh(args []string, stdout, stderr io.Writer) int {
	f := newFlags("index refresh", indexRefreshUsage, stdout, stderr)
	dir := f.folder()
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	return f.refreshIndex(*dir, "")
}

func runIndexAccept(args []string, stdout, stderr io.Writer) int {
	f := newFlags("index accept", indexAcceptUsage, stdout, stderr)
	dir := f.folder()
	digest := f.String("digest", "", "the `DIGEST` that the refusal named")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if len(*digest) != 64 {
		return f.wrong("--digest is missing, or has not 64 digits: scripta index refresh names it")
	}
	return f.refreshIndex(*dir, *digest)
}

func (f *flags) refreshIndex(dir, accept string) int {
	var u *providers.Update
	err := withOperations(config.Dir(dir), commandLogger(f.stderr), func(ctx context.Context, o operations) (err error) {
		u, err = o.RefreshIndex(ctx, accept)
		return err
	})
	if err != nil {
		return f.failed(err)
	}
	what := "unchanged"
	if u.Changed {
		what = fmt.Sprintf("changed: %d records came, %d went", len(u.Added), len(u.Gone))
	}
	fmt.Fprintf(f.stdout, "%s: %d records, %d domains, digest %s\n", what, u.Providers, u.Domains, u.Index)
	for _, x := range u.Faults {
		fmt.Fprintf(f.stdout, "remark: %s\n", x)
	}
	return 0
}

func runIndexExport(args []string, stdout, stderr io.Writer) int {
	f := newFlags("index export", indexExportUsage, stdout, stderr)
	dir := f.folder()
	out := f.String("out", "", "the `FILE` to write, or - for standard output")
	plain := f.Bool("plain", false, "bare LDIF, not signed")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if *out == "" {
		return f.wrong("--out is missing: write the file, such as --out provider.ldif.p7m")
	}
	var file []byte
	err := withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) (err error) {
		file, err = o.OwnLDIF(ctx, *plain)
		return err
	})
	if err == nil && *out == "-" {
		_, err = stdout.Write(file)
	} else if err == nil {
		err = durable.WriteFile(durable.OS, *out, file, 0o644)
	}
	if err != nil {
		return f.failed(err)
	}
	if *out != "-" {
		fmt.Fprintf(stderr, "%s: our own record, %d bytes\n", *out, len(file))
	}
	return 0
}
