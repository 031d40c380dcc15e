#!/usr/bin/env python3
"""An independent check of certified messages (PEC), one by one.

Written from RFC 6109 and the document type in daticert.dtd, with Python's
standard library, openssl and xmllint, and no code of the project.

    check_mailbox.py --ca ROOTS.pem [--originals PATH]... [--at UNIXTIME] PATH...
    check_mailbox.py --help                  say this

A PATH is a message, or a folder of messages: of a Maildir, new/ and cur/ are
read, of a Maildir++ its folders too. ROOTS.pem holds the roots that signatures
must lead to. --originals names the messages as their authors sent them, against
which postacert.eml is compared; without them it is compared with the envelope
of the same message, if that is among the PATHs. --at checks signatures as of
that second instead of now.

Prints one JSON object a line for each message:

  file, sha256, size
  kind        the value of X-Ricevuta or X-Trasporto, "ordinaria" if there is none
  variant     completa, breve or sintetica; virus; 12h or 24h; or ""
  message_id  of the message itself, without < >
  from, to, subject, date
  signer      the e-mail address in the certificate of its signature
  certified   what daticert.xml says: tipo, errore, mittente, destinatari ([address, tipo]), risposte, oggetto,
              gestore, data (ISO 8601), identificativo, msgid, ricevuta, consegna, ricezione ([address]), errore_esteso;
              null in an anomaly envelope
  original    sha256 and message_id of the included message, and "compared": what it was found equal to
              ("original", "envelope") or null; null when none is included
  problems    what is wrong with it, in words; empty when nothing is

Exits 0 when no message has a problem, 1 when one has, 2 when the command line is
wrong or a program is missing.
"""
import base64
import binascii
import concurrent.futures
import datetime
import email
import email.errors
import email.policy
import email.utils
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import xml.etree.ElementTree as ET

# value of the marking field: subject prefixes by variant, whether an original must, may or must not be included,
# elements that daticert.xml must have
KINDS = {
    "accettazione": ({"": "ACCETTAZIONE: "}, "no", set()),
    "non-accettazione": ({"": "AVVISO DI NON ACCETTAZIONE: ", "virus": "AVVISO DI NON ACCETTAZIONE PER VIRUS: "}, "no", {"errore-esteso"}),
    "presa-in-carico": ({"": "PRESA IN CARICO: "}, "no", {"ricezione"}),
    "avvenuta-consegna": ({"": "CONSEGNA: "}, "may", {"consegna", "ricevuta"}),
    "errore-consegna": ({"": "AVVISO DI MANCATA CONSEGNA: ", "virus": "AVVISO DI MANCATA CONSEGNA PER VIRUS: "}, "no", {"consegna", "errore-esteso"}),
    "preavviso-errore-consegna": ({"": "AVVISO DI MANCATA CONSEGNA PER SUP. TEMPO MASSIMO: "}, "no", {"consegna", "errore-esteso"}),
    "rilevazione-virus": ({"virus": "PROBLEMA DI SICUREZZA: "}, "no", {"consegna", "errore-esteso"}),
    "posta-certificata": ({"": "POSTA CERTIFICATA: "}, "must", {"ricevuta"}),
    "errore": ({"": "ANOMALIA MESSAGGIO: "}, "must", set()),
}
ENVELOPES = {"posta-certificata", "errore"}
OPTIONAL = {"ricevuta": {"posta-certificata", "avvenuta-consegna"}, "ricezione": {"presa-in-carico"},
            "consegna": {"avvenuta-consegna", "errore-consegna", "preavviso-errore-consegna", "rilevazione-virus"}}


class Problem(Exception):
    """The message is so wrong that nothing more can be said of it."""


# --- MIME, by octets ----------------------------------------------------------

def split_header(raw):
    """Header octets (with their last line break) and body of an entity."""
    if raw.startswith(b"\r\n"):
        return b"", raw[2:]
    at = raw.find(b"\r\n\r\n")
    return (raw, b"") if at < 0 else (raw[:at + 2], raw[at + 4:])


def fields(header):
    """The fields of a header: [name in lower case, octets with folding and line break]."""
    all = []
    for line in header.splitlines(keepends=True):
        if line[:1] in b" \t" and all:
            all[-1][1] += line
        else:
            all.append([line.split(b":", 1)[0].strip().lower().decode("ascii", "replace"), line])
    return all


