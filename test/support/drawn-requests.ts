/** Requests drawn from the OpenAPI document: such as it allows, and such with faults of every kind. */
import fc from "fast-check";
import type { ApiDocument, Operation, Parameter, Route } from "./openapi.ts";
import { junk, marker, valuesOf } from "./schema-values.ts";

export interface DrawnRequest {
  operation: Operation;
  method: string;
  /** With the query. */
  path: string;
  headers: Record<string, string>;
  body: string | Buffer | null;
  /** Whether it is all that the document asks for; where it isn't, it may be by chance. */
  valid: boolean;
  /** Says which of the known resources the placeholders mean. */
  pick: number;
}

/** What is only known when a request is sent: an id or a cursor that an answer gave. */
export const placeholders = [
  "known-turn",
  "known-conversation",
  "known-document",
  "known-memory",
  "known-key",
  "known-after",
  "known-next-document",
  "known-next-memory",
  "known-next-key",
  "known-before",
] as const;
export type Placeholder = (typeof placeholders)[number];

/** A request in parts, which mutations change. */
interface Parts {
  /** Encoded, by the names in the path. */
  segments: Record<string, string>;
  /** `name=value`, encoded. */
  query: string[];
  headers: Record<string, string>;
  /** Undefined: none. */
  body: unknown;
  /** Takes part in place of the body's JSON. */
  text: string | Buffer | null;
}
type Mutation = (parts: Parts) => Parts;

/** Each starts a process and copies the database. */
const rare = new Set(["backup"]);

/** Requests to all routes, each as likely as the others, but for what takes long. */
export function drawnRequests(document: ApiDocument): fc.Arbitrary<DrawnRequest> {
  return fc.oneof(
    ...document.routes.map((route) => ({
      arbitrary: requestsTo(route, document),
      weight: rare.has(route.operation.operationId) ? 1 : 20,
    })),
  );
}

function requestsTo(route: Route, { spec }: ApiDocument): fc.Arbitrary<DrawnRequest> {
  const { path, method, operation } = route;
  const { parameters = [], requestBody } = operation;
  const components = spec.components.schemas;
  const of = (parameter: Parameter) => likely(route, parameter, valuesOf(parameter.schema, components));
  const placed = (place: string) => {
    const here = parameters.filter((parameter) => parameter.in === place);
    return fc.record(Object.fromEntries(here.map((parameter) => [parameter.name, of(parameter)])), {
      requiredKeys: here.filter(({ required }) => required).map(({ name }) => name),
      noNullPrototype: true,
    });
  };
  const body = requestBody && valuesOf(requestBody.content["application/json"]!.schema!, components);
  const valid: fc.Arbitrary<Parts> = fc
    .record({
      path: placed("path"),
      query: placed("query"),
      headers: placed("header"),
      body: body?.chain(withLikelyMembers) ?? fc.constant(undefined),
    })
    .map((drawn) => ({
      segments: mapValues(drawn.path, segment),
      query: Object.entries(drawn.query).map(([name, value]) => pair(name, String(value))),
      headers: mapValues(drawn.headers, String),
      body: drawn.body,
      text: null,
    }));
  const mutations = fc.array(mutationsOf(route), { minLength: 1, maxLength: 3 });
  return fc
    .record({ valid, mutations: fc.option(mutations, { freq: 2 }), pick: fc.nat(), requestId: requestIds })
    .map(({ valid, mutations, pick, requestId }) => {
      const parts = (mutations ?? []).reduce((parts, mutate) => mutate(parts), valid);
      const query = parts.query.length === 0 ? "" : `?${parts.query.join("&")}`;
      return {
        operation,
        method: method.toUpperCase(),
        path: path.replace(/\{(\w+)\}/g, (_, name) => parts.segments[name] ?? "") + query,
        headers: {
          ...(parts.body !== undefined && { "content-type": "application/json" }),
          ...(requestId !== null && { "x-request-id": requestId }),
          ...parts.headers,
        },
        body: parts.body === undefined ? null : (parts.text ?? JSON.stringify(parts.body)),
        valid: mutations === null,
        pick,
      };
    });
}

const requestIds = fc.option(fc.constantFrom("an-id:1.2", `${marker} is no id`, "x".repeat(129)), {
  freq: 10,
});

const users = fc.constantFrom("ada", "ben");
const someId = "01980000-0000-7000-8000-000000007e57";

