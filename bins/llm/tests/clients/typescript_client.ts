// The official JavaScript client against a running server: a program that `tsc --strict` accepts, and that runs.
//
//     node typescript_client.ts URL MODEL
//
// Prints one closing line.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const [url, model] = process.argv.slice(2) as [string, string];
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const hello: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "Name a river." }];
const City = z.object({ name: z.string(), inhabitants: z.number().int(), coastal: z.boolean() });
const Weather = z.object({ city: z.string(), days: z.number().int() });

async function models(): Promise<void> {
  const ids: string[] = [];
  for await (const one of client.models.list()) ids.push(one.id);
  assert.deepEqual(ids, [model]);
}

async function chat(): Promise<void> {
  const settings = { model, messages: hello, max_completion_tokens: 12, temperature: 0, seed: 1 } as const;
  const whole = await client.chat.completions.create({ ...settings, messages: hello, logprobs: true, top_logprobs: 2 });
  assert.equal(whole.choices[0]?.logprobs?.content?.[0]?.top_logprobs.length, 2);
  let text = "";
  let usage: OpenAI.CompletionUsage | null | undefined;
  const stream = await client.chat.completions.create({
    ...settings, messages: hello, stream: true, stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0]?.message.content);
  assert.equal(usage?.completion_tokens, whole.usage?.completion_tokens);
  const helper = client.chat.completions.stream({ ...settings, messages: hello });
  assert.equal(await helper.finalContent(), text);
}

async function structured(): Promise<void> {
  const made = await client.chat.completions.parse({
    model, messages: hello, temperature: 0, max_tokens: 200, response_format: zodResponseFormat(City, "city"),
  });
  assert.equal(typeof made.choices[0]?.message.parsed?.inhabitants, "number");
  const response = await client.responses.parse({
    model, input: "Paris as JSON.", temperature: 0, max_output_tokens: 200, text: { format: zodTextFormat(City, "city") },
  });
  assert.equal(typeof response.output_parsed?.coastal, "boolean");
}

async function tools(): Promise<void> {
  const tool = zodFunction({ name: "weather", parameters: Weather });
  const ask: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "The weather in Rome for 2 days?" }];
  const made = await client.chat.completions.parse({
    model, messages: ask, tools: [tool], tool_choice: "required", parallel_tool_calls: false, temperature: 0, max_tokens: 120,
  });
  const call = made.choices[0]?.message.tool_calls?.[0];
  assert.ok(call?.type === "function");
  assert.equal(Weather.safeParse(call.function.parsed_arguments).success, true);
  const stream = client.chat.completions.stream({
    model, messages: ask, tools: [tool], tool_choice: { type: "function", function: { name: "weather" } }, temperature: 0,
    max_tokens: 120,
  });
  const last = await stream.finalChatCompletion();
  const streamed = last.choices[0]?.message.tool_calls?.[0];
  assert.ok(streamed?.type === "function");
  assert.equal(Weather.safeParse(JSON.parse(streamed.function.arguments)).success, true);
}

async function responses(): Promise<void> {
  const settings = { model, input: "Name a river.", temperature: 0, max_output_tokens: 16 } as const;
  const whole = await client.responses.create(settings);
  let text = "";
  const stream = await client.responses.create({ ...settings, stream: true });
  for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
  assert.equal(text, whole.output_text);
  const helper = client.responses.stream(settings);
  const last = await helper.finalResponse();
  assert.equal(last.output_text, text);
}

async function embeddings(): Promise<void> {
  const made = await client.embeddings.create({ model, input: ["a river", "a road"], dimensions: 16 });
  assert.deepEqual(made.data.map((item) => item.embedding.length), [16, 16]);
}

async function errors(): Promise<void> {
  await assert.rejects(client.chat.completions.create({ model, messages: hello, top_p: 7 }), (error: unknown) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.code, error.param, error.type], ["invalid_value", "top_p", "invalid_request_error"]);
    return true;
  });
  await assert.rejects(client.models.retrieve("none"), OpenAI.NotFoundError);
}

const parts = [models, chat, structured, tools, responses, embeddings, errors];
for (const part of parts) await part();
console.log(`openai (JavaScript): ${parts.length} groups, types checked by tsc --strict`);
