"""A certificate for 127.0.0.1, and a bundle of CAs in which it is one of many, as on every machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from requests.certs import where

PEM = serialization.Encoding.PEM
LIFETIME = timedelta(hours=12)


@dataclass(frozen=True)
class Files:
    """`server`: the certificate and its key. `bundle`: the CAs that a client trusts."""

    server: Path
    bundle: Path


def written(folder: Path) -> Files:
    """Make a CA and a certificate of it, for this run alone, and write both into a folder."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = named("benchmark CA")
    is_ca = x509.BasicConstraints(ca=True, path_length=0)
    ca = (
        builder_of(ca_name, ca_name, ca_key).add_extension(is_ca, critical=True).sign(ca_key, hashes.SHA256())
    )
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    own = builder_of(named("benchmark"), ca_name, key).add_extension(host, critical=False)
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = Files(folder / "server.pem", folder / "bundle.pem")
    files.server.write_bytes(private + own.sign(ca_key, hashes.SHA256()).public_bytes(PEM))
    files.bundle.write_bytes(Path(where()).read_bytes() + ca.public_bytes(PEM))
    return files


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def builder_of(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )
