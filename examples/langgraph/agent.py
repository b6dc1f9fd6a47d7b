"""A travel agent as a LangGraph graph: a model that may call a tool, until it answers."""

import os

from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphRecursionError
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from outrigger_agent import AgentError, TaskResult, http_client, serve

TIMES = {"Hamburg": "08:15", "Kiel": "10:40"}
INSTRUCTIONS = SystemMessage("You plan journeys. Look departures up before you name them.")
LIMIT = {"recursion_limit": 12}


@tool
def departure(city: str) -> str:
    """The next departure from a city."""
    return TIMES.get(city, "no departure today")


def build_graph():
    model = ChatOpenAI(
        model="gpt-4o-mini",
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:15002/v1"),
        api_key="none",  # the sidecar has the key
        max_retries=0,  # the sidecar retries
        stream_usage=True,
        http_async_client=http_client(),  # its requests carry the ids of the task
    ).bind_tools([departure])

    async def ask(state):
        return {"messages": [await model.ainvoke([INSTRUCTIONS, *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_node("tools", ToolNode([departure]))
    graph.set_entry_point("ask")
    graph.add_conditional_edges("ask", tools_condition)
    graph.add_edge("tools", "ask")
    return graph.compile()


class Travel:
    name = "travel-agent"
    version = "1.0.0"

    def __init__(self):
        self.graph = build_graph()

    async def process_task(self, task, context):
        try:
            state = await self.graph.ainvoke(first(task), LIMIT)
        except GraphRecursionError as error:
            raise AgentError("FAILED_PRECONDITION", "no answer after many turns") from error
        used = [message.usage_metadata for message in state["messages"] if getattr(message, "usage_metadata", None)]
        return TaskResult(state["messages"][-1].text, tokens_used=sum(one["total_tokens"] for one in used))

    async def stream_process(self, task, context):
        async for message, _ in self.graph.astream(first(task), LIMIT, stream_mode="messages"):
            if isinstance(message, AIMessageChunk) and message.text:
                yield message.text


def first(task):
    return {"messages": [HumanMessage(task.input)]}


if __name__ == "__main__":
    serve(Travel())
