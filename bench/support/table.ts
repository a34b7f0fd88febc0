/** The one table that a run ends with. */
export interface Row {
  name: string;
  figure: string;
  /** The same measure of the peer, from the same run. */
  beside?: string;
  ratio?: number;
  /** The most that the ratio may be; a verdict is printed, and decides nothing. */
  ratioMax?: number;
  note?: string;
}

const heads = ["what", "Parley", "beside", "ratio", "limit", "verdict"];

const cells = ({ name, figure, beside, ratio, ratioMax, note }: Row): string[] => [
  name,
  figure,
  beside ?? "",
  ratio === undefined ? "" : `${ratio.toFixed(2)}×`,
  ratioMax === undefined ? "" : `${ratioMax}×`,
  verdict(ratio, ratioMax) ?? note ?? "",
];

function verdict(ratio: number | undefined, ratioMax: number | undefined): string | undefined {
  if (ratio === undefined || ratioMax === undefined) return undefined;
  return ratio <= ratioMax ? "within" : "OVER";
}

/** A table in Markdown, so that it can go into the README as it is. */
export function formatTable(rows: readonly Row[]): string {
  const lines = [heads, ...rows.map(cells)];
  const widths = heads.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const format = (line: string[]): string =>
    `| ${line.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const rule = `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`;
  return [format(heads), rule, ...lines.slice(1).map(format)].join("\n");
}

export const microseconds = (seconds: number): string =>
  `${(seconds * 1e6).toFixed(seconds < 1e-4 ? 2 : 0)} µs`;
export const milliseconds = (ms: number): string => `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;
export const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
export const kibibytes = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KiB`;
