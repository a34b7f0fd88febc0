/** The form in which Parley keeps text, whoever wrote it. */

const unpaired = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Text in which NUL and unpaired surrogates became U+FFFD, because no store takes them all. Its length stays. */
export function toNormalForm(text: string): string {
  const paired = text.isWellFormed() ? text : text.replace(unpaired, "\ufffd");
  return paired.includes("\0") ? paired.replaceAll("\0", "\ufffd") : paired;
}
