"""A certificate authority for tests, and certificates and keys that it issues, as PEM files."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

x509 = pytest.importorskip("cryptography.x509", reason="needs cryptography: pip install '.[c2pa]'")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: E402

EMAIL, SERVER = (x509.ExtendedKeyUsageOID.EMAIL_PROTECTION, x509.ExtendedKeyUsageOID.SERVER_AUTH)
CA = ec.generate_private_key(ec.SECP256R1())


def _name(common: str) -> Any:
    pairs = ((x509.NameOID.ORGANIZATION_NAME, "Tests"), (x509.NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(*pair) for pair in pairs])


def issue(key: Any, *, usage: Any = EMAIL, days: Sequence[int] = (-1, 30), issuer: Any = CA, ocsp: str = "") -> Any:
    """A certificate of ``key``: signed by the authority, by itself if ``issuer`` is ``key``; a CA's if it is CA's."""
    ca, now = key is CA, datetime.now(UTC)
    key_usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(_name("CA" if ca else "Signer"))
        .issuer_name(_name("CA" if issuer is CA else "Signer"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, decipher_only=False, **key_usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    if not ca:
        built = built.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if ocsp:
        access = x509.AccessDescription(x509.AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp))
        built = built.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    return built.sign(issuer, None if isinstance(issuer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def write_key(path: Path, key: Any, password: bytes = b"", form: str = "PKCS8") -> Path:
    cipher = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), cipher))
    return path


def write_chain(path: Path, *certificates: Any) -> Path:
    path.write_bytes(b"".join(part.public_bytes(serialization.Encoding.PEM) for part in certificates))
    return path


def write_signer(folder: Path, key: Any = None, **settings: Any) -> tuple[Path, Path]:
    """``chain.pem`` and ``key.pem`` of a new signer."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    return write_chain(folder / "chain.pem", issue(key, **settings), issue(CA)), write_key(folder / "key.pem", key)
