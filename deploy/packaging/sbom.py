"""Writes what the program closewatch is made of: a CycloneDX SBOM, and the licences that come with it.

    sbom.py VERSION EPOCH TARGET BOM NOTICES

VERSION and EPOCH (seconds since 1970) are the release's, TARGET is Rust's name of what it was built for; the two
files are written. The same source gives the same bytes. The bill is checked against CycloneDX' own schema, which
comes with the library. `pip install -r requirements.txt` first (Python 3.11).
"""

import json
import re
import subprocess
import sys
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

REPOSITORY = Path(__file__).parents[2]
# What the kernel object is built for.
KERNEL = "bpfel-unknown-none" if sys.byteorder == "little" else "bpfeb-unknown-none"
# Files in which a crate's licence may be.
LICENCE = re.compile(r"(licen[cs]e|copying|copyright|unlicense|notice)", re.IGNORECASE)


def cargo(*words):
    return subprocess.run(
        ["cargo", *words, "--locked"], cwd=REPOSITORY, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


class Source:
    """What cargo knows of the crates for the targets, by name and version."""

    def __init__(self, *targets):
        platforms = [word for target in targets for word in ("--filter-platform", target)]
        packages = json.loads(cargo("metadata", "--format-version", "1", *platforms))["packages"]
        self.crates = {(package["name"], package["version"]): package for package in packages}
        lock = tomllib.loads((REPOSITORY / "Cargo.lock").read_text())["package"]
        self.sums = {(package["name"], package["version"]): package.get("checksum") for package in lock}

    def component(self, key):
        name, version = key
        crate, checksum = self.crates[key], self.sums[key]
        made = Component(
            type=ComponentType.LIBRARY,
            bom_ref=f"{name}@{version}",
            name=name,
            version=version,
            # Only what comes from the registry has a checksum, and an address there.
            purl=PackageURL("cargo", name=name, version=version) if checksum else None,
            licenses=[LicenseFactory().make_from_string(crate["license"].replace("/", " OR "))],
        )
        if checksum:
            made.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=checksum))
        if crate["repository"]:
            reference = ExternalReferenceType.VCS
            made.external_references.add(ExternalReference(type=reference, url=XsUri(crate["repository"])))
        return made


def linked(package, target):
    """What is linked into a package on a target: for each crate the crates it uses, the package first.

    As cargo resolves it for this package alone: no build scripts, no macros, no tests."""
    tree = cargo(
        "tree", "--package", package, "--target", target, "--edges", "normal,no-proc-macro",
        "--prefix", "depth", "--format", " {p}",
    )
    uses, path = {}, []
    for line in tree.splitlines():
        depth, name, version = line.split()[:3]
        key = (name, version.removeprefix("v"))
        del path[int(depth):]
        if path:
            uses[path[-1]].add(key)
        uses.setdefault(key, set())
        path.append(key)
    return uses


def bill(source, daemon, kernel, version, epoch):
    made = {key: source.component(key) for key in sorted({**daemon, **kernel})}
    for key, component in made.items():
        for part, uses in (("daemon", daemon), ("kernel object", kernel)):
            if key in uses:
                component.properties.add(Property(name="closewatch:linked-into", value=part))
    rust = subprocess.run(["rustc", "--version"], cwd=REPOSITORY, check=True, text=True, stdout=subprocess.PIPE)
    std = Component(
        type=ComponentType.LIBRARY,
        bom_ref="rust-std",
        name="Rust standard library",
        version=rust.stdout.split()[1],
        description="Linked into the daemon, and its core into the kernel object; the crates in it are not listed.",
        licenses=[LicenseFactory().make_from_string("MIT OR Apache-2.0")],
    )
    root = Component(
        type=ComponentType.APPLICATION,
        bom_ref=f"closewatch@{version}",
        name="closewatch",
        version=version,
        licenses=[LicenseFactory().make_from_string("MIT OR Apache-2.0")],
    )
    described = json.dumps([version, epoch, sorted(made)])
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, described),
        metadata=BomMetaData(component=root, timestamp=datetime.fromtimestamp(epoch, timezone.utc)),
        components=[*made.values(), std],
    )
    bom.register_dependency(root, [made[next(iter(daemon))], made[next(iter(kernel))], std])
    for key, component in made.items():
        below = daemon.get(key, set()) | kernel.get(key, set())
        bom.register_dependency(component, [made[key] for key in sorted(below)])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def checked(text):
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        sys.exit(f"the SBOM does not keep to CycloneDX 1.6: {problem}")
    return text


def notices(source, keys):
    """Every text of a licence that a linked crate comes with, once, below the crates that have it."""
    texts, without = {}, []
    for key in keys:
        crate = source.crates[key]
        name = f"{crate['name']} {crate['version']} ({crate['license']})"
        folder = Path(crate["manifest_path"]).parent
        files = sorted(file for file in folder.iterdir() if file.is_file() and LICENCE.match(file.name))
        if not files:
            without.append(name)
        for file in files:
            text = file.read_text(errors="replace").replace("\r\n", "\n").strip("\n")
            texts.setdefault(text, {})[name] = True
    parts = ["The licences of the libraries that are part of the program closewatch."]
    if without:
        parts.append("These come without a text of their own:\n\n" + "\n".join(without))
    for text, names in sorted(texts.items(), key=lambda item: (list(item[1]), item[0])):
        parts.append("\n".join(names) + "\n\n" + text)
    return ("\n\n" + "-" * 72 + "\n\n").join(parts) + "\n"


def main(version, epoch, target, bom, notice):
    source = Source(target, KERNEL)
    daemon = linked("monitor", target)
    kernel = linked("monitor-ebpf", KERNEL)
    Path(bom).write_text(checked(bill(source, daemon, kernel, version, int(epoch))))
    foreign = sorted(key for key in {**daemon, **kernel} if source.sums[key])
    Path(notice).write_text(notices(source, foreign))


main(*sys.argv[1:])
