"""Writes repositories, good and bad, with the TUF project's own Python library.

Usage: write.py FOLDER

Each case is FOLDER/NAME/ with trust.json, the first root, and one folder for each state of the repository
that a client meets in turn: 1, 2... FOLDER/cases.json lists [name, states, expected], where expected is "good"
or the word of the error with which the last state is refused.
"""

import copy
import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

# The time of the test that reads them, 1800000000 seconds after 1970.
NOW = datetime.fromtimestamp(1_800_000_000, timezone.utc)
SOON = NOW + timedelta(days=30)
PAST = NOW - timedelta(days=1)
TARGET = "releases/2/manifest.json"
CONTENT = b'{"a": "manifest"}\n'
ROLES = ("root", "timestamp", "snapshot", "targets")


class Repository:
    """One repository: the keys of each role, and the next version of everything."""

    def __init__(self, consistent=False, count=1, threshold=1):
        self.signers = {
            role: [CryptoSigner.generate_ed25519() for _ in range(count)]
            for role in ROLES
        }
        self.threshold = threshold
        self.consistent = consistent
        self.version = 1
        self.roots = []
        self.meta_hashes = True
        self.expires = dict.fromkeys(ROLES, SOON)
        self.hashes = ["sha256"]
        self.delegations = None
        # Targets of delegated roles and their signers, by name.
        self.delegated = {}
        self.extra_keys = []
        self.unknown = {}
        self.add_root(1)

    def add_root(self, version, by=(), name=None):
        root = Root(
            version=version,
            expires=self.expires["root"],
            consistent_snapshot=self.consistent,
        )
        for role, signers in self.signers.items():
            for signer in signers:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = self.threshold
        for key in self.extra_keys:
            root.add_key(key, "targets")
        metadata = Metadata(root)
        for signer in [*self.signers["root"], *by]:
            metadata.sign(signer, append=True)
        self.roots.append((name or version, metadata))

    def sign(self, role, signed, count=None):
        signed.unrecognized_fields.update(copy.deepcopy(self.unknown))
        metadata = Metadata(signed)
        for signer in self.signers[role][:count]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def meta_file(self, version, data):
        if not self.meta_hashes:
            return MetaFile(version)
        return MetaFile.from_data(version, data, ["sha256", "sha512"])

    def parts(self, content=CONTENT):
        """The three files of the next state, and the target."""
        target = TargetFile.from_data(TARGET, content, self.hashes)
        targets = Targets(
            self.version,
            expires=self.expires["targets"],
            targets={TARGET: target},
            delegations=self.delegations,
        )
        targets = self.sign("targets", targets)
        meta = {"targets.json": self.meta_file(self.version, targets)}
        below = {}
        for name, (signer, document) in self.delegated.items():
            metadata = Metadata(document)
            metadata.sign(signer)
            below[name] = metadata.to_bytes()
            meta[f"{name}.json"] = self.meta_file(document.version, below[name])
        snapshot = Snapshot(self.version, expires=self.expires["snapshot"], meta=meta)
        snapshot = self.sign("snapshot", snapshot)
        meta = self.meta_file(self.version, snapshot)
        timestamp = Timestamp(
            self.version, expires=self.expires["timestamp"], snapshot_meta=meta
        )
        timestamp = self.sign("timestamp", timestamp)
        parts = {"timestamp": timestamp, "snapshot": snapshot, "targets": targets, **below}
        self.version += 1
        return parts, target, content

    def write(self, folder, state, version=None):
        parts, target, content = state
        version = version or self.version - 1
        metadata = folder / "metadata"
        metadata.mkdir(parents=True)
        for name, root in self.roots:
            (metadata / f"{name}.root.json").write_bytes(root.to_bytes())
        for role, data in parts.items():
            prefix = f"{version}." if self.consistent and role != "timestamp" else ""
            (metadata / f"{prefix}{role}.json").write_bytes(data)
        paths = [TARGET]
        if self.consistent:
            parent, name = TARGET.rsplit("/", 1)
            paths = [f"{parent}/{digest}.{name}" for digest in target.hashes.values()]
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)


class Cases:
    def __init__(self, folder):
        self.folder = folder
        self.all = []

    def add(self, name, expected, repository, *states):
        folder = self.folder / name
        folder.mkdir(parents=True)
        (folder / "trust.json").write_bytes(repository.roots[0][1].to_bytes())
        for number, write in enumerate(states or [lambda f: repository.write(f, repository.parts())], 1):
            write(folder / str(number))
        self.all.append([name, max(len(states), 1), expected])


