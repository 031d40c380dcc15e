#!/usr/bin/env python3
"""A second implementation of the checks of a Scripta evidence file.

Written from docs/format.md alone, with Python's standard library and no code of
the project: it recomputes every leaf from the disclosed fields and every root
from the proofs, checks the log's signature, and says what openssl has to check.

    verify_evidence.py FILE [LOG.vkey [WITNESSES]]
                                            check an evidence file; WITNESSES names who must have cosigned the log
    verify_evidence.py --vectors FILE       check the test vectors of the record format
    verify_evidence.py --help               say this

LOG.vkey is the log's public key, which you got by another way than the file. Without
it the key inside the file is taken, and who made the file is not checked.

Exits 0 when everything that it checks holds, 1 when something does not, 2 when the
command line is wrong.
"""
import base64
import hashlib
import hmac
import io
import json
import struct
import sys
import zipfile

FIELDS = ["kind", "time", "message_id", "original_id", "sender", "recipients", "subject", "about", "generated",
          "provider", "receipt_type", "outcome", "digest", "content", "size", "peer", "actor", "detail"]
LISTS = {"recipients", "about", "generated", "detail"}


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# --- Records and leaves -------------------------------------------------------

def scalar_digest(i, salt, value):
    assert len(salt) == 32, "a salt has 32 bytes"
    return sha(bytes([0x10, i]), salt, value)


def element_digest(i, j, salt, value):
    assert len(salt) == 32, "a salt has 32 bytes"
    return sha(bytes([0x12, i]), struct.pack(">I", j), salt, value)


def list_digest(i, elements):
    return sha(bytes([0x11, i]), struct.pack(">I", len(elements)), *elements)


def leaf_of(cls, digests):
    return bytes([1, cls]) + sha(b"scripta/record/v1", *digests)


def field_digest(i, field):
    """d_i of a field as records/INDEX.json shows it."""
    if "digest" in field:
        return bytes.fromhex(field["digest"])
    if FIELDS[i - 1] not in LISTS:
        return scalar_digest(i, bytes.fromhex(field["salt"]), bytes.fromhex(field["value"]))
    elements = []
    for j, e in enumerate(field.get("elements", []), 1):
        if "digest" in e:
            elements.append(bytes.fromhex(e["digest"]))
        else:
            elements.append(element_digest(i, j, bytes.fromhex(e["salt"]), bytes.fromhex(e["value"])))
    return list_digest(i, elements)


# --- Merkle proofs (RFC 9162, sections 2.1.3.2 and 2.1.4.2) --------------------

