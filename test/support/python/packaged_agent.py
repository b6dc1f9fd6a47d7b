"""An agent of the outrigger-agent package. The first word of a task says what it does."""

import asyncio
import os

import grpc
import grpc.aio
from outrigger_agent import AgentError, TaskResult, aio_client_interceptors, model_client, serve
from outrigger_agent.agent_service_pb2 import TaskRequest
from outrigger_agent.agent_service_pb2_grpc import AgentServiceStub


class Packaged:
    name = "packaged-agent"
    version = "1.0.0"

    def __init__(self):
        self.client = model_client()
        self.leaf = None

    async def process_task(self, task, context):
        what = task.input.split()[0]
        if what == "relay":
            return await self.relay(task)
        if what == "ask":
            question = [{"role": "user", "content": task.input}]
            answer = await self.client.chat.completions.create(model="m", messages=question, max_tokens=200)
            return TaskResult(answer.choices[0].message.content, tokens_used=answer.usage.total_tokens)
        if what == "refuse":
            raise AgentError("FAILED_PRECONDITION", "the agent refuses", field="input", retry_after_ms=-1)
        if what == "break":
            raise KeyError("a secret of the agent")
        if what == "wait":
            await asyncio.sleep(3600)
        return f"said {task.input}"

    async def relay(self, task):
        if self.leaf is None:
            options = [("grpc.default_authority", "leaf")]
            address = os.environ["AGENT_OUTBOUND"]
            self.leaf = grpc.aio.insecure_channel(address, options, interceptors=aio_client_interceptors())
        subtask = TaskRequest(task_id=f"{task.task_id}-1", input="a subtask")
        answer = await AgentServiceStub(self.leaf).ProcessTask(subtask)
        return answer.output

    def stream_process(self, task, context):
        for word in task.input.split():
            if word == "break":
                raise AgentError("UNAVAILABLE", "the agent breaks off")
            yield word


serve(Packaged())