/** Values that reach further than those of the schema alone: what exists, and what other requests use too. */
function likely(
  { path }: Route,
  { name, in: place }: Parameter,
  drawn: fc.Arbitrary<unknown>,
): fc.Arbitrary<unknown> {
  const isTurn = path.startsWith("/v1/turns");
  const isDocument = path.startsWith("/v1/documents");
  const isUser = path.startsWith("/v1/users");
  const isKey = path.startsWith("/v1/keys");
  const known = isTurn
    ? "known-turn"
    : isDocument
      ? "known-document"
      : isUser
        ? "known-memory"
        : isKey
          ? "known-key"
          : "known-conversation";
  const or = (arbitrary: fc.Arbitrary<unknown>, weight = 4) =>
    fc.oneof({ weight, arbitrary }, { weight: 1, arbitrary: drawn });
  // Who is erased takes along what other requests mean to name.
  if (path === "/v1/users/{user_id}") return or(fc.constant("cleo"), 20);
  // Nor may what others ask for be refused because of a budget.
  if (path.startsWith("/v1/budgets/")) return name === "scope" ? drawn : or(fc.constant("cleo"), 20);
  if (isUser && name === "user_id") return or(users);
  if (place === "path")
    return or(
      fc.oneof(
        { weight: 5, arbitrary: fc.constant(known) },
        fc.constantFrom(`turn_${someId}`, `conv_${someId}`, `doc_${someId}`, `mem_${someId}`),
      ),
    );
  if (name === "user_id") return or(users);
  if (name === "conversation_id") return or(fc.constant("known-conversation"), 1);
  if (name.toLowerCase().replace("_", "-") === "idempotency-key")
    return or(
      fc.noBias(fc.nat(300)).map((number) => `key-${number}`),
      1,
    );
  // An event id of another turn is a fault of a turn's stream.
  if (name === "Last-Event-ID") {
    const own = fc.constantFrom("0", "3", "999999", "end").map((place) => `known-turn:${place}`);
    return isTurn ? own : or(own);
  }
  if (path === "/v1/usage" && (name === "from" || name === "to"))
    return fc.constantFrom("0", "1785000000", "2024-02-29", "2026-12-31");
  if (path === "/v1/usage" && name === "after")
    return fc
      .constantFrom('["user",1]', '["day",20000]')
      .map((cursor) => Buffer.from(cursor).toString("base64url"));
  if (path === "/v1/budgets" && name === "after")
    return fc.constant(Buffer.from('["key","k"]').toString("base64url"));
  if (name === "after" && isUser) return fc.constant("known-next-memory");
  if (name === "after" && isKey) return fc.constant("known-next-key");
  if (name === "after" && isDocument) return fc.constant("known-next-document");
  if (name === "after") return isTurn ? fc.constantFrom("0", "3", "999", "end") : fc.constant("known-after");
  if (name === "before") return fc.constant("known-before");
  return drawn;
}

/** Members of a body that reach further than those of the schema alone. */
function withLikelyMembers(body: unknown): fc.Arbitrary<unknown> {
  const members = body as Record<string, unknown>;
  return fc.record({ user: fc.option(users, { freq: 4 }), goesOn: fc.boolean() }).map(({ user, goesOn }) => ({
    ...members,
    ...("user_id" in members && user !== null && { user_id: user }),
    // No schema says which of them there are.
    ...("language" in members && { language: goesOn ? "de-CH" : null }),
    ...("timezone" in members && { timezone: goesOn ? "Europe/Zurich" : null }),
    // A document that may be there already, in another version.
    ...("text" in members &&
      "name" in members &&
      goesOn && { name: "0.md", collection: null, user_id: null, media_type: null }),
    ...("conversation_id" in members && { conversation_id: goesOn ? "known-conversation" : null }),
  }));
}

function mutationsOf({ path, operation: { parameters = [], requestBody } }: Route): fc.Arbitrary<Mutation> {
  const names = parameters.filter((parameter) => parameter.in === "query").map(({ name }) => name);
  return fc.oneof(
    ...(requestBody
      ? [
          { weight: 10, arbitrary: ofBodies },
          { weight: 4, arbitrary: ofTexts },
          { weight: 1, arbitrary: ofTypes },
        ]
      : []),
    ...(path.includes("{") ? [{ weight: 3, arbitrary: ofSegments }] : []),
    { weight: names.length > 0 ? 6 : 1, arbitrary: ofQueries(names) },
    { weight: 2, arbitrary: ofHeaders },
  );
}

type Change = "replace" | "remove" | "add" | "stringify" | "wrap";

/** Changes one place of the body, anywhere in it. */
const ofBodies: fc.Arbitrary<Mutation> = fc
  .record({
    place: fc.nat(100),
    change: fc.constantFrom<Change>("replace", "remove", "add", "stringify", "wrap"),
    name: fc.oneof(
      fc.constantFrom("__proto__", "constructor", "title", "user_id", `${marker} name`),
      fc.string(),
    ),
    value: junk,
  })
  .map(({ place, change, name, value }) => (parts) => {
    const root = { body: structuredClone(parts.body) };
    const places = placesIn(root);
    const { holder, key } = places[place % places.length]!;
    const old = holder[key];
    if (change === "replace") holder[key] = value;
    if (change === "stringify") holder[key] = isHolder(old) ? JSON.stringify(old) : String(old);
    if (change === "wrap") holder[key] = [old];
    if (change === "remove" && holder !== root) delete holder[key];
    if (change === "add" && isHolder(old))
      // Assigning to __proto__ would set no property.
      Object.defineProperty(old, name, { value, enumerable: true, configurable: true, writable: true });
    return { ...parts, body: root.body ?? null };
  });

type Holder = Record<string, unknown>;
const isHolder = (value: unknown): value is Holder => typeof value === "object" && value !== null;

