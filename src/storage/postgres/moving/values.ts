/**
 * A value on its way from SQLite to PostgreSQL: how it is sent, and the one text that stands for it on both sides, so
 * that checksums of what is stored here and there compare.
 */
import { createHash } from "node:crypto";
import { toNormalForm } from "../../../normal-form.ts";
import type { MovedValue } from "../../moving.ts";
import { toJson } from "../database.ts";

/** The types of the tables' columns: what others are isn't known here. */
export const columnTypes = [
  "text",
  "int4",
  "int8",
  "float8",
  "bool",
  "json",
  "varbit",
  "timestamptz",
  "bytea",
] as const;
export type ColumnType = (typeof columnTypes)[number];

/** Text as PostgreSQL takes it. SQLite's may hold NUL, which Parley takes from nobody but older versions may have kept. */
export const storable = (type: ColumnType, value: MovedValue): MovedValue => {
  if (typeof value !== "string") return value;
  if (type !== "json") return toNormalForm(value);
  const parsed: unknown = JSON.parse(value);
  const escaped = /\\u(0000|d[89a-f])/i.test(value) ? toJson(parsed) : value;
  return toNormalForm(escaped);
};

/** A storable value as JSON, for `json_populate_recordset`. */
export function sent(type: ColumnType, value: MovedValue): string {
  if (value === null) return "null";
  if (type === "text") return JSON.stringify(value);
  if (type === "bool") return value === 0n ? "false" : "true";
  if (type === "timestamptz") return `"${new Date(Number(value) * 1000).toISOString()}"`;
  if (type === "varbit") return `"x${Buffer.from(value as Uint8Array).toString("hex")}"`;
  if (type === "bytea") return `"\\\\x${Buffer.from(value as Uint8Array).toString("hex")}"`;
  // JSON as it stands, and numbers.
  return String(value);
}

/** The text that stands for a storable value; null for null. */
export function canonical(type: ColumnType, value: MovedValue): string | null {
  if (value === null) return null;
  if (type === "bool") return value === 0n ? "0" : "1";
  if (type === "timestamptz") return String(BigInt(value as bigint) * 1_000_000n);
  if (type === "varbit") return bitsOf(value as Uint8Array);
  if (type === "bytea") return sha256(value as Uint8Array);
  if (type === "float8") {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(Number(value));
    return bytes.toString("hex");
  }
  return String(value);
}

const bitsOf = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(2).padStart(8, "0")).join("");

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** The same of what PostgreSQL has stored, in SQL. */
const canonicalSql: Record<ColumnType, (column: string) => string> = {
  text: (column) => column,
  int4: (column) => `${column}::text`,
  int8: (column) => `${column}::text`,
  float8: (column) => `encode(float8send(${column}), 'hex')`,
  bool: (column) => `${column}::int4::text`,
  json: (column) => `${column}::text`,
  varbit: (column) => `${column}::text`,
  timestamptz: (column) => `(extract(epoch from ${column}) * 1000000)::int8::text`,
  bytea: (column) => `encode(sha256(${column}), 'hex')`,
};

/** What is hashed of a row: each value after how many bytes it has, so that no two rows look alike. */
export const canonicalRow = (values: readonly (string | null)[]): string =>
  values.map((value) => (value === null ? "-" : `${Buffer.byteLength(value)}:${value}`)).join("");

export const canonicalRowSql = (columns: readonly { name: string; type: ColumnType }[]): string =>
  columns
    .map(({ name, type }) => canonicalSql[type](`"${name}"`))
    .map((text) => `coalesce(octet_length(${text})::text || ':' || ${text}, '-')`)
    .join(" || ");
