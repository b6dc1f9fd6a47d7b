"""An agent with services of its own beside gRPC's health service: health_agent.py PORT [without]

Says "listening PORT", then does what its standard input says: "SERVICE STATUS" sets a service's health, "stop" ends the
server in order. "without" leaves the health service out.
"""

import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


class Tools(grpc.GenericRpcHandler):
    """Echoes whatever is sent to my.Tools."""

    def service(self, details):
        if not details.method.startswith("/my.Tools/"):
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


class Health(health.HealthServicer):
    """The package's own service, with the method that it leaves out."""

    def __init__(self):
        super().__init__()
        self.statuses = {"": health_pb2.HealthCheckResponse.SERVING}

    def set(self, service, status):
        self.statuses[service] = status
        super().set(service, status)

    def List(self, request, context):
        answers = {
            name: health_pb2.HealthCheckResponse(status=status)
            for name, status in self.statuses.items()
        }
        return health_pb2.HealthListResponse(statuses=answers)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), handlers=[Tools()])
servicer = Health()
servicer.set("my.Tools", health_pb2.HealthCheckResponse.SERVING)
if "without" not in sys.argv:
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
if port == 0:
    sys.exit("the port is taken")
server.start()
print(f"listening {port}", flush=True)
for line in sys.stdin:
    words = line.split()
    if words == ["stop"]:
        servicer.enter_graceful_shutdown()
        server.stop(1).wait()
        break
    service, status = words
    servicer.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
