/** Titles made from the first message. */

const titleCharsMax = 80;
const graphemes = new Intl.Segmenter("und", { granularity: "grapheme" });

/** The first line of a message, cut at a word where it is long. @returns at most 80 UTF-16 code units */
export function titleFrom(message: string): string {
  const line = (message.trim().split(/[\r\n\u2028\u2029]/, 1)[0] ?? "").replace(/\s+/g, " ").trim();
  if (line.length <= titleCharsMax) return line;
  let cut = "";
  for (const { segment } of graphemes.segment(line.slice(0, titleCharsMax + 1))) {
    if (cut.length + segment.length >= titleCharsMax) break;
    cut += segment;
  }
  const space = cut.lastIndexOf(" ");
  return `${(space > titleCharsMax / 2 ? cut.slice(0, space) : cut).trimEnd()}…`;
}
