/** Every place of the API that takes a string, from its OpenAPI document: where attacks put theirs. */
import type { ApiDocument, Parameter, Route, Schema } from "./openapi.ts";

export interface PlacedRequest {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string | null;
}

export interface Place {
  /** Such as `POST /v1/chat body.message`. */
  readonly name: string;
  /** A request that is otherwise fine, with a string in that place. */
  request(value: string): PlacedRequest;
}

/** What is there for requests to name. */
export interface Known {
  readonly user: string;
  readonly turn: string;
  readonly conversation: string;
  readonly document: string;
  readonly memory: string;
}

export function stringPlaces({ spec, routes }: ApiDocument, known: Known): Place[] {
  return routes.flatMap((route) => [
    ...(route.operation.parameters ?? []).map((parameter) => inParameter(route, parameter, known)),
    ...bodyPlaces(route, bodySchemaOf(route, spec.components.schemas), known),
  ]);
}

function bodySchemaOf({ operation }: Route, components: Record<string, Schema>): Schema {
  const schema = operation.requestBody?.content["application/json"]?.schema;
  return (schema?.$ref ? components[schema.$ref.split("/").at(-1)!] : schema) ?? {};
}

const texts: Record<string, string> = {
  message: "Hello",
  name: "some.txt",
  text: "Some text.",
  query: "text",
};

/** A value that a required place takes. */
const plain = (name: string, { user }: Known): string => (name === "user_id" ? user : (texts[name] ?? "x"));

const knownId = (path: string, known: Known): string =>
  path.includes("/turns/")
    ? known.turn
    : path.includes("/documents/")
      ? known.document
      : path.includes("/memories/")
        ? known.memory
        : known.conversation;

function requestTo(
  { path, method, operation }: Route,
  known: Known,
  { params = {}, query = {}, headers = {}, body }: Partial<Parts>,
): PlacedRequest {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(params[name] ?? (name === "id" ? knownId(path, known) : known.user)),
  );
  const wanted = (operation.parameters ?? []).filter(
    ({ name, in: place, required }) => place === "query" && (required || name === "user_id"),
  );
  const pairs = new URLSearchParams({
    ...Object.fromEntries(wanted.map(({ name }) => [name, plain(name, known)])),
    ...query,
  });
  return {
    method: method.toUpperCase(),
    path: pairs.size === 0 ? filled : `${filled}?${pairs}`,
    headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
    body: body === undefined ? null : JSON.stringify(body),
  };
}

interface Parts {
  params: Record<string, string>;
  query: Record<string, string>;
  headers: Record<string, string>;
  body: object;
}

function inParameter(route: Route, { name, in: place }: Parameter, known: Known): Place {
  const part = place === "path" ? "params" : place === "query" ? "query" : "headers";
  const schema = route.operation.requestBody === undefined ? undefined : { message: "Hello" };
  return {
    name: `${route.method.toUpperCase()} ${route.path} ${place}.${name}`,
    request: (value) =>
      requestTo(route, known, {
        // What a header can't hold comes percent-encoded.
        [part]: { [name]: place === "header" ? encodeURIComponent(value) : value },
        ...(schema && { body: { ...schema, user_id: known.user } }),
      }),
  };
}

function bodyPlaces(route: Route, { properties = {}, required = [] }: Schema, known: Known): Place[] {
  const needed = Object.fromEntries((required as string[]).map((name) => [name, plain(name, known)]));
  const user = "user_id" in (properties as object) ? { user_id: known.user } : {};
  const at = (name: string, placed: (value: string) => object): Place => ({
    name: `${route.method.toUpperCase()} ${route.path} body.${name}`,
    request: (value) => requestTo(route, known, { body: { ...needed, ...user, ...placed(value) } }),
  });
  return Object.entries(properties as Record<string, Schema>).flatMap(([name, schema]) => {
    const kinds = JSON.stringify(schema);
    return [
      at(name, (value) => ({ [name]: value })),
      ...(kinds.includes('"object"')
        ? [
            at(`${name}.key`, (value) => ({ [name]: { key: value } })),
            at(`${name}.…`, (value) => ({ [name]: ownProperty(value, "value") })),
          ]
        : []),
      ...(kinds.includes('"array"') ? [at(`${name}.0`, (value) => ({ [name]: [value] }))] : []),
    ];
  });
}

/** An object with one property of its own, whatever its name. */
const ownProperty = (name: string, value: unknown): object =>
  JSON.parse(`{${JSON.stringify(name)}:${JSON.stringify(value)}}`) as object;
