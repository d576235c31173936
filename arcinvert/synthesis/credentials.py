"""C2PA content credentials: a signed statement, inside an image, of what made it.

c2pa-python writes and signs it, after version 2 of the C2PA specification. Nothing is contacted: no time-stamp
authority and no responder of revoked certificates, and nothing is fetched. So the signature carries no
trusted time, and a reader compares the certificate's dates with the day of reading.
"""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

import arcinvert
from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.synthesis.sheets import SYNTHETIC

MAX_PEM = 1 << 20
SETTINGS = {
    "verify": {"verify_after_sign": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
"""Of c2pa-python: what is signed is verified at once, nothing is fetched, no thumbnail of the face is added."""

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""The vocabulary of digital source types, by the IPTC; a name, which nobody opens."""

LABEL = "org.arcinvert.reconstruction"
"""Of the assertion that says from what the face was reconstructed."""

PROFILE = (
    "expected a current certificate of the key usage digitalSignature "
    "and of an extended key usage such as emailProtection"
)

_ALGORITHMS = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class ContentCredentials:
    """What signs images; :meth:`load` checks that certificate and key fit.

    Attributes:
        chain: PEM, the signing certificate first.
        key: PEM, PKCS 8, without a password; not shown.
        algorithm: ``es256``, ``es384``, ``es512``, ``ps256`` or ``ed25519``.
        fingerprint: SHA-256 of the signing certificate, hexadecimal.
        recognizer: SHA-256 of the attacked network's file, hexadecimal; "" leaves it out.
        source: IPTC's digital source type.
        description: what the image shows.
    """

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    algorithm: str
    fingerprint: str
    recognizer: str = ""
    source: str = "trainedAlgorithmicMedia"
    description: str = SYNTHETIC

    @classmethod
    def load(cls, certificate: str | Path, key: str | Path, *, recognizer: str = "") -> "ContentCredentials":
        """Read a certificate chain and its private key, and sign a trial image.

        Args:
            certificate: PEM file, the signing certificate first, then those of the authorities between it and the root.
            key: PEM file of its private key: P-256, P-384, P-521, Ed25519, or RSA of 2048 bits or more.
            recognizer: SHA-256 of the attacked network's file, such as ``inverter.recognizer.digest``.

        Raises:
            InputError: a file cannot be read, the key has a password or belongs to another certificate, or the
                certificate is self-signed, expired or not made for signing claims.
            EnvironmentProblem: the extra ``c2pa`` is missing.
        """
        try:
            import c2pa as c2pa  # here, so that its absence is found before anything is computed
            from cryptography import x509
            from cryptography.hazmat.primitives.hashes import SHA256
        except ImportError:
            raise EnvironmentProblem("content credentials need c2pa-python: pip install 'arcinvert[c2pa]'") from None
        chain = _read(certificate)
        try:
            leaf = x509.load_pem_x509_certificates(chain)[0]
        except ValueError:
            raise InputError(f"expected certificates in PEM, got {str(certificate)!r}") from None
        if leaf.issuer == leaf.subject:
            raise InputError(
                f"expected a certificate that an authority issued, got the self-signed {str(certificate)!r}"
            )
        pem, public, algorithm = _private_key(key)
        if public != leaf.public_key():
            raise InputError(
                f"expected the key of the first certificate in {str(certificate)!r}, got another one in {str(key)!r}"
            )
        found = cls(chain, pem, algorithm, leaf.fingerprint(SHA256()).hex(), recognizer)
        trial = io.BytesIO()
        Image.new("RGB", (8, 8)).save(trial, "PNG")
        found.signed(trial.getvalue(), "image/png")
        return found

    def sign(self, path: Path, media_type: str) -> None:
        """Replace an image file by its signed form; its pixels stay as they are."""
        path.write_bytes(self.signed(path.read_bytes(), media_type))

    def signed(self, image: bytes, media_type: str) -> bytes:
        """The same image with a signed manifest.

        Args:
            image: the file.
            media_type: ``image/png`` or ``image/webp``.

        Raises:
            InputError: the certificate is refused.
        """
        import c2pa

        info = c2pa.C2paSignerInfo(self.algorithm, self.chain, self.key, None)  # None: no time-stamp authority
        written = io.BytesIO()
        try:
            with (
                c2pa.Signer.from_info(info) as signer,
                c2pa.Context.from_dict(SETTINGS) as context,
                c2pa.Builder(json.dumps(self._manifest()), context) as builder,
            ):
                builder.sign(signer, media_type, io.BytesIO(image), written)
        except c2pa.C2paError as error:
            reason = " ".join(str(error).removeprefix("Signature: ").split())
            raise InputError(f"{PROFILE}, got one that C2PA refuses: {reason}") from None
        return written.getvalue()

    def _manifest(self) -> dict[str, Any]:
        action = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPES + self.source}
        origin = {"description": self.description} | ({"recognizer_sha256": self.recognizer} if self.recognizer else {})
        return {
            "claim_generator_info": [{"name": "arcinvert", "version": arcinvert.__version__}],
            "assertions": [
                {"label": "c2pa.actions", "data": {"actions": [action]}},
                {"label": LABEL, "data": origin},
            ],
        }


def _read(path: str | Path) -> bytes:
    """A small file, or what a pipe gives: ``<(openssl pkey ...)`` keeps a key off the disk."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_PEM + 1)
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    if len(data) > MAX_PEM:
        raise InputError(f"expected a PEM file of at most {MAX_PEM >> 20} MiB, got {str(path)!r}")
    return data


def _private_key(path: str | Path) -> tuple[bytes, object, str]:
    """PKCS 8 without a password, the public key, and the algorithm."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    data = _read(path)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise InputError(
            f"expected a private key without a password, got the encrypted {str(path)!r}; openssl pkey decrypts it"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"expected a private key in PEM, got {str(path)!r}") from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _ALGORITHMS:
        algorithm = _ALGORITHMS[key.curve.name]
    elif isinstance(key, rsa.RSAPrivateKey):
        algorithm = "ps256"
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    else:
        raise InputError(f"expected a key of P-256, P-384, P-521, RSA or Ed25519, got another kind in {str(path)!r}")
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, none), key.public_key(), algorithm
