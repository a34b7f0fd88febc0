/** JSON Schemas as fast-check arbitraries of the values that they take, and of values that hardly any takes. */
import fc from "fast-check";
import type { Schema } from "./openapi.ts";

/** Stands in many texts, and in no plain property name; an error must never repeat it. */
export const marker = "zq'x";

const oddTexts = [
  ...[
    "__proto__",
    "constructor",
    "toString",
    "valueOf",
    "toJSON",
    "then",
    "length",
    "null",
    "undefined",
    "NaN",
    "0",
    "-1",
    "1e3",
    "true",
    "{}",
    "[]",
  ],
  ...["' or '1'='1", '"', "\\", "\u2028\u2029", "\ufeff", "\r\n\r\n", "data: x\n\n", "<|endoftext|>"],
  ...[
    "👩‍🚀",
    "ﷺ",
    "\u202eltr",
    "a\u0300\u0301\u0302",
    "漢字かな",
    "%00",
    "../../etc/passwd",
    "a*",
    'x" OR "y',
  ],
];

/** Well-formed, without NUL: what the service takes as text. */
const anyText: fc.Arbitrary<string> = fc
  .oneof(
    { weight: 4, arbitrary: fc.string({ maxLength: 20 }) },
    { weight: 2, arbitrary: fc.string({ unit: "grapheme", maxLength: 20 }) },
    { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) },
    { weight: 2, arbitrary: fc.constantFrom(...oddTexts) },
    { weight: 2, arbitrary: fc.string({ maxLength: 5 }).map((text) => marker + text) },
  )
  .map((text) => text.replaceAll("\0", "\ufffd"));

function texts(schema: Schema): fc.Arbitrary<string> {
  const { minLength = 0, maxLength = 1000 } = schema as { minLength?: number; maxLength?: number };
  const pattern = typeof schema.pattern === "string" ? schema.pattern : null;
  // fast-check can't look ahead, and would make a pattern without anchors longer than it may be.
  if (pattern?.startsWith("^") && pattern.endsWith("$") && !pattern.includes("(?!"))
    return fc.stringMatching(new RegExp(pattern));
  const longest = fc
    .constantFrom(maxLength, maxLength - 1)
    .map((length) => "ab c".repeat(length).slice(-length));
  const fits = (text: string): boolean =>
    text.length >= minLength &&
    text.length <= maxLength &&
    (pattern === null || new RegExp(pattern, "u").test(text));
  return fc.oneof({ weight: 40, arbitrary: anyText }, { weight: 1, arbitrary: longest }).filter(fits);
}

/** The values that a schema takes. @param components what `$ref` refers to */
export function valuesOf(schema: Schema, components: Record<string, Schema>): fc.Arbitrary<unknown> {
  const of = (inner: unknown): fc.Arbitrary<unknown> => valuesOf(inner as Schema, components);
  if (schema.$ref !== undefined) return of(components[schema.$ref.split("/").at(-1)!]);
  if ("const" in schema) return fc.constant(schema.const);
  if (Array.isArray(schema.enum)) return fc.constantFrom(...(schema.enum as unknown[]));
  if (Array.isArray(schema.anyOf)) return fc.oneof(...schema.anyOf.map(of));
  if (Array.isArray(schema.type)) return fc.oneof(...schema.type.map((type) => of({ ...schema, type })));
  const { minimum, maximum } = schema as { minimum?: number; maximum?: number };
  switch (schema.type) {
    case "string":
      return texts(schema);
    case "integer":
      return fc.integer({ min: minimum ?? -1e9, max: maximum ?? 1e9 });
    case "number":
      return fc.double({ noNaN: true, min: minimum ?? -1e9, max: maximum ?? 1e9 });
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "array":
      return fc.array(of(schema.items), { maxLength: Math.min(5, Number(schema.maxItems ?? 5)) });
    case "object":
      return objects(schema, of);
    default:
      throw new Error(`no values are known for ${JSON.stringify(schema)}`);
  }
}

function objects(schema: Schema, of: (inner: unknown) => fc.Arbitrary<unknown>): fc.Arbitrary<object> {
  const [pattern, value] =
    Object.entries((schema.patternProperties ?? {}) as Record<string, Schema>)[0] ?? [];
  if (pattern !== undefined) {
    const maxKeys = Number(schema.maxProperties ?? 5);
    return fc.dictionary(texts({ pattern, maxLength: 64 }), of(value), { maxKeys, noNullPrototype: true });
  }
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Schema>);
  return fc.record(Object.fromEntries(properties.map(([name, inner]) => [name, of(inner)])), {
    requiredKeys: (schema.required ?? []) as string[],
    noNullPrototype: true,
  });
}

const nested = (depth: number, open: string, close: string): unknown =>
  JSON.parse(`${open.repeat(depth)}1${close.repeat(depth)}`);

/** Values of the wrong type, size or form. */
export const junk: fc.Arbitrary<unknown> = fc.oneof(
  anyText,
  fc.constantFrom(null, true, false, 0, -0, -1, 1.5, 1e21, 2 ** 53, "5", "1.5", "", " \n\t\u3000", [], {}),
  fc.constantFrom("\ud800", "a\udc00b", "\udfff\ud800", "a\0b", `${marker}\0`, `\udbff${marker}`),
  fc.constantFrom(33_000, 200_000).map((length) => marker.repeat(length / 4)),
  fc
    .constantFrom(`{"__proto__":{"admin":true}}`, `{"a":{"__proto__":null}}`, `{"toString":1,"valueOf":{}}`)
    .map((text) => JSON.parse(text)),
  fc
    .constantFrom(20, 31, 32, 60)
    .chain((depth) => fc.constantFrom(nested(depth, "[", "]"), nested(depth, '{"a":', "}"))),
  fc.constantFrom(70, 11_000).map((length) => Array.from({ length }, () => 1)),
  fc.dictionary(anyText, anyText, { maxKeys: 20 }),
);