def headers(raw):
    """The header of an entity, parsed and decoded."""
    return email.message_from_bytes(split_header(raw)[0] + b"\r\n", policy=email.policy.SMTP)


def split_parts(body, boundary):
    """The octets of each part of a multipart, without the line break that belongs to its delimiter."""
    delimiter = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?:\r\n|\Z)")
    parts, start, at = [], None, 0
    while True:
        m = delimiter.search(body, at)
        if not m:
            raise Problem("a multipart is not closed")
        if start is not None:
            parts.append(body[start:m.start()])
        if m.group(1):
            return parts
        start = m.end()
        at = m.end() - 2 if body[m.end() - 2:m.end()] == b"\r\n" else m.end()


def multipart(raw, want):
    """The parts of an entity that must be of this type."""
    h = headers(raw)
    if h.get_content_type() != want:
        raise Problem(f"an entity is {h.get_content_type()}, not {want}")
    boundary = h.get_boundary()
    if not boundary:
        raise Problem(f"{want} has no boundary")
    return split_parts(split_header(raw)[1], boundary)


def decoded(raw):
    """The body of an entity with its transfer encoding undone."""
    encoding = str(headers(raw).get("Content-Transfer-Encoding", "7bit")).strip().lower()
    body = split_header(raw)[1]
    if encoding == "base64":
        return base64.b64decode(b"".join(body.split()), validate=True)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(body)
    return body


# --- One message --------------------------------------------------------------

