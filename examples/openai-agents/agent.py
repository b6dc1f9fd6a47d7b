"""A support agent on the openai-agents SDK. It looks orders up with a tool, and answers in words."""

from agents import Agent, ItemHelpers, MaxTurnsExceeded, Runner, function_tool
from agents.items import ToolCallItem, ToolCallOutputItem
from openai.types.responses import ResponseTextDeltaEvent
from outrigger_agent import AgentError, TaskResult, ToolCall, configure_openai_agents, serve

ORDERS = {"1001": "shipped on Monday", "1002": "waits for payment"}
MAX_TURNS = 6


@function_tool
def order_state(order: str) -> str:
    """The state of an order.

    Args:
        order: the number of the order, such as 1001
    """
    return ORDERS.get(order, "no such order")


class Support:
    name = "support-agent"
    version = "1.0.0"

    def __init__(self):
        self.agent = Agent(
            name="Support",
            instructions="You answer customers. Look orders up before you speak of them.",
            tools=[order_state],
            model="gpt-4o-mini",
        )

    async def process_task(self, task, context):
        try:
            result = await Runner.run(self.agent, task.input, max_turns=MAX_TURNS)
        except MaxTurnsExceeded as error:
            raise AgentError("FAILED_PRECONDITION", f"no answer after {MAX_TURNS} turns") from error
        return TaskResult(
            result.final_output,
            tokens_used=result.context_wrapper.usage.total_tokens,
            tool_calls=tool_calls(result.new_items),
        )

    async def stream_process(self, task, context):
        result = Runner.run_streamed(self.agent, task.input, max_turns=MAX_TURNS)
        try:
            async for event in result.stream_events():
                if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
                    yield event.data.delta
        finally:
            # The caller may leave early; the run would go on, and cost.
            result.cancel()


def tool_calls(items):
    outputs = {item.raw_item["call_id"]: str(item.output) for item in items if isinstance(item, ToolCallOutputItem)}
    calls = [item.raw_item for item in items if isinstance(item, ToolCallItem)]
    return [ToolCall(call.name, call.arguments, outputs.get(call.call_id, "")) for call in calls]


if __name__ == "__main__":
    configure_openai_agents()
    serve(Support())