def root_from_inclusion(index, size, leaf_hash, proof):
    assert index < size, "the leaf is beyond the tree"
    fn, sn, r = index, size - 1, leaf_hash
    for p in proof:
        assert sn > 0, "the proof is too long"
        if fn & 1 or fn == sn:
            r = sha(b"\x01", p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = sha(b"\x01", r, p)
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0, "the proof is too short"
    return r


def check_consistency(first, second, first_root, second_root, proof):
    if first == second:
        assert not proof and first_root == second_root, "two roots for one size"
        return
    if first == 0:
        assert not proof, "a proof from nothing is empty"
        return
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        assert sn > 0, "the consistency proof is too long"
        if fn & 1 or fn == sn:
            fr, sr = sha(b"\x01", c, fr), sha(b"\x01", c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = sha(b"\x01", sr, c)
        fn, sn = fn >> 1, sn >> 1
    assert fr == first_root and sr == second_root and sn == 0, "the later tree does not continue the earlier"


# --- Ed25519 (RFC 8032, section 5.1.7), slow and plain -------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    e, f = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, g, h, i = f - e, d - c, d + c, f + e
    return e * g % P, h * i % P, g * h % P, e * i % P


def mul(k, a):
    r = (0, 1, 1, 0)
    while k:
        if k & 1:
            r = add(r, a)
        a, k = add(a, a), k >> 1
    return r


def decompress(b):
    y = int.from_bytes(b, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    assert y < P, "not a point"
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - x2) % P == 0 and not (x == 0 and sign), "not a point"
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = decompress(bytes.fromhex("58" + "66" * 31))


def ed25519(public, message, signature):
    assert len(public) == 32 and len(signature) == 64
    a, r, s = decompress(public), decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    assert s < L, "the signature is not canonical"
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = mul(s, BASE), add(r, mul(k, a))
    assert (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0, \
        "a signature over a checkpoint is not good"


# --- Checkpoints (c2sp.org/tlog-checkpoint, c2sp.org/signed-note) --------------

def open_checkpoint(note, vkeys):
    text, _, signatures = note.decode().rpartition("\n\n")
    text += "\n"
    # One key a line: a provider's frozen logs and its own. The origin says which.
    mine = [x for x in vkeys.split() if x.split("+", 1)[0] == text.split("\n")[0]]
    assert len(mine) == 1, "no key, or several, of the log " + text.split("\n")[0]
    name, key_id, key = mine[0].split("+", 2)
    key = base64.b64decode(key)
    assert key[0] == 1, "the log's key is not Ed25519"
    want = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    assert bytes.fromhex(key_id) == want, "the key's id is not its own"
    of = text.split("\n")[0]
    assert of == name, "the checkpoint is of the log %s, and the key is of %s" % (of, name)
    lines = [x for x in signatures.split("\n") if x.startswith("\u2014 " + name + " ")]
    assert len(lines) == 1, "not signed once by the log"
    sig = base64.b64decode(lines[0].split(" ")[2])
    assert sig[:4] == want, "signed by another key"
    ed25519(key[1:], text.encode(), sig[4:])
    _, size, root = text.split("\n")[:3]
    return int(size), base64.b64decode(root)


class Archive(dict):
    """Files by name; one that is not there is named."""

    def __missing__(self, name):
        raise AssertionError("the archive has no file " + name)


def read_policy(text):
    """Keys of the witnesses and the quorum (c2sp.org/tlog-policy, without groups of groups)."""
    witnesses, groups, quorum = {}, {}, None
    for line in text.splitlines():
        f = line.split("#")[0].split()
        if not f or f[0] == "log":
            continue
        if f[0] == "witness":
            witnesses[f[1]] = f[2]
        elif f[0] == "group":
            members = [witnesses[x] for x in f[3:]]
            groups[f[1]] = members, {"any": 1, "all": len(members)}.get(f[2]) or int(f[2])
        else:
            assert f[0] == "quorum" and quorum is None, "not a policy"
            quorum = f[1]
    if quorum == "none":
        return [], 0
    return ([witnesses[quorum]], 1) if quorum in witnesses else groups[quorum]


def cosigners(note, vkeys):
    """Names of those who cosigned a note (c2sp.org/tlog-cosignature, Ed25519)."""
    text, _, signatures = note.decode().rpartition("\n\n")
    names = set()
    for vkey in vkeys:
        name, key_id, key = vkey.split("+", 2)
        key = base64.b64decode(key)
        assert key[0] == 4 and hashlib.sha256(name.encode() + b"\n" + key).digest()[:4] == bytes.fromhex(key_id), "not a witness's key"
        for line in signatures.split("\n"):
            if not line.startswith("\u2014 " + name + " "):
                continue
            sig = base64.b64decode(line.split(" ")[2])
            if sig[:4] == bytes.fromhex(key_id):
                assert len(sig) == 76, "not a cosignature"
                head = "cosignature/v1\ntime %d\n" % struct.unpack(">Q", sig[4:12])
                ed25519(key[1:], (head + text + "\n").encode(), sig[12:])
                names.add(key)
    return names


# --- The evidence file ---------------------------------------------------------

def check_evidence(path, vkey_path, policy_path, inner=False):
    z = zipfile.ZipFile(path)
    names = z.namelist()
    assert len(set(names)) == len(names), "two files of one name"
    files = Archive((n, z.read(n)) for n in names)

    sums = dict(reversed(line.split("  ", 1)) for line in files["SHA256SUMS"].decode().splitlines())
    assert set(sums) == set(names) - {"SHA256SUMS"}, "SHA256SUMS lists other files"
    for n, d in sums.items():
        assert hashlib.sha256(files[n]).hexdigest() == d, n + " has another SHA-256"
    manifest = json.loads(files["manifest.json"])
    for f in manifest["files"]:
        assert hashlib.sha256(files[f["name"]]).hexdigest() == f["sha256"] and len(files[f["name"]]) == f["size"], f["name"]
    print("ok: %d files" % len(names))

    vkey = open(vkey_path).read() if vkey_path else files["certificates/log.vkey"].decode()
    checkpoints, before = {}, None
    for n in sorted(x for x in names if x.startswith("checkpoints/") and x.endswith(".txt")):
        size, root = open_checkpoint(files[n], vkey)
        assert n == "checkpoints/%012d.txt" % size, n + " is of size %d" % size
        checkpoints[size] = root
        if before is not None:
            proof = [bytes.fromhex(x) for x in files[n[:-4] + ".proof"].decode().split()]
            check_consistency(before, size, checkpoints[before], root, proof)
        before = size
    print("ok: %d checkpoint(s), signed and consistent" % len(checkpoints))
    if not vkey_path:
        print("NOTE: signed with the key inside the file itself: anybody could have made it. Give the log's own LOG.vkey")

    witnesses, quorum = read_policy(open(policy_path).read()) if policy_path else ([], 0)
    cosigned = 0
    for size in sorted(checkpoints):
        note = files.get("checkpoints/%012d.cosigned" % size)
        if note is None:
            continue
        assert open_checkpoint(note, vkey) == (size, checkpoints[size]), "cosignatures of another checkpoint"
        if quorum and len(cosigners(note, witnesses)) >= quorum:
            cosigned = size

    receipts = records = last = 0
    for n in sorted(x for x in names if x.startswith("records/")):
        r = json.loads(files[n])
        assert [f["name"] for f in r["fields"]] == FIELDS and [f["number"] for f in r["fields"]] == list(range(1, 19)), n
        leaf = bytes.fromhex(r["leaf"])
        assert len(leaf) == 34 and leaf[0] == 1 and leaf[1] in (1, 2), n + ": not a leaf"
        made = leaf_of(leaf[1], [field_digest(i, f) for i, f in enumerate(r["fields"], 1)])
        assert made == leaf, n + ": the fields do not give the leaf"
        kind = r["fields"][0].get("value")
        assert kind is None or (int(kind, 16) >> 15) + 1 == leaf[1], n + ": kind and class disagree"
        proof = [bytes.fromhex(x) for x in r["proof"]]
        root = root_from_inclusion(r["index"], r["checkpoint"], sha(b"\x00", leaf), proof)
        assert r["checkpoint"] in checkpoints, n + ": there is no checkpoint of size %s" % r["checkpoint"]
        assert root == checkpoints[r["checkpoint"]], n + ": the leaf is not in the tree"
        records += 1
        last = r["index"]
        if "receipt" in r:
            digest = r["fields"][12].get("value")
            assert hashlib.sha256(files[r["receipt"]]).hexdigest() == digest, r["receipt"] + " is not the message of the record"
            receipts += 1
    assert records == manifest["records"], "not as many records as the manifest says"
    print("ok: %d record(s) recomputed to the signed root, %d message(s) as recorded" % (records, receipts))
    if quorum and not inner:
        assert cosigned > last, "no checkpoint that covers every record was cosigned by %d of the witnesses" % quorum
        print("ok: cosigned by %d or more of %d witnesses" % (quorum, len(witnesses)))
    for g in manifest.get("gaps", []):
        assert g["next"] == manifest["origin"], "a gap of another log"
        assert any(commits(json.loads(files[n]), g) for n in names if n.startswith("records/")), "no record commits the gap"
        print(g["statement"])
    for n in sorted(x for x in names if x.startswith("previous/")):
        assert not inner, "an evidence file inside another holds a third"
        print(n + ":")
        check_evidence(io.BytesIO(files[n]), vkey_path, None, True)
    if inner:
        return
    print("not checked here: CMS signatures and time stamps; LEGGIMI.txt has the openssl commands")


def commits(record, gap):
    """Whether a record is the rollback-accepted that commits a gap."""
    if record["fields"][0].get("value") != "800b":
        return False
    detail = dict(parts(bytes.fromhex(e["value"])) for e in record["fields"][17]["elements"])
    return (detail["origin"], detail["kept size"], detail["known size"], detail["lost"], detail["contradicted"]) == (
        gap["origin"], str(gap["kept"]), str(gap["known"]), str(gap["lost"]), str(gap["contradicted"]).lower())


def parts(value):
    out = []
    while value:
        n = struct.unpack(">I", value[:4])[0]
        out.append(value[4:4 + n].decode())
        value = value[4 + n:]
    return out


def check_vectors(path):
    for v in json.load(open(path)):
        ident = bytes.fromhex(v["record_id"])
        origin = v["origin"].encode()
        nonce = hmac.digest(bytes.fromhex(v["nonce_key"]), struct.pack(">H", len(origin)) + origin + ident, "sha256")
        assert nonce.hex() == v["nonce"], "nonce"
        assert sha(b"scripta/id/v1", ident).hex() == v["identity"], "identity"
        digests, encoding = [], b""
        for i, name in enumerate(FIELDS, 1):
            value = v["fields"][name]
            if name in LISTS:
                elements = [bytes.fromhex(x) for x in value]
                d = list_digest(i, [element_digest(i, j, hmac.digest(nonce, struct.pack(">BI", i, j), "sha256"), e)
                                    for j, e in enumerate(elements, 1)])
                if elements:
                    encoding += struct.pack(">BI", i, len(elements)) + b"".join(struct.pack(">I", len(e)) + e for e in elements)
            else:
                value = bytes.fromhex(value)
                d = scalar_digest(i, hmac.digest(nonce, bytes([i]), "sha256"), value)
                if value:
                    encoding += struct.pack(">BI", i, len(value)) + value
            assert d.hex() == v["digests"][name], name
            digests.append(d)
        assert encoding.hex() == v["encoding"], "encoding"
        assert leaf_of(v["class"], digests).hex() == v["leaf"], "leaf"
    print("ok: vectors")


def reason(e):
    """What is wrong, for a person."""
    if isinstance(e, AssertionError):
        return str(e) or "a check does not hold"
    if isinstance(e, OSError):
        return "couldn't read %s: %s" % (e.filename, e.strerror)
    if isinstance(e, zipfile.BadZipFile):
        return "this is no evidence file, or a damaged one: %s" % e
    if isinstance(e, NotImplementedError) or isinstance(e, RuntimeError) and "password" in str(e):
        return "the archive is compressed or encrypted in a way that evidence files never are: %s" % e
    if isinstance(e, KeyError):
        return "a JSON file lacks the member %s, or names something that is not there" % e
    return "a file is not in the form of docs/format.md (%s: %s)" % (type(e).__name__, e)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(__doc__)
        sys.exit(0)
    try:
        if len(arguments) == 2 and arguments[0] == "--vectors":
            check_vectors(arguments[1])
        elif len(arguments) in (1, 2, 3) and not arguments[0].startswith("-"):
            check_evidence(*(arguments + [None, None])[:3])
        else:
            print(__doc__, file=sys.stderr)
            sys.exit(2)
    except Exception as e:  # what a stranger's file makes go wrong is an answer, never a trace
        sys.exit("FAILED: " + reason(e))
