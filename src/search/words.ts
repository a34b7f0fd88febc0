/** How text becomes words for full-text search: the same for what is stored and for what is asked. */

const unspacedScript =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
const segmenter = new Intl.Segmenter("und", { granularity: "word" });
const ascii = /^[\0-\x7f]*$/;

/**
 * The words of a text, lower-cased and without accents, separated by single spaces. Scripts that write no spaces
 * are cut by their dictionary (`Intl.Segmenter`); all others have their words apart already.
 */
export function cutWords(text: string): string {
  if (ascii.test(text))
    return text
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, " ")
      .trim();
  const plain = text
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]/g, "")
    .normalize("NFC")
    .toLowerCase();
  const spaced = unspacedScript.test(plain)
    ? Array.from(segmenter.segment(plain), ({ segment }) => segment).join(" ")
    : plain;
  return spaced.replace(/[^\p{L}\p{M}\p{N}]+/gu, " ").trim();
}
