"""A research agent on plain grpcio, without a package of Outrigger. It also works without a sidecar: then set
OPENAI_BASE_URL and OPENAI_API_KEY as for any client.
"""

import json
import logging
import os
import signal
from concurrent import futures
from contextlib import contextmanager

import agent_service_pb2 as messages
import agent_service_pb2_grpc as services
import grpc
import openai

#: What makes a request to the model part of its task: the sidecar finds the task's deadline and budget by it.
PASSED_ON = ("baggage", "traceparent", "tracestate", "x-request-id")
PAPERS = {"canoe": "The outrigger canoe, 1928", "mesh": "Sidecars at sea, 2019"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_paper",
            "description": "A paper on a topic",
            "parameters": {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]},
        },
    }
]
MAX_TURNS = 6


class Research(services.AgentServiceServicer):
    def __init__(self):
        self.model = openai.OpenAI(
            base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:15002/v1"),
            api_key=os.environ.get("OPENAI_API_KEY", "none"),
            # The sidecar retries. Without one, leave this line out.
            max_retries=0,
        )

    def ProcessTask(self, task, context):
        tokens, calls, turns = 0, [], question(task)
        for _ in range(MAX_TURNS):
            with model_errors(context):
                answer = self.ask(turns, context)
            tokens += answer.usage.total_tokens
            said = answer.choices[0].message
            if not said.tool_calls:
                return messages.TaskResponse(
                    task_id=task.task_id, output=said.content, tokens_used=tokens, tool_calls=calls
                )
            turns.append(said.model_dump(exclude_none=True))
            turns += [used(call, calls) for call in said.tool_calls]
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"no answer after {MAX_TURNS} turns")

    def StreamProcess(self, task, context):
        turns = question(task)
        for _ in range(MAX_TURNS):
            message = {"role": "assistant", "content": "", "tool_calls": []}
            # Errors arise in the middle of a stream, too.
            with model_errors(context), self.ask(turns, context, stream=True) as chunks:
                for chunk in chunks:
                    for choice in chunk.choices:
                        if choice.delta.content:
                            yield messages.TaskChunk(chunk=choice.delta.content)
                        collect(message["tool_calls"], choice.delta.tool_calls or [])
            if not message["tool_calls"]:
                yield messages.TaskChunk(is_final=True)
                return
            turns.append(message)
            turns += [used_raw(call) for call in message["tool_calls"]]
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"no answer after {MAX_TURNS} turns")

    def ask(self, turns, context, stream=False):
        headers = {name: value for name, value in context.invocation_metadata() if name in PASSED_ON}
        return self.model.chat.completions.create(
            model="gpt-4o-mini",
            messages=turns,
            tools=TOOLS,
            stream=stream,
            extra_headers=headers,
            timeout=context.time_remaining(),
        )


@contextmanager
def model_errors(context):
    """Ends the call with the status that fits: sidecars try UNAVAILABLE again, and nothing else."""
    try:
        yield
    except openai.RateLimitError as error:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, error.message)
    except openai.APIStatusError as error:
        # A wrong key or model is a defect of this agent, and trying again does not help.
        later = error.status_code >= 500
        context.abort(grpc.StatusCode.UNAVAILABLE if later else grpc.StatusCode.INTERNAL, error.message)
    except openai.APIError as error:
        # Not reached, or broken off in the middle of an answer.
        context.abort(grpc.StatusCode.UNAVAILABLE, error.message)


def question(task):
    instructions = "You are a research agent. Find a paper before you answer."
    return [{"role": "system", "content": instructions}, {"role": "user", "content": task.input}]


def find_paper(arguments):
    return PAPERS.get(json.loads(arguments).get("topic", ""), "nothing found")


def used(call, calls):
    """The tool's answer as a turn; the call is also noted for the caller."""
    result = find_paper(call.function.arguments)
    calls.append(
        messages.ToolCall(tool_name=call.function.name, arguments=call.function.arguments, result=result)
    )
    return {"role": "tool", "tool_call_id": call.id, "content": result}


def used_raw(call):
    return {"role": "tool", "tool_call_id": call["id"], "content": find_paper(call["function"]["arguments"])}


def collect(calls, pieces):
    """Puts the calls of a stream together: a piece names its call by its index."""
    for piece in pieces:
        if piece.index == len(calls):
            calls.append({"id": piece.id, "type": "function", "function": {"name": piece.function.name, "arguments": ""}})
        calls[piece.index]["function"]["arguments"] += piece.function.arguments or ""


def main():
    logging.basicConfig(level=logging.INFO)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    services.add_AgentServiceServicer_to_server(Research(), server)
    server.add_insecure_port(os.environ.get("AGENT_LISTEN", "127.0.0.1:50051"))
    server.start()
    # Running tasks have 25 s to end.
    signal.signal(signal.SIGTERM, lambda *_: server.stop(25))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
