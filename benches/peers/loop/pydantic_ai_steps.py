"""pydantic-ai as a driver of `cargo xtask peers loop`.

One JSON object a line: greets with its name and version, then answers {"steps": n} with
{"seconds": s, "total": t}: an agent run of n model calls, the first n - 1 of which call the tool `add` with 1, 2, ..,
so that t must be n (n - 1) / 2. The model costs nothing; what is left is the loop: request, validation, dispatch, history.
"""

import asyncio
import importlib.metadata
import json
import sys
import time

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits


class Counter:
    """The world of a run: what the tool changed, and how many answers the model gave."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.answered = 0
        self.total = 0

    def model(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.answered += 1
        if self.answered == self.steps:
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart("add", json.dumps({"number": self.answered}))])

    def add(self, number: int) -> int:
        """Adds a number to the total."""
        self.total += number
        return self.total


def agent(counter: Counter) -> Agent:
    made = Agent(FunctionModel(counter.model))
    made.tool_plain(counter.add)
    return made


async def run(steps: int) -> dict:
    counter = Counter(steps)
    made = agent(counter)
    started = time.perf_counter()
    await made.run("Add the numbers.", usage_limits=UsageLimits(request_limit=None))
    return {"seconds": time.perf_counter() - started, "total": counter.total}


def say(document: dict) -> None:
    print(json.dumps(document), flush=True)


def main() -> None:
    say({"name": "pydantic-ai", "version": importlib.metadata.version("pydantic-ai-slim")})
    for line in sys.stdin:
        try:
            say(asyncio.run(run(json.loads(line)["steps"])))
        except Exception as error:  # the answer of a driver, not a crash
            say({"error": repr(error)})


main()