def good(cases):
    cases.add("plain", "good", Repository())
    cases.add("consistent", "good", Repository(consistent=True))
    cases.add("several-keys", "good", Repository(count=3, threshold=2))

    repository = Repository()
    repository.hashes = ["sha512"]
    repository.meta_hashes = False
    cases.add("only-what-must-be", "good", repository)
    repository = Repository(consistent=True)
    repository.hashes = ["sha512"]
    cases.add("consistent-sha512", "good", repository)

    repository = Repository()
    repository.unknown = {"x-new": {"deep": [1, "ä\"\\\n", None]}}
    cases.add("fields-of-tomorrow", "good", repository)

    repository = Repository()
    repository.roots.clear()
    repository.extra_keys = [
        CryptoSigner.generate_rsa().public_key,
        CryptoSigner.generate_ecdsa().public_key,
    ]
    repository.add_root(1)
    cases.add("keys-of-other-kinds", "good", repository)

    repository = Repository(count=2, threshold=2)
    for version in (2, 3, 4):
        old = repository.signers["root"]
        repository.signers = {
            role: [CryptoSigner.generate_ed25519() for _ in range(2)] for role in ROLES
        }
        repository.add_root(version, by=old)
    cases.add("rotated-three-times", "good", repository)

    # A thief of the online keys signed enormous versions; new keys make them void.
    repository = Repository()
    repository.version = 2**40
    stolen = repository.parts()

    def thief(folder):
        repository.write(folder, stolen)

    def recovered(folder):
        for role in ("timestamp", "snapshot"):
            repository.signers[role] = [CryptoSigner.generate_ed25519()]
        repository.add_root(2)
        repository.version = 2
        repository.write(folder, repository.parts())

    cases.add("recovered-from-a-thief", "good", repository, thief, recovered)


def handed_on(expires=SOON, named=True, forged=False):
    """A repository in which `apps` speaks for apps/*, to whom RSA and ECDSA are as good as ed25519."""
    repository = Repository(consistent=True)
    signer = CryptoSigner.generate_ecdsa()
    role = DelegatedRole("apps", [signer.public_key.keyid], 1, True, paths=["apps/*"])
    repository.delegations = Delegations({signer.public_key.keyid: signer.public_key}, {"apps": role})
    if forged:
        signer = CryptoSigner.generate_ecdsa()
    if named:
        target = TargetFile.from_data("apps/a", CONTENT, ["sha256"])
        document = Targets(version=1, expires=expires, targets={"apps/a": target})
        repository.delegated["apps"] = (signer, document)
    return repository


def delegations(cases):
    cases.add("handed-on", "good", handed_on())
    cases.add("handed-on-and-not-there", "Unnamed", handed_on(named=False))
    cases.add("handed-on-and-forged", "Signature", handed_on(forged=True))
    cases.add("handed-on-and-expired", "Expired", handed_on(expires=PAST))

    for name, make in [("rsa", CryptoSigner.generate_rsa), ("ecdsa", CryptoSigner.generate_ecdsa)]:
        repository = Repository()
        repository.roots.clear()
        repository.signers["root"].append(make())
        repository.threshold = 1
        repository.add_root(1)
        repository.roots[0][1].signed.roles["root"].threshold = 2
        repository.roots[0][1].signatures.clear()
        for signer in repository.signers["root"]:
            repository.roots[0][1].sign(signer, append=True)
        cases.add(f"root-of-{name}", "good", repository)


def bad_signatures(cases):
    for role in ("timestamp", "snapshot", "targets"):
        repository = Repository()
        repository.signers[role] = [CryptoSigner.generate_ed25519()]
        cases.add(f"other-key-of-{role}", "Signature", repository)

        repository = Repository(count=2, threshold=2)
        repository.signers[role] = repository.signers[role][:1]
        cases.add(f"half-of-{role}", "Signature", repository)

        repository = Repository(count=2, threshold=2)
        repository.signers[role] = repository.signers[role][:1] * 2
        cases.add(f"one-key-twice-of-{role}", "Signature", repository)

    repository = Repository()
    repository.signers["root"] = [CryptoSigner.generate_ed25519()]
    repository.add_root(2)
    cases.add("root-without-the-old-key", "Signature", repository)

    repository = Repository()
    old = repository.signers["root"]
    repository.add_root(3, by=old, name=2)
    cases.add("root-that-skips", "RootGap", repository)


def bad_times(cases):
    for role in ROLES:
        repository = Repository()
        repository.expires[role] = PAST
        if role == "root":
            repository.add_root(2)
        cases.add(f"expired-{role}", "Expired", repository)


def bad_states(cases):
    repository = Repository()
    states = [repository.parts(), repository.parts()]
    cases.add(
        "rollback",
        "Older",
        repository,
        lambda f: repository.write(f, states[1]),
        lambda f: repository.write(f, states[0]),
    )

    for role in ("snapshot", "targets"):
        mixed = Repository()
        old, new = mixed.parts(), mixed.parts()
        new[0][role] = old[0][role]
        cases.add(f"mixed-{role}", "Mismatch", mixed, lambda f: mixed.write(f, new))

    twice = Repository()
    first = twice.parts()
    twice.version = 1
    second = twice.parts(content=b"other\n")
    cases.add(
        "one-version-twice",
        "Mismatch",
        twice,
        lambda f: twice.write(f, first),
        lambda f: twice.write(f, second),
    )

    endless = Repository()
    state = endless.parts()
    state[0]["timestamp"] += b" " * (1 << 20)
    cases.add("endless-timestamp", "Network", endless, lambda f: endless.write(f, state))

    swapped = Repository()
    state = swapped.parts()
    state[0]["timestamp"] = state[0]["snapshot"]
    cases.add("snapshot-as-timestamp", "Signature", swapped, lambda f: swapped.write(f, state))

    changed = Repository()
    parts, target, content = changed.parts()
    state = (parts, target, content.replace(b"a", b"b"))
    cases.add("changed-target", "Mismatch", changed, lambda f: changed.write(f, state))


def main():
    cases = Cases(Path(sys.argv[1]))
    good(cases)
    delegations(cases)
    bad_signatures(cases)
    bad_times(cases)
    bad_states(cases)
    (cases.folder / "cases.json").write_text(json.dumps(cases.all))


main()
