"""Asks an external scaler as KEDA does: keda.py ADDRESS PROTO_FOLDER [CA CERT KEY]

Each line on standard input is a call, as JSON: {"id": 1, "method": "GetMetrics", "ref": {...}, "metricName": "..."}. Each answer is
a line: its id, the code, and the details or what came. StreamIsActive says a line for each message.
"""

import json
import sys
import threading

import grpc

address, protos, *files = sys.argv[1:]
sys.path.insert(0, protos)
messages, services = grpc.protos_and_services("externalscaler.proto")

if files:
    ca, cert, key = (open(file, "rb").read() for file in files)
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert))
else:
    channel = grpc.insecure_channel(address)
scaler = services.ExternalScalerStub(channel)
lock = threading.Lock()


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


def metric(one, value):
    return {"name": one.metricName, "whole": getattr(one, value), "float": getattr(one, value + "Float")}


def call(line):
    method = line["method"]
    ref = messages.ScaledObjectRef(**line["ref"])
    try:
        if method == "GetMetrics":
            request = messages.GetMetricsRequest(scaledObjectRef=ref, metricName=line.get("metricName", ""))
            answer = scaler.GetMetrics(request, timeout=20)
            say(id=line["id"], code="OK", metrics=[metric(one, "metricValue") for one in answer.metricValues])
        elif method == "GetMetricSpec":
            answer = scaler.GetMetricSpec(ref, timeout=20)
            say(id=line["id"], code="OK", metrics=[metric(one, "targetSize") for one in answer.metricSpecs])
        elif method == "IsActive":
            say(id=line["id"], code="OK", result=scaler.IsActive(ref, timeout=20).result)
        else:
            for answer in scaler.StreamIsActive(ref):
                say(id=line["id"], code="OK", result=answer.result)
            say(id=line["id"], code="END")
    except grpc.RpcError as error:
        say(id=line["id"], code=error.code().name, details=error.details())


for text in sys.stdin:
    threading.Thread(target=call, args=(json.loads(text),), daemon=True).start()
