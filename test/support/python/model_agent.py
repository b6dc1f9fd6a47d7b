"""An agent as teams write them with grpcio and openai: it asks its model by OPENAI_BASE_URL and lets errors happen.

It knows nothing of a sidecar, and passes nothing of its call on. Prints its port.
"""

import os
import sys
from concurrent import futures

import grpc
from openai import OpenAI

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "proto")
sys.path.insert(0, PROTO)
messages, services = grpc.protos_and_services("agent_service.proto")


class Agent(services.AgentServiceServicer):
    def __init__(self):
        self.client = OpenAI()

    def ask(self, request, stream=False):
        question = [{"role": "user", "content": request.input}]
        return self.client.chat.completions.create(model="m", messages=question, stream=stream)

    def ProcessTask(self, request, context):
        answer = self.ask(request)
        return messages.TaskResponse(task_id=request.task_id, output=answer.choices[0].message.content)

    def StreamProcess(self, request, context):
        for chunk in self.ask(request, stream=True):
            for choice in chunk.choices:
                yield messages.TaskChunk(chunk=choice.delta.content or "")
        yield messages.TaskChunk(is_final=True)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    services.add_AgentServiceServicer_to_server(Agent(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


main()
