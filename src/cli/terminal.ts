/** What may be written to a terminal of text that others wrote. */

/**
 * Text without terminal control: line feeds and tabs stay, carriage returns go, what is left of C0, DEL and C1
 * becomes a picture of itself, so that a reply can't move the cursor, set the title or fill the clipboard.
 */
export const visible = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
  text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (control) => {
    const code = control.charCodeAt(0);
    if (code === 0x0d) return "";
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? "\u2421" : "\ufffd";
  });

/** The same on one line. */
export const visibleLine = (text: string): string => visible(text).replace(/\s+/g, " ").trim();
