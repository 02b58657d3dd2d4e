"""Make trtserve/proto/*_pb2.py and *_pb2.pyi from protos/ (run by `make proto`).

protoc's own Python output registers in the process's default descriptor pool; ours carries the
same serialized descriptors into a private one (trtserve/proto/pool.py says why).
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "trtserve" / "proto"


def main() -> None:
    """Compile every file of protos/."""
    sources = sorted(path.name for path in (ROOT / "protos").glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.bin"
        subprocess.run(
            [
                sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}",
                f"--descriptor_set_out={out}", f"--pyi_out={folder}", *sources,
            ],
            check=True,
        )
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
        for file in files:
            stem = file.name.removesuffix(".proto")
            stub = (Path(folder) / f"{stem}_pb2.pyi").read_text()
            for other in files:
                module = other.name.removesuffix(".proto") + "_pb2"
                stub = stub.replace(
                    f"import {module} as", f"from trtserve.proto import {module} as"
                )
            (TARGET / f"{stem}_pb2.pyi").write_text(stub)
            digest = source_digest((ROOT / "protos" / file.name).read_bytes())
            (TARGET / f"{stem}_pb2.py").write_text(module_text(file, digest))


def source_digest(source: bytes) -> str:
    """What a generated module notes of its .proto file, so that a test can see it is stale."""
    return "sha256 " + hashlib.sha256(source).hexdigest()


def module_text(file: descriptor_pb2.FileDescriptorProto, digest: str) -> str:
    """The generated module of one .proto file."""
    imports = "".join(
        f"import trtserve.proto.{name.removesuffix('.proto')}_pb2  # noqa: F401\n"
        for name in file.dependency
    )
    data = file.SerializeToString()
    lines = "\n".join(f"    {data[i:i + 60]!r}" for i in range(0, len(data), 60))
    return (
        f'"""Made from protos/{file.name} by `make proto`: do not edit."""\n\n'
        f"# The source's {digest}\n\n"
        f"{imports}from trtserve.proto.pool import register\n\n"
        f"globals().update(register(\n{lines}\n))\n"
    )


if __name__ == "__main__":
    main()
