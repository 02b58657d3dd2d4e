"""The labels and weights of a served version, as its configuration has them."""

from typing import TYPE_CHECKING

import msgspec

from trtserve.errors import ConfigurationError

if TYPE_CHECKING:
    from trtserve.client import Client, ModelStatus


class Names(msgspec.Struct, frozen=True):
    """Other names of one version, and its share of the requests that name none."""

    labels: tuple[str, ...] = ()
    weight: int | None = None

    @property
    def text(self) -> str:
        """For people: `stable, old (90)`, where 90 is the weight."""
        weight = "" if self.weight is None else f"({self.weight})"
        return " ".join(filter(None, (", ".join(self.labels), weight)))


def names_of(client: "Client", status: "ModelStatus") -> Names:
    """Ask a daemon. Nothing where the version is not ready, or the server does not tell."""
    # Here and not above: `trtserve --help` needs no gRPC and no protobuf.
    from google.protobuf.json_format import ParseDict

    from trtserve.client import NotFound, Unavailable, Unimplemented
    from trtserve.model.configuration_file import Origin
    from trtserve.model.version_labels import read_names
    from trtserve.proto.model_config_pb2 import ModelConfig

    if status.state != "READY" or not status.version.isdigit():
        return Names()
    try:
        parameters = client.config(status.name, status.version).get("parameters", {})
        names = read_names(ParseDict({"parameters": parameters}, ModelConfig()), Origin())
    except (NotFound, Unavailable, Unimplemented, ConfigurationError):
        return Names()
    version = int(status.version)
    return Names(names.labels_of(version), names.weight_of(version))
