/** The OpenAPI document as a service gives it, and the faults of answers by what it says. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { createParser } from "eventsource-parser";

export interface Schema {
  [keyword: string]: unknown;
  $ref?: string;
}

export interface Media {
  schema?: Schema;
  example?: unknown;
  examples?: Record<string, { value?: unknown; $ref?: string }>;
}

interface Answer {
  description: string;
  headers: Record<string, unknown>;
  content?: Record<string, Media>;
}

export interface Parameter {
  name: string;
  in: string;
  required: boolean;
  description?: string;
  schema: Schema;
}

export interface Operation {
  operationId: string;
  summary: string;
  description: string;
  security?: Record<string, unknown>[];
  parameters?: Parameter[];
  requestBody?: { content: Record<string, Media> };
  responses: Record<string, Answer>;
}

export interface Route {
  path: string;
  /** In lower case. */
  method: string;
  operation: Operation;
}

export interface Spec {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: {
    schemas: Record<string, Schema>;
    examples: Record<string, { value: unknown }>;
    headers: Record<string, unknown>;
  };
}

export interface ApiDocument {
  readonly spec: Spec;
  readonly routes: Route[];
  /** Every fault of a value under a schema; objects may hold nothing that the document doesn't say. */
  faultsOf(schema: Schema, value: unknown): string[];
  /** Every fault of the events of a stream. */
  streamFaults(stream: string): string[];
  /** Whatever of an answer the document doesn't say of its operation. */
  answerFaults(operation: Operation, answer: Pick<Response, "status" | "headers">, body: string): string[];
}

export function apiDocument(spec: Spec): ApiDocument {
  const routes = Object.entries(spec.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
  );
  const components = { schemas: closed(spec.components.schemas) };
  // Lengths are counted in UTF-16 code units, as the service counts them.
  const ajv = new Ajv2020({ strict: false, allErrors: true, unicode: false, logger: false });
  const checks = new Map<string, ReturnType<typeof ajv.compile>>();

  function faultsOf(schema: Schema, value: unknown): string[] {
    const key = JSON.stringify(schema);
    const check = checks.get(key) ?? ajv.compile({ ...closed(schema), components });
    checks.set(key, check);
    return check(value)
      ? []
      : (check.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
  }

  /** Each event's data is one of its own kind: a `oneOf` would take any of them. */
  const streamFaults = (stream: string): string[] =>
    eventsOf(stream).flatMap(({ event, data }) => {
      const kind = event === "message" ? ("done" in (data as object) ? "Done" : "Token") : event;
      const names = { start: "StartEvent", sources: "SourcesEvent", Done: "DoneEvent", Token: "TokenEvent" };
      return [
        ...faultsOf({ $ref: `#/components/schemas/${names[kind as keyof typeof names]}` }, data),
        ...faultsOf({ $ref: "#/components/schemas/StreamEvent" }, data),
      ];
    });

  function answerFaults(
    { responses }: Operation,
    { status, headers }: Pick<Response, "status" | "headers">,
    body: string,
  ): string[] {
    const answer = responses[status];
    if (answer === undefined) return [`the status ${status} is not documented`];
    const faults = Object.keys(answer.headers)
      .filter((name) => name !== "Retry-After" && !headers.has(name))
      .map((name) => `the header ${name} is missing`);
    if (answer.content === undefined) return body === "" ? faults : [...faults, "a body is not documented"];
    const type = headers.get("content-type")?.split(";")[0] ?? "";
    const media = answer.content[type];
    if (media === undefined) return [...faults, `the type ${type} is not documented`];
    if (type.endsWith("json") && media.schema) faults.push(...faultsOf(media.schema, JSON.parse(body)));
    if (type === "text/event-stream") {
      faults.push(...streamFaults(body));
      if (eventsOf(body).length < 2) faults.push("a stream has at least two events");
    }
    return faults;
  }

  return { spec, routes, faultsOf, streamFaults, answerFaults };
}

function closed<T>(schema: T): T {
  if (Array.isArray(schema)) return schema.map(closed) as T;
  if (typeof schema !== "object" || schema === null) return schema;
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]));
  const isObject = inner.type === "object" && "properties" in inner;
  return { ...inner, ...(isObject && { additionalProperties: false }) } as T;
}

/** The data of each event of a stream. */
function eventsOf(stream: string): { event: string; data: unknown }[] {
  const events: { event: string; data: unknown }[] = [];
  const parser = createParser({
    onEvent: ({ event, data }) => events.push({ event: event ?? "message", data: JSON.parse(data) }),
  });
  parser.feed(stream);
  return events;
}
