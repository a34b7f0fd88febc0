/** The schema helpers: the only objects, records and integers that a schema.ts may use (see test/architecture.test.ts). */
import { FormatRegistry, type TProperties, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { type IdKind, idPattern } from "../ids.ts";
import type { CursorKind } from "./cursor.ts";

FormatRegistry.Set("text", (value) => value.isWellFormed() && !value.includes("\0"));

/** `text` refuses what no store takes. */
const textFault = "must not contain NUL or unpaired surrogates";

/** What is wrong with a value that hasn't its format, in public words. */
const formatFaults = new Map([["text", textFault]]);

export const formatFault = (format: string): string => formatFaults.get(format) ?? textFault;

interface Words {
  description?: string;
  examples?: unknown[];
}

/** An object that refuses properties it doesn't know, at every depth where it stands. */
export const strictObject = <T extends TProperties>(properties: T, words: Words & { title?: string } = {}) =>
  t.Object(properties, { additionalProperties: false, ...words });

/** A whole number: no numeric strings, unlike `t.Integer`. */
export const integer = (options: Words & { minimum?: number; maximum?: number } = {}) =>
  Type.Integer(options);

/** Any well-formed text without NUL. */
export const text = (options: Words & { minLength?: number; maxLength?: number; pattern?: string } = {}) =>
  t.String({ format: "text", ...options });

/**
 * Text of a form that a function knows; what a pattern can tell of it is for the document alone.
 * @param format a name for the form; each is declared once
 * @param fault what a value must be, as clients read it: "must be …"
 */
export function textOfForm(
  format: string,
  fault: string,
  hasForm: (value: string) => boolean,
  { maxLength, ...words }: Words & { maxLength: number; pattern?: string },
) {
  FormatRegistry.Set(format, hasForm);
  formatFaults.set(format, fault);
  return t.String({ format, maxLength, documented: { type: "string", maxLength, ...words } });
}

/** An id in an answer; in requests ids are `idParam`, because one of the wrong form is simply unknown. */
export const id = (kind: IdKind, words: Words = {}) => t.String({ pattern: idPattern(kind), ...words });

/** An id in a path, as a client sends it. */
export const idParam = (words: Words = {}) => t.String(words);

/** Unix seconds. */
export const time = (words: Words = {}) => Type.Integer({ minimum: 0, ...words });

export const nullable = <T extends Parameters<typeof t.Union>[0][number]>(schema: T, words: Words = {}) =>
  t.Union([schema, t.Null()], words);

/** One of some words. `t.UnionEnum` alone has a default, which Elysia puts where nothing was sent. */
export const oneOf = <const T extends [string, ...string[]]>(values: T, words: Words = {}) => {
  const { default: _, ...schema } = t.UnionEnum(values, words);
  return schema;
};

/** A whole number in a query string: digits alone, so `0x10`, `1e3`, ` 1` and the empty string are refused. */
export const queryInteger = (options: Words & { minimum: number; maximum: number; default: number }) =>
  t.Optional(
    t.String({
      format: queryIntegerFormat(options.minimum, options.maximum),
      // No part of the check: what `ops/openapi.ts` shows, because to clients it is an integer.
      documented: { type: "integer", ...options },
    }),
  );

/** Declares (once) the format of a query integer's range. */
function queryIntegerFormat(minimum: number, maximum: number): string {
  const name = `integer-from-${minimum}-to-${maximum}`;
  if (!FormatRegistry.Has(name)) {
    FormatRegistry.Set(name, (value) => /^\d{1,15}$/.test(value) && +value >= minimum && +value <= maximum);
  }
  return name;
}

/** A cursor in a query string. */
export function queryCursor(kind: CursorKind<unknown>, description: string) {
  FormatRegistry.Set(kind.name, (value) => kind.read(value) !== null);
  return t.Optional(t.String({ format: kind.name, documented: { type: "string", description } }));
}

/** At most 16 pairs, keys of 64 and string values of 512 characters. */
export const metadata = () =>
  Type.Unsafe<Record<string, string>>({
    ...t.Record(t.String({ pattern: metadataKey }), text({ maxLength: 512 })),
    additionalProperties: false,
    maxProperties: 16,
    description: "Up to 16 pairs; keys of 1 to 64 and values of up to 512 characters.",
    examples: [{ channel: "web" }],
  });

/** No key may be one that objects treat specially, or hold what `text` refuses. */
const metadataKey = "^(?!__proto__$)(?:[^\\u0000\\ud800-\\udfff]|[\\ud800-\\udbff][\\udc00-\\udfff]){1,64}$";
