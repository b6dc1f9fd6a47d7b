"""An agent of the outrigger-agent package. The first word of a task says what it does."""

import asyncio

from outrigger_agent import AgentError, TaskResult, call_agent, model_client, serve


class Packaged:
    name = "packaged-agent"
    version = "1.0.0"

    def __init__(self):
        self.client = model_client()

    async def process_task(self, task, context):
        what = task.input.split()[0]
        if what == "relay":
            return await self.relay()
        if what == "ask":
            question = [{"role": "user", "content": task.input}]
            answer = await self.client.chat.completions.create(model="m", messages=question, max_tokens=200)
            return TaskResult(answer.choices[0].message.content, tokens_used=answer.usage.total_tokens)
        if what == "whoami":
            return str(dict(context.incoming).get("x-user"))
        if what == "refuse":
            raise AgentError("FAILED_PRECONDITION", "the agent refuses", field="input", retry_after_ms=-1)
        if what == "break":
            raise KeyError("a secret of the agent")
        if what == "wait":
            await asyncio.sleep(3600)
        return f"said {task.input}"

    async def relay(self):
        return (await call_agent("leaf", "a subtask")).output

    def stream_process(self, task, context):
        for word in task.input.split():
            if word == "break":
                raise AgentError("UNAVAILABLE", "the agent breaks off")
            yield word


serve(Packaged())
