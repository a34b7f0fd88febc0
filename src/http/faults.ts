/** From TypeBox's errors to the faults that a client reads: every one, once, in plain words, without its values. */
import type { ValueError } from "@sinclair/typebox/errors";
import { ValueErrorType } from "@sinclair/typebox/errors";
import type { Fault } from "../errors.ts";
import { formatFault } from "./strict.ts";

/** So many faults of a request are listed at most. */
export const faultsMax = 64;

export const idempotencyKeyPattern = "^[\\x21-\\x7e]{1,255}$";
export const idempotencyKeyFault = "must be 1 to 255 visible ASCII characters";

/** Parsers of addresses take these for directories, percent-encoded too: no path would name such a user. */
export const userIdPattern = "^(?!\\.{1,2}$)";
const userIdFault = 'must not be "." or ".."';

/** What a pattern asks for, in plain words. */
const patternFaults = new Map([
  [idempotencyKeyPattern, idempotencyKeyFault],
  [userIdPattern, userIdFault],
  ["\\S", "must not be blank"],
]);

/** A property's name as a problem may repeat it: names that aren't plain are the client's own text. */
export const publicName = (name: string): string => (/^[\w.-]{1,64}$/.test(name) ? name : "(unnamed)");

/** Turns validation errors into faults, at most 64, one for each place and message. */
export function toFaults(part: string, errors: Iterable<ValueError>): Fault[] {
  const faults = new Map<string, Fault>();
  const missing = new Set<string>();
  for (const error of flatten(errors)) {
    if (faults.size >= faultsMax) break;
    // A missing property is reported a second time, as a value of the wrong type.
    if (error.type === ValueErrorType.ObjectRequiredProperty) missing.add(error.path);
    else if (missing.has(error.path)) continue;
    const path = [part, ...error.path.split("/").slice(1).map(unescapePointer).map(publicName)].join(".");
    const message = messageOf(error);
    faults.set(`${path} ${message}`, { path, message });
  }
  return [...faults.values()];
}

/** Where a value may be null, its faults are those of the other choice. */
function* flatten(errors: Iterable<ValueError>): Generator<ValueError> {
  for (const error of errors) {
    if (error.type !== ValueErrorType.Union) yield error;
    else for (const choice of error.errors.slice(0, 1)) yield* flatten(choice);
  }
}

const unescapePointer = (name: string): string => name.replaceAll("~1", "/").replaceAll("~0", "~");

function messageOf({ type, schema, message }: ValueError): string {
  switch (type) {
    case ValueErrorType.ObjectRequiredProperty:
      return "is required";
    case ValueErrorType.ObjectAdditionalProperties:
      return "is not a known property";
    case ValueErrorType.ObjectMaxProperties:
      return `must have at most ${schema.maxProperties} entries`;
    case ValueErrorType.StringMinLength:
      return schema.minLength === 1
        ? "must not be empty"
        : `must have at least ${schema.minLength} characters`;
    case ValueErrorType.StringMaxLength:
      return `must have at most ${schema.maxLength} characters`;
    case ValueErrorType.StringPattern:
      return patternFaults.get(schema.pattern ?? "") ?? "has a form that is not allowed";
    case ValueErrorType.StringFormat:
      return formatMessage(schema.format ?? "");
    case ValueErrorType.NumberMinimum:
    case ValueErrorType.IntegerMinimum:
      return `must be at least ${schema.minimum}`;
    case ValueErrorType.NumberMaximum:
    case ValueErrorType.IntegerMaximum:
      return `must be at most ${schema.maximum}`;
    case ValueErrorType.ArrayMaxItems:
      return `must have at most ${schema.maxItems} entries`;
    case ValueErrorType.Integer:
      return "must be a whole number";
    case ValueErrorType.Number:
      return "must be a number";
    case ValueErrorType.String:
      return "must be a string";
    case ValueErrorType.Boolean:
      return "must be true or false";
    case ValueErrorType.Kind:
      return Array.isArray(schema.enum) ? `must be one of: ${schema.enum.join(", ")}` : message;
    case ValueErrorType.Object:
      return "must be an object";
    case ValueErrorType.Array:
      return "must be a list";
    default:
      return message;
  }
}

function formatMessage(format: string): string {
  const range = /^integer-from-(\d+)-to-(\d+)$/.exec(format);
  if (format.endsWith("-cursor")) return "must be a cursor from the page before";
  return range ? `must be a whole number from ${range[1]} to ${range[2]}` : formatFault(format);
}