/** Every value and where it stands, the body itself first. */
function placesIn(holder: Holder): { holder: Holder; key: string }[] {
  return Object.keys(holder).flatMap((key) => {
    const value = holder[key];
    return [{ holder, key }, ...(isHolder(value) ? placesIn(value) : [])];
  });
}

/** Spoils the text of a body. */
const ofTexts: fc.Arbitrary<Mutation> = fc
  .record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    piece: fc.oneof(
      fc.constantFrom('"', ",", "}", "\\ud800", "\0", "1e400", "\ufeff", '"user_id":"x",', "'", "//"),
      fc.constantFrom(Buffer.from([0xff]), Buffer.from([0xc0, 0x80]), Buffer.from([0xed, 0xa0, 0x80])),
      fc.constantFrom(100, 5000).map((depth) => "[".repeat(depth)),
      fc.constant("cut" as const),
      fc.constant("empty" as const),
    ),
    fills: fc.nat(60).map((number) => number === 0),
  })
  .map(({ at, piece, fills }) => (parts) => {
    const text = Buffer.from(parts.text ?? JSON.stringify(parts.body));
    if (piece === "empty") return { ...parts, text: "" };
    const [before, after] = [text.subarray(0, at * text.length), text.subarray(at * text.length)];
    if (piece === "cut") return { ...parts, text: before };
    // One in some is over the limit of 1 MiB.
    const space = fills ? " ".repeat(1024 * 1024) : "";
    return {
      ...parts,
      text: Buffer.concat([before, Buffer.from(piece as string), Buffer.from(space), after]),
    };
  });

const ofTypes: fc.Arbitrary<Mutation> = fc
  .constantFrom(
    "text/plain",
    "application/json; charset=utf-8",
    "application/jsonp",
    "multipart/form-data",
    "",
  )
  .map((type) => (parts) => ({ ...parts, headers: { ...parts.headers, "content-type": type } }));

const oddEncodings = ["%", "%zz", "%f", "%ff", "%00", "%ed%a0%80", "%u0041", "%2e%2e%2f", "+", "a%26b", ";"];

const ofSegments: fc.Arbitrary<Mutation> = fc
  .oneof(
    fc.constantFrom(...oddEncodings.map((odd) => `x${odd}`), `turn_${"0".repeat(36)}`, `conv_${someId}x`),
    fc.string({ minLength: 1 }).map((text) => segment(marker + text)),
    fc.constantFrom(300, 10_000).map((length) => "i".repeat(length)),
  )
  .map((id) => (parts) => ({ ...parts, segments: mapValues(parts.segments, () => id) }));

const ofQueries = (names: string[]): fc.Arbitrary<Mutation> => {
  const anyName = fc.oneof(
    ...(names.length > 0 ? [fc.constantFrom(...names)] : []),
    fc.constantFrom(
      "x",
      "__proto__",
      "constructor",
      "limit[]",
      "user_id",
      "",
      "%ff",
      encodeURIComponent(marker),
    ),
  );
  const anyValue = fc.oneof(
    fc.constantFrom(...oddEncodings, "", "0x10", "1e1", "-1", "%20", "99999999999999999999", "null", "true"),
    fc.string({ unit: "binary" }).map(encodeURIComponent),
    fc.constantFrom(300, 40_000).map((length) => "q".repeat(length)),
    fc.constant(encodeURIComponent(marker)),
  );
  return fc
    .record({ name: anyName, value: anyValue, at: fc.nat(3), drops: fc.nat(3).map((drops) => drops === 0) })
    .map(({ name, value, at, drops }) => (parts) => ({
      ...parts,
      query: parts.query.toSpliced(at, drops ? 1 : 0, `${name}=${value}`),
    }));
};

const ofHeaders: fc.Arbitrary<Mutation> = fc
  .constantFrom<[string, string][]>(
    ["idempotency-key", "x".repeat(256)],
    ["idempotency-key", `${marker} with spaces`],
    ["idempotency-key", "\xe9"],
    ["idempotency-key", ""],
    ["last-event-id", `${marker}:1`],
    ["last-event-id", `turn_${someId}:12345678901234567890`],
    ["last-event-id", `turn_${someId}:0`],
    ["last-event-id", "known-conversation:0"],
    ["origin", `https://${marker}.example`],
    ["sec-fetch-site", "cross-site"],
    ["accept", "application/xml"],
    ["accept-encoding", "br;q=1, *;q=0"],
    ["range", "bytes=0-10"],
    ["if-none-match", "*"],
    ["authorization", `Bearer ${marker}`],
    ["cookie", `session=${marker}`],
  )
  .map(([name, value]) => (parts) => ({ ...parts, headers: { ...parts.headers, [name]: value } }));

/** One segment of a path; the two that mean folders are none. */
const segment = (value: unknown): string => encodeURIComponent(String(value)).replace(/^\.{0,2}$/, "dots");
const pair = (name: string, value: string): string =>
  `${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
const mapValues = <From, To>(record: Record<string, From>, map: (value: From) => To): Record<string, To> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]));
