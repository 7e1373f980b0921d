"""The files of three services that know their callers: certificates, authority, keys, and who may call."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import grpc
from caller_credentials import Authority, Signer, dns, issuer_table, key_set, replace_file, sha256
from cryptography import x509

SERVICES = ("iterate", "chatd", "validated")
TOKEN = "opaque-secret-" + "k" * 40
ADDRESS = x509.IPAddress(ip_address("127.0.0.1"))


def callers_of_iterate(folder: Path, more: str = "") -> str:
    return f"""
    {issuer_table(folder / "keys.json", "ES256")}
    [groups.everything]
    rpcs = ["*"]
    kinds = ["*"]
    models = ["*"]
    [callers.by-jwt]
    groups = ["everything"]
    subjects = [{{issuer = "corp", subject = "svc-scheduler"}}]
    [callers.by-token]
    groups = ["everything"]
    tokens_sha256 = ["{sha256(TOKEN)}"]
    [callers.by-certificate]
    groups = ["everything"]
    certificates = ["dns:client.test"]
    {more}
    """


CALLERS_OF_OTHERS = """
    [callers.iterate]
    certificates = ["dns:iterate.test"]
    rpcs = ["Complete", "Brief", "Validate", "ListKinds"]
    kinds = ["*"]
    models = ["*"]
    may_name_callers = true
"""


class Ground:
    """The files that the services read, each replaced by a rename."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder, "one")
        self.signer = Signer("key-1")
        self.trust(self.authority)
        self.issue()
        replace_file(folder / "keys.json", key_set(self.signer))
        replace_file(folder / "iterate.toml", callers_of_iterate(folder))
        replace_file(folder / "others.toml", CALLERS_OF_OTHERS)

    def trust(self, *authorities: Authority) -> None:
        replace_file(self.folder / "ca.pem", "".join(each.pem.decode() for each in authorities))

    def issue(self) -> None:
        names: dict[str, list[x509.GeneralName]] = {
            "iterate": [dns("iterate.test"), ADDRESS],
            "other": [ADDRESS],
            "client": [dns("client.test")],
        }
        for name, sans in names.items():
            for file in self.authority.issue(f"{name}.new", sans):
                file.rename(self.folder / f"{name}{'.key' if file.suffix == '.key' else '.pem'}")

    def environ(self) -> dict[str, str]:
        folder = self.folder
        environ = {
            "ITERATE_CALLERS__FILE": str(folder / "iterate.toml"),
            "CHATD_CALLERS__FILE": str(folder / "others.toml"),
            "VALIDATED_CALLERS__FILE": str(folder / "others.toml"),
            "ITERATE_HOP_TLS__CA_FILE": str(folder / "ca.pem"),
            "ITERATE_HOP_TLS__CERTIFICATE_FILE": str(folder / "iterate.pem"),
            "ITERATE_HOP_TLS__KEY_FILE": str(folder / "iterate.key"),
        }
        for service in SERVICES:
            name = "iterate" if service == "iterate" else "other"
            environ[f"{service.upper()}_TLS__CERTIFICATE_FILE"] = str(folder / f"{name}.pem")
            environ[f"{service.upper()}_TLS__KEY_FILE"] = str(folder / f"{name}.key")
            environ[f"{service.upper()}_TLS__CLIENT_CA_FILE"] = str(folder / "ca.pem")
        return environ

    def token(self) -> str:
        return self.signer.token()

    def credentials(self, name: str = "client") -> grpc.ChannelCredentials:
        ca, key, chain = ((self.folder / file).read_bytes() for file in ("ca.pem", f"{name}.key", f"{name}.pem"))
        return grpc.ssl_channel_credentials(ca, key, chain)
