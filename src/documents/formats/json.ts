/** JSON: leaves become lines with their paths, and lists of objects become rows, as those of a table. */
import { textTooLong, unreadable } from "../refusals.ts";
import type { Structured } from "../structure.ts";
import { oneLine, TextBuilder } from "../text-builder.ts";

const depthMax = 100;

/**
 * Reads a JSON text, or JSON lines.
 *
 *   {"site": {"name": "Parley"}, "people": [{"name": "Ada", "born": {"year": 1815}}]}
 *
 * becomes the line `site.name: Parley` and, under the heading `people`, the row `name: Ada; born.year: 1815`.
 * @throws document_unreadable, payload_too_large
 */
export function readJson(text: string, charsMax: number): Structured {
  const builder = new TextBuilder(charsMax);
  const lists = new Map<string, unknown[]>();
  const addLeaf = (path: string, leaf: string): void => builder.line("table", pair(path, leaf));
  walk(parseJson(text), "", 0, addLeaf, (path, items) => lists.set(path, items));
  for (const [path, items] of lists) {
    builder.heading(1, path);
    for (const item of items) builder.line("table", rowOf(item, charsMax));
  }
  return builder.finish();
}

/** An item of a list as a line. */
function rowOf(item: unknown, charsMax: number): string {
  const leaves: string[] = [];
  let chars = 0;
  const add = (path: string, leaf: string): void => {
    chars += path.length + leaf.length;
    if (chars > charsMax) throw textTooLong(charsMax);
    leaves.push(pair(path, leaf));
  };
  const addItems = (path: string, items: unknown[], depth: number): void => {
    for (const [index, inner] of items.entries()) walk(inner, `${path}[${index}]`, depth, add, addItems);
  };
  walk(item, "", 0, add, addItems);
  return leaves.join("; ");
}

/**
 * Goes through a value in its order.
 * @param onLeaf takes each string, number and boolean, and each list of such as one; what is empty is left out
 * @param onList takes each list of something else
 */
function walk(
  value: unknown,
  path: string,
  depth: number,
  onLeaf: (path: string, leaf: string) => void,
  onList: (path: string, items: unknown[], depth: number) => void,
): void {
  if (depth > depthMax) throw unreadable(`The JSON is nested deeper than ${depthMax} levels.`);
  if (Array.isArray(value)) {
    const items = value.filter((item) => item !== null && item !== "");
    if (items.some((item) => typeof item === "object")) onList(path, items, depth + 1);
    else if (items.length > 0) onLeaf(path, oneLine(items.join(", ")));
  } else if (value !== null && typeof value === "object") {
    for (const [key, inner] of Object.entries(value)) {
      walk(inner, path === "" ? key : `${path}.${key}`, depth + 1, onLeaf, onList);
    }
  } else if (value !== null && value !== "") {
    onLeaf(path, oneLine(String(value)));
  }
}

const pair = (path: string, leaf: string): string => (path === "" ? leaf : `${oneLine(path)}: ${leaf}`);

function parseJson(text: string): unknown {
  try {
    return parseExactly(text);
  } catch (cause) {
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    try {
      if (lines.length > 1) return lines.map(parseExactly);
    } catch {
      // Neither.
    }
    throw unreadable("The JSON is not valid.", cause instanceof Error ? cause.name : cause);
  }
}

/** Parses with numbers as they are written where a double can't hold them: quotes must be true. */
function parseExactly(text: string): unknown {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value: unknown, context?: { source?: string }) =>
    typeof value === "number" && context?.source !== undefined ? context.source : value,
  );
}
