/**
 * The OpenAPI document. @elysiajs/swagger reads the routes and their schemas; what it says is then tidied: it calls
 * 3.1 content 3.0.3, puts titles in the wrong place, and repeats every schema wherever it is used.
 */
import { Elysia, type InternalRoute } from "elysia";
import { errorCodes } from "../errors.ts";
import { problemExample, responseHeaders } from "../http/docs.ts";
import { about, securitySchemes } from "./about.ts";

type Json = Record<string, unknown>;

interface Media {
  schema?: Json;
}

interface Parameter {
  name: string;
  in: string;
  required: boolean;
  schema: Json;
  examples?: unknown[];
}

interface Answer {
  title?: string;
  headers?: Json;
  content?: Record<string, Media>;
}

interface Operation {
  operationId: string;
  security?: Json[];
  parameters?: Parameter[];
  requestBody?: { content: Record<string, Media> };
  responses: Record<string, Answer>;
}

const specPath = "/spec";

/**
 * The document of these routes, as OpenAPI 3.1.0. A bare path isn't shown where its twin stands under `/v1`.
 * @throws where two different schemas have the same title
 */
export async function openApi(routes: readonly InternalRoute[]): Promise<Json> {
  // Loaded when it is asked for, because that takes as long as half of the start. The plugin has an app of its own,
  // which never listens: its page, which would load scripts from elsewhere, is out of everybody's reach.
  const { swagger } = await import("@elysiajs/swagger");
  const app = new Elysia().use(swagger({ specPath, excludeStaticFile: false }));
  const byHand = new Map<string, Json>();
  const known = new Set(routes.map(({ path }) => path));
  for (const { method, path, hooks } of routes) {
    if (hooks.detail?.hide || known.has(`/v1${path}`)) continue;
    const { body, query, params, response } = hooks;
    // The plugin takes what is written by hand in place of what the schemas say: they are joined below.
    const { parameters, responses, requestBody, ...detail } = hooks.detail ?? {};
    byHand.set(detail.operationId, { parameters, responses, requestBody });
    app.route(method, path, () => "", { body, query, params, response, detail, parse: "json" });
  }
  const answer = await app.handle(new Request(`http://localhost${specPath}`));
  const { paths } = (await answer.json()) as { paths: Record<string, Record<string, Operation>> };

  const schemas = new Map<string, Json>();
  for (const operation of Object.values(paths).flatMap((item) => Object.values(item))) {
    complete(operation, byHand.get(operation.operationId) ?? {}, schemas);
  }
  const text = JSON.stringify([paths, ...schemas.values()]);
  const used = (kind: string, components: Json): Json =>
    Object.fromEntries(
      Object.entries(components).filter(([name]) => text.includes(`"#/components/${kind}/${name}"`)),
    );
  const examples = Object.fromEntries(
    errorCodes.map((code) => [code, { summary: code, value: problemExample(code) }]),
  );
  return {
    openapi: "3.1.0",
    ...about,
    paths,
    components: {
      securitySchemes,
      headers: used("headers", responseHeaders),
      examples: used("examples", examples),
      schemas: Object.fromEntries([...schemas].sort(([a], [b]) => (a < b ? -1 : 1))),
    },
  };
}

/** Joins what the schemas say of an operation with what is written by hand, in place. */
function complete(operation: Operation, byHand: Json, schemas: Map<string, Json>): void {
  const { parameters, ...rest } = JSON.parse(JSON.stringify(byHand)) as Partial<Operation>;
  Object.assign(operation, join(operation as unknown as Json, rest));
  const isScheme = ({ name }: Parameter): boolean =>
    (operation.security ?? []).some((scheme) => name in scheme);
  operation.parameters = [...(operation.parameters ?? []), ...(parameters ?? [])]
    // A security scheme is no parameter, too: it would be sent twice.
    .filter((parameter) => !isScheme(parameter))
    .map(({ examples, schema: said, ...parameter }) => {
      const { description, ...schema } = tidy({ ...said, ...(examples && { examples }) }, schemas, false);
      const example = examples && parameter.required && { example: examples[0] };
      return { ...(description !== undefined && { description }), ...parameter, ...example, schema };
    });
  if (operation.parameters.length === 0) delete operation.parameters;
  for (const media of Object.values(operation.requestBody?.content ?? {})) {
    if (media.schema) media.schema = tidy(media.schema, schemas, false);
  }
  for (const answer of Object.values(operation.responses)) {
    const { title } = answer;
    delete answer.title;
    answer.headers = { "X-Request-Id": { $ref: "#/components/headers/X-Request-Id" }, ...answer.headers };
    for (const media of Object.values(answer.content ?? {})) {
      if (media.schema) media.schema = tidy({ ...(title && { title }), ...media.schema }, schemas, true);
    }
  }
}

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function join(a: Json, b: Json): Json {
  const joined = { ...a };
  for (const [key, value] of Object.entries(b)) {
    const other = joined[key];
    joined[key] = isObject(other) && isObject(value) ? join(other, value) : value;
  }
  return joined;
}

/**
 * A schema as clients should read it; one with a title becomes a component.
 * @param answers clients must bear new members in answers, but are told of unknown ones in requests
 */
function tidy(schema: Json, schemas: Map<string, Json>, answers: boolean): Json {
  const { documented, title, ...tidied } = schema;
  if (isObject(documented)) return documented;
  const inner = (value: unknown): unknown => (isObject(value) ? tidy(value, schemas, answers) : value);
  if (tidied.format === "text") delete tidied.format;
  if (answers) delete tidied.default;
  if (answers && tidied.properties) delete tidied.additionalProperties;
  for (const key of ["items", "contentSchema"]) {
    if (tidied[key]) tidied[key] = inner(tidied[key]);
  }
  for (const key of ["properties", "patternProperties"]) {
    const map = tidied[key];
    if (isObject(map))
      tidied[key] = Object.fromEntries(Object.entries(map).map(([name, value]) => [name, inner(value)]));
  }
  if (Array.isArray(tidied.anyOf)) tidied.anyOf = tidied.anyOf.map(inner);
  const flat = withoutNullChoice(tidied);
  return typeof title === "string" ? component(title, { title, ...flat }, schemas) : flat;
}

/** `anyOf: [string, null]` is `type: [string, "null"]`, unless the choice is a component. */
function withoutNullChoice(schema: Json): Json {
  const { anyOf, ...words } = schema;
  const [choice, none] = (anyOf ?? []) as (Json | undefined)[];
  if (none?.type !== "null" || typeof choice?.type !== "string") return schema;
  const values = Array.isArray(choice.enum) && { enum: [...choice.enum, null] };
  return { ...choice, ...words, type: [choice.type, "null"], ...values };
}

function component(name: string, schema: Json, schemas: Map<string, Json>): Json {
  const known = schemas.get(name);
  if (known !== undefined && !Bun.deepEquals(known, schema)) throw new Error(`two schemas are named ${name}`);
  schemas.set(name, schema);
  return { $ref: `#/components/schemas/${name}` };
}
