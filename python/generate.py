"""Writes the generated code from ../proto, or to a folder: python generate.py [FOLDER], with grpcio-tools 1.74.0.

Older versions of grpcio-tools allow older versions of grpcio and protobuf beside the package, so the version is
raised only when there is a need.
"""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "src" / "outrigger_agent"
PROTO = HERE.parent / "proto"

OUT.mkdir(parents=True, exist_ok=True)
subprocess.run(
    [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={PROTO}",
        f"--python_out={OUT}",
        f"--pyi_out={OUT}",
        f"--grpc_python_out={OUT}",
        "agent_service.proto",
    ],
    check=True,
)
# The generator imports from the top, and these files are in a package. Their name in protobuf's registry stays
# agent_service.proto, so that an agent may have generated code of its own from the same file.
stub = OUT / "agent_service_pb2_grpc.py"
stub.write_text(
    stub.read_text().replace(
        "import agent_service_pb2 as agent__service__pb2",
        "from . import agent_service_pb2 as agent__service__pb2",
    )
)