class Checker:
    def __init__(self, ca, at, work):
        self.ca, self.at, self.work = ca, at, work
        self.signers = {}
        self.documents = {}  # file of a daticert.xml: the message's report
        self.lock = threading.Lock()

    def message(self, path):
        """Checks a message by itself. Returns its report, and what comparing needs."""
        with open(path, "rb") as f:
            raw = f.read()
        report = {"file": path, "sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw), "kind": "ordinaria", "variant": "", "message_id": "",
                  "from": "", "to": [], "subject": "", "date": "", "signer": "", "certified": None, "original": None, "problems": []}
        kept = {"original": None, "raw_header": split_header(raw)[0]}
        try:
            self.check(raw, report, kept)
        except Problem as e:
            report["problems"].append(str(e))
        except Exception as e:  # whatever a message does to the parsers is wrong with the message
            report["problems"].append(f"it cannot be read: {type(e).__name__}: {e}")
        return report, kept

    def check(self, raw, report, kept):
        wrong = report["problems"].append
        top = headers(raw)
        self.top(top, report)
        if re.search(rb"(?<!\r)\n|\r(?!\n)", split_header(raw)[0]):
            wrong("its header has bare CR or LF")
        if top.get_content_type() != "multipart/signed" or top.get_param("protocol") not in ("application/x-pkcs7-signature", "application/pkcs7-signature"):
            raise Problem("it is not signed")
        parts = multipart(raw, "multipart/signed")
        if len(parts) != 2:
            raise Problem(f"multipart/signed has {len(parts)} parts")
        entity, signature = parts
        if headers(signature).get_content_type() not in ("application/x-pkcs7-signature", "application/pkcs7-signature") or headers(signature).get_filename() != "smime.p7s":
            wrong("the signature is not in smime.p7s")
        self.signature(entity, decoded(signature), report)
        kind = report["kind"]
        if kind not in KINDS:
            raise Problem(f"X-Ricevuta or X-Trasporto is {kind!r}")
        self.entity(entity, report, kept)
        if kind != "errore":
            self.agree(top, report)
        self.subject(report)
        for part in email.message_from_bytes(raw, policy=email.policy.SMTP).walk():
            for defect in part.defects:
                wrong(f"{part.get_content_type()}: {type(defect).__name__}")
            if part.get_content_type() == "message/rfc822":
                break  # what is inside is its author's

    def top(self, top, report):
        """The fields of the top level."""
        wrong = report["problems"].append
        for name in ("From", "To", "Subject", "Date", "Message-ID", "Content-Type", "MIME-Version"):
            n = len(top.get_all(name, []))
            if n != 1 and not (name == "To" and report["kind"] in ENVELOPES):
                wrong(f"there are {n} fields {name}")
        marks = [(n, str(v).strip()) for n in ("X-Ricevuta", "X-Trasporto") for v in top.get_all(n, [])]
        if len(marks) > 1:
            wrong(f"it is marked {len(marks)} times: {marks}")
        if marks:
            report["kind"] = marks[0][1].lower()
            if (report["kind"] in ENVELOPES) != (marks[0][0] == "X-Trasporto"):
                wrong(f"{marks[0][0]} is {marks[0][1]!r}")
        report["message_id"] = str(top.get("Message-ID", "")).strip().removeprefix("<").removesuffix(">")
        report["subject"] = str(top.get("Subject", ""))
        addresses = email.utils.getaddresses([str(top.get("From", ""))])
        report["from"] = addresses[0][1] if len(addresses) == 1 else ""
        report["to"] = [a for _, a in email.utils.getaddresses([str(v) for v in top.get_all("To", [])]) if a]
        try:
            report["date"] = email.utils.parsedate_to_datetime(str(top.get("Date", ""))).isoformat()
        except (ValueError, TypeError):
            wrong("its Date is no date")

    def signature(self, entity, der, report):
        """openssl over the exact octets, and the e-mail address of the signer against From."""
        wrong = report["problems"].append
        with tempfile.TemporaryDirectory(dir=self.work) as d:
            names = {n: os.path.join(d, n) for n in ("entity", "p7s", "signer")}
            for n, octets in (("entity", entity), ("p7s", der)):
                with open(names[n], "wb") as f:
                    f.write(octets)
            command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", names["p7s"], "-content", names["entity"], "-CAfile", self.ca,
                       "-purpose", "smimesign", "-out", os.devnull, "-signer", names["signer"]]
            if self.at:
                command += ["-attime", str(self.at)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if done.returncode != 0:
                wrong("its signature does not verify: " + " ".join(done.stderr.split())[:300])
                return
            with open(names["signer"], "rb") as f:
                pem = f.read()
            with self.lock:
                address = self.signers.get(pem)
            if address is None:
                out = subprocess.run(["openssl", "x509", "-in", names["signer"], "-noout", "-ext", "subjectAltName"], capture_output=True, text=True).stdout
                address = ",".join(re.findall(r"email:([^,\s]+)", out))
                with self.lock:
                    self.signers[pem] = address
        report["signer"] = address
        if report["from"].lower() != address.lower():
            wrong(f"From is {report['from']!r}, the certificate is for {address!r}")

    def entity(self, entity, report, kept):
        """The MIME tree under the signature."""
        wrong = report["problems"].append
        kind = report["kind"]
        parts = multipart(entity, "multipart/mixed")
        types = [(headers(p).get_content_type(), (headers(p).get_filename() or headers(p).get_param("name") or "").lower()) for p in parts]
        texts = [p for p, (t, n) in zip(parts, types) if t in ("text/plain", "multipart/alternative") and n != "daticert.xml"]
        documents = [p for p, (_, n) in zip(parts, types) if n == "daticert.xml"]
        included = [p for p, (t, _) in zip(parts, types) if t == "message/rfc822"]
        if len(texts) != 1 or parts[0] is not texts[0] or len(texts) + len(documents) + len(included) != len(parts):
            wrong(f"its parts are {types}")
        want = 0 if kind == "errore" else 1
        if len(documents) != want:
            raise Problem(f"it has {len(documents)} daticert.xml")
        rule = KINDS[kind][1]
        if len(included) > 1 or rule == "must" and not included or rule == "no" and included:
            wrong(f"it includes {len(included)} messages")
        if kind != "errore" and included and types[parts.index(included[0])][1] != "postacert.eml":
            wrong("the included message is not called postacert.eml")
        if documents:
            xml = decoded(documents[0])
            if b"<!ENTITY" in xml:
                raise Problem("daticert.xml declares entities")
            fd, name = tempfile.mkstemp(suffix=".xml", dir=self.work)
            with os.fdopen(fd, "wb") as f:
                f.write(xml)
            with self.lock:
                self.documents[name] = report
            report["certified"] = certification(xml)
            text = email.message_from_bytes(texts[0], policy=email.policy.SMTP) if texts else None
            body = text and text.get_body(("plain", "html"))
            if not body or report["certified"]["identificativo"] not in "".join(body.get_content().split()):
                wrong("the text does not say the identificativo")
        if included:
            kept["original"] = decoded(included[0])
            report["original"] = {"sha256": hashlib.sha256(kept["original"]).hexdigest(), "compared": None,
                                  "message_id": str(headers(kept["original"]).get("Message-ID", "")).strip().removeprefix("<").removesuffix(">")}

    def agree(self, top, report):
        """What the header says and what daticert.xml says."""
        wrong = report["problems"].append
        d, kind = report["certified"], report["kind"]

        def equal(what, a, b):
            if a != b:
                wrong(f"{what}: {a!r} and {b!r}")

        equal("type in header and daticert.xml", kind, d["tipo"])
        for element in KINDS[kind][2]:
            if not d[element.replace("-", "_")]:
                wrong(f"daticert.xml has no {element}")
        for element, kinds in OPTIONAL.items():
            if d[element] and kind not in kinds:
                wrong(f"daticert.xml has {element}")
        if report["date"]:
            equal("Date and data", datetime.datetime.fromisoformat(report["date"]), datetime.datetime.fromisoformat(d["data"]))
        equal("X-Riferimento-Message-ID and msgid", str(top.get("X-Riferimento-Message-ID", "")).strip(), d["msgid"])
        if not d["gestore"]:
            wrong("daticert.xml names no provider")
        certified = [a.lower() for a, t in d["destinatari"] if t == "certificato"]
        for a in d["ricezione"] + ([d["consegna"]] if d["consegna"] else []):
            if a.lower() not in certified:
                wrong(f"it is about {a}, who is no certified recipient")
        if len(set(a.lower() for a in d["ricezione"])) != len(d["ricezione"]):
            wrong("a recipient is taken in charge twice")
        failing = d["errore"] != "nessuno"
        if failing != bool(d["errore_esteso"]) or failing != (kind in ("non-accettazione", "errore-consegna", "preavviso-errore-consegna", "rilevazione-virus")):
            wrong(f"errore is {d['errore']!r}, errore-esteso {d['errore_esteso']!r}")
        virus = d["errore"] == "virus"
        if virus:
            report["variant"] = "virus"
        if kind == "rilevazione-virus":
            if not virus:
                wrong(f"errore is {d['errore']!r}")
            equal("X-Mittente and mittente", str(top.get("X-Mittente", "")).strip().lower(), d["mittente"].lower())
        elif virus != (str(top.get("X-VerificaSicurezza", "")).strip() == "errore"):
            wrong("X-VerificaSicurezza and errore differ")
        if kind == "preavviso-errore-consegna":
            report["variant"] = "24h" if d["errore_esteso"].startswith("5.4.1 ") else "12h"
        if kind in ("errore-consegna", "preavviso-errore-consegna", "rilevazione-virus") and not re.match(r"[245]\.\d+\.\d+ - .+ - .+", d["errore_esteso"], re.S):
            wrong(f"errore-esteso is {d['errore_esteso']!r}")
        if kind == "posta-certificata":
            equal("Message-ID and identificativo", report["message_id"], d["identificativo"])
            equal("X-TipoRicevuta and ricevuta", str(top.get("X-TipoRicevuta", "completa")).strip().lower(), d["ricevuta"])
            name = email.utils.getaddresses([str(top.get("From", ""))])[0][0]
            equal("the name in From", name, "Per conto di: " + d["mittente"])
            return
        if report["message_id"] == d["identificativo"]:
            wrong("it has the Message-ID of the envelope")
        to_provider = kind in ("presa-in-carico", "rilevazione-virus")
        if [a.lower() for a in report["to"]] != [d["mittente"].lower()] and not to_provider:
            wrong(f"it is for {report['to']}, not for the sender")
        if to_provider and len(report["to"]) != 1:
            wrong(f"it is for {report['to']}")

    def subject(self, report):
        """Prefix, and the original's subject after it."""
        prefixes = KINDS[report["kind"]][0]
        prefix = prefixes.get("virus" if report["variant"] == "virus" else "", next(iter(prefixes.values())))
        subject, d = " ".join(report["subject"].split()), report["certified"]
        if not subject.startswith(prefix.strip()):
            report["problems"].append(f"its subject {subject[:80]!r} does not begin with {prefix!r}")
        elif d:
            shown, whole = subject[len(prefix):], " ".join(d["oggetto"].split())
            if shown != whole and not (len(shown) > 1000 and whole.startswith(shown)):  # a very long one may be cut
                report["problems"].append(f"its subject is {shown[:80]!r}, oggetto {whole[:80]!r}")


def certification(xml):
    """The content of daticert.xml; its form is xmllint's to judge."""
    root = ET.fromstring(xml)

    def text(path):
        e = root.find(path)
        return (e.text or "").strip(" \t\r\n") if e is not None else ""

    ricevuta = root.find("dati/ricevuta")
    data = root.find("dati/data")
    zone = data.get("zona", "").replace(":", "")
    when = datetime.datetime.strptime(f"{text('dati/data/giorno')} {text('dati/data/ora')} {zone}", "%d/%m/%Y %H:%M:%S %z")
    return {"tipo": root.get("tipo", ""), "errore": root.get("errore", "nessuno"), "mittente": text("intestazione/mittente"),
            "destinatari": [[(e.text or "").strip(), e.get("tipo", "certificato")] for e in root.findall("intestazione/destinatari")],
            "risposte": text("intestazione/risposte"), "oggetto": text("intestazione/oggetto"), "gestore": text("dati/gestore-emittente"), "data": when.isoformat(),
            "identificativo": text("dati/identificativo"), "msgid": text("dati/msgid"), "ricevuta": ricevuta.get("tipo", "") if ricevuta is not None else "",
            "consegna": text("dati/consegna"), "ricezione": [(e.text or "").strip() for e in root.findall("dati/ricezione")], "errore_esteso": text("dati/errore-esteso")}


# --- Messages beside one another ----------------------------------------------

def unpatched(raw, drop):
    """An original without what a provider changes in it: its Message-ID and X-Riferimento-Message-ID."""
    header, body = split_header(raw)
    return [f for n, f in fields(header) if n not in drop], body


def compare(report, kept, originals, envelopes):
    """postacert.eml with what its author sent, or with that of the envelope."""
    d, mine, wrong = report["certified"], kept["original"], report["problems"].append
    if mine is None or d is None:
        return
    drop = ("message-id", "x-riferimento-message-id")
    if report["original"]["message_id"] != d["identificativo"]:
        wrong(f"postacert.eml has the Message-ID {report['original']['message_id']!r}")
    references = [f.split(b":", 1)[1].strip().decode("utf-8", "replace") for n, f in fields(split_header(mine)[0]) if n == "x-riferimento-message-id"]
    if references != ([d["msgid"]] if d["msgid"] else []):
        wrong(f"postacert.eml refers to {references}, not to {d['msgid']!r}")
    delivery = report["kind"] == "avvenuta-consegna"
    for what, whole in (("original", originals.get(d["msgid"])), ("envelope", envelopes.get(d["identificativo"]) if delivery else None)):
        if whole is None:
            continue
        if unpatched(mine, drop) == unpatched(whole, drop):
            report["original"]["compared"], report["variant"] = what, "completa" if delivery else ""
            return
        if delivery and d["ricevuta"] == "breve":
            try:
                problem = brief(whole, mine)
            except Problem as e:
                problem = str(e)
            report["variant"] = "breve"
            if problem:
                wrong(f"the brief original is not that of the {what}: {problem}")
            else:
                report["original"]["compared"] = what
            return
        wrong(f"postacert.eml is not the {what}")
        return


def brief(whole, short, top=True, second=False):
    """Recomputes the hashes of a brief receipt: each file gives way to the SHA-1 of its content as it was sent. Returns
    what is wrong, or None. second says that it is the second part of the original's multipart/signed: the signature, which stays."""
    w, s = headers(whole), headers(short)
    if w.get_content_maintype() == "multipart" and w.get_boundary():
        if s.get_boundary() != w.get_boundary():
            return f"{w.get_content_type()} is gone"
        a, b = split_parts(split_header(whole)[1], w.get_boundary()), split_parts(split_header(short)[1], w.get_boundary())
        if len(a) != len(b):
            return f"{len(a)} parts became {len(b)}"
        signed = top and w.get_content_type() == "multipart/signed"
        for i, (x, y) in enumerate(zip(a, b)):
            problem = brief(x, y, False, signed and i == 1)
            if problem:
                return problem
        return None
    name = w.get_filename() or w.get_param("name")
    message = w.get_content_type() == "message/rfc822"
    if second and w.get_content_type().endswith("pkcs7-signature") or top and w.get_content_type() in ("application/pkcs7-mime", "application/x-pkcs7-mime") \
            or not message and name is None:
        return None if split_header(whole)[1] == split_header(short)[1] else f"the part {w.get_content_type()} was changed"
    got = s.get_filename() or ""
    if not got.endswith(".hash") or s.get_content_type() != "text/plain":
        return f"the file {name!r} is still there, as {got!r}"
    want = hashlib.sha1(split_header(whole)[1]).hexdigest().encode()
    return None if split_header(short)[1].strip() == want else f"the hash of {name!r} is {split_header(short)[1].strip()[:60]!r}, not {want!r}"


def validate(documents, dtd):
    """xmllint over every daticert.xml, many at a time."""
    names = list(documents)
    for i in range(0, len(names), 200):
        batch = names[i:i + 200]
        out = subprocess.run(["xmllint", "--noout", "--nonet", "--dtdvalid", dtd] + batch, capture_output=True, text=True, errors="replace").stderr
        for line in out.splitlines():
            for n in batch:
                if line.startswith(n):
                    text = "daticert.xml: " + line[len(n):].lstrip(":0123456789 ")
                    if text not in documents[n]["problems"] and "fails to validate" not in line and "does not validate" not in line:
                        documents[n]["problems"].append(text)
                    elif "validate" in line and not any(p.startswith("daticert.xml: ") for p in documents[n]["problems"]):
                        documents[n]["problems"].append("daticert.xml: does not validate")
                    break


def messages(path):
    """The files of messages below a path."""
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        raise OSError(f"{path}: no such file or folder")
    if not os.path.isdir(os.path.join(path, "new")):
        return sorted(os.path.join(path, n) for n in os.listdir(path) if n.endswith(".eml"))
    found = []
    for folder in [path] + sorted(os.path.join(path, n) for n in os.listdir(path) if n.startswith(".") and os.path.isdir(os.path.join(path, n, "new"))):
        for part in ("new", "cur"):
            part = os.path.join(folder, part)
            if os.path.isdir(part):
                found += sorted(os.path.join(part, n) for n in os.listdir(part) if not n.startswith("."))
    return found


def run(ca, at, dtd, originals, paths):
    with tempfile.TemporaryDirectory(prefix="check-mailbox-") as work:
        checker = Checker(ca, at, work)
        files = [f for p in paths for f in messages(p)]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            checked = list(pool.map(checker.message, files))
        validate(checker.documents, dtd)
    sent = {}
    for path in (f for p in originals for f in messages(p)):
        with open(path, "rb") as f:
            raw = f.read()
        sent[str(headers(raw).get("Message-ID", "")).strip()] = raw
    envelopes = {r["certified"]["identificativo"]: k["original"] for r, k in checked if r["kind"] == "posta-certificata" and r["certified"]}
    seen, bad = {}, False
    for report, kept in checked:
        if report["kind"] == "avvenuta-consegna" and report["certified"]:
            report["variant"] = report["certified"]["ricevuta"] if report["original"] else "sintetica"
        compare(report, kept, sent, envelopes)
        place = (os.path.dirname(report["file"]), report["message_id"])
        if report["message_id"] and report["kind"] != "errore" and seen.setdefault(place, report["file"]) != report["file"]:
            report["problems"].append(f"the same Message-ID is in {seen[place]}")
        bad = bad or bool(report["problems"])
        print(json.dumps(report, ensure_ascii=False))
    return 1 if bad else 0


def main(args):
    if "--help" in args or "-h" in args:
        print(__doc__.strip())
        return 0
    options, originals, paths = {"--ca": None, "--at": None, "--dtd": os.path.join(os.path.dirname(os.path.abspath(__file__)), "daticert.dtd")}, [], []
    while args:
        a = args.pop(0)
        if a.startswith("--"):
            if not args or a not in options and a != "--originals":
                print(__doc__.strip(), file=sys.stderr)
                return 2
            if a == "--originals":
                originals.append(args.pop(0))
            else:
                options[a] = args.pop(0)
        else:
            paths.append(a)
    if not options["--ca"] or not paths:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    for program in ("openssl", "xmllint"):
        if not shutil.which(program):
            print(f"{program} is not installed", file=sys.stderr)
            return 2
    try:
        return run(options["--ca"], options["--at"], options["--dtd"], originals, paths)
    except OSError as e:
        print(f"FAILED: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    sys.exit(main(sys.argv[1:]))
