/** CSV: each row becomes a line that can be read alone, `name: Ada; age: 36`. */
import { parse } from "csv-parse/sync";
import { unreadable } from "../refusals.ts";
import type { Structured } from "../structure.ts";
import { oneLine, TextBuilder } from "../text-builder.ts";

const delimiters = [",", ";", "\t", "|"];
/** What is looked at to find out the delimiter. */
const sampleChars = 64 * 1024;
const sampleLines = 50;

/**
 * Reads comma-, semicolon-, tab- or pipe-separated values. Rows may have more or fewer cells than there are names.
 * @param header whether the first row holds the names of the columns; null decides by what is in it
 * @throws document_unreadable, payload_too_large
 */
export function readCsv(text: string, header: boolean | null, charsMax: number): Structured {
  const builder = new TextBuilder(charsMax);
  let names: string[] | null = null;
  let isFirst = true;
  const onRow = (cells: string[]): null => {
    const row = cells.map(oneLine);
    if (isFirst) {
      isFirst = false;
      if (header ?? looksLikeHeader(row)) {
        names = row;
        return null;
      }
    }
    builder.line("table", rowOf(row, names));
    return null;
  };
  try {
    parse(text, {
      delimiter: delimiterOf(text),
      relax_column_count: true,
      // A quote in the middle of a field is a quote.
      relax_quotes: true,
      skip_empty_lines: true,
      on_record: onRow,
    });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "CSV_QUOTE_NOT_CLOSED") {
      throw unreadable("A quoted field of the CSV is never closed.", error.code);
    }
    throw error;
  }
  // Names without any row are the whole content.
  if (builder.isEmpty && names !== null) builder.line("table", rowOf(names, null));
  return builder.finish();
}

/** A row as a line; empty cells are left out. @param names of the columns, in order; null where there are none */
export function rowOf(cells: readonly string[], names: readonly string[] | null): string {
  return cells
    .map((cell, column) => (cell !== "" && names?.[column] ? `${names[column]}: ${cell}` : cell))
    .filter((cell) => cell !== "")
    .join("; ");
}

/** Names are all there, all different, and none is a number or a date. */
const looksLikeHeader = (row: string[]): boolean =>
  row.every((cell) => cell !== "" && !/^[\d\s.,:/+-]+%?$/.test(cell)) && new Set(row).size === row.length;

/** The delimiter that divides the first lines into the most even number of fields. */
function delimiterOf(text: string): string {
  const lines = text
    .slice(0, sampleChars)
    .replace(/"[^"]*"/g, "")
    .split("\n", sampleLines)
    .filter((line) => line.trim() !== "");
  const scores = delimiters.map((delimiter) => {
    const counts = lines.map((line) => line.split(delimiter).length - 1);
    const usual = counts[0] ?? 0;
    return usual === 0 ? 0 : counts.filter((count) => count === usual).length + usual / 1_000;
  });
  const best = Math.max(...scores);
  return best === 0 ? "," : delimiters[scores.indexOf(best)]!;
}
