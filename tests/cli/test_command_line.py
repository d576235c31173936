"""The command line that a report quotes."""

import pytest

from arcinvert.cli.auditing.command_line import command_line


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["audit", "a b.npy", "-o", "out"], "arcinvert audit 'a b.npy' -o out"),
        (["--defense", "rotate:S3 CRET", "--defence=mlphash:S3CRET"],
         "arcinvert --defense rotate:KEY --defence=mlphash:KEY"),
        (["--defense", "biohash:S3\nCRET", "--defense=polyprotect:a=S3CRET", "--defense", "noise:0.1"],
         "arcinvert --defense biohash:KEY --defense=polyprotect:KEY --defense noise:0.1"),
        (["postgresql://u:S3CRET@host/db"], "arcinvert 'postgresql://u:***@host/db'"),
        (["host=h password='S3 CRET' user=u"], "arcinvert 'host=h password=*** user=u'"),
        (["postgresql://host/db?sslpassword=S3CRET&a=b"], "arcinvert 'postgresql://host/db?sslpassword=***&a=b'"),
        (["mysql://host/db?password=S3CRET"], "arcinvert 'mysql://host/db?password=***'"),
    ],
)  # fmt: skip
def test_it_can_be_run_again_and_holds_no_secret(arguments: list[str], shown: str) -> None:
    assert command_line(arguments) == shown
    assert "CRET" not in shown
