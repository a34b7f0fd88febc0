/**
 * The text of a key of the database: `parley_`, the last 12 digits of its id, and 256 random bits in hex.
 *
 * Only its SHA-256 is kept. A password needs a slow hash because it can be guessed; 256 random bits can't, so that a
 * slow one would protect nothing and make every request dear. A key is looked up by its hash, whose bits nobody can
 * choose: how long that takes tells nothing about the keys that there are.
 */
const secretBytes = 32;
const shownDigits = 12;
const form = new RegExp(`^parley_[0-9a-f]{${shownDigits}}_[0-9a-f]{${2 * secretBytes}}$`);

/** The part of a key's text that lists show too. */
export const prefixOf = (id: string): string => `parley_${id.slice(-shownDigits)}`;

/** A new text for a key of this id. */
export const newKeyText = (id: string): string =>
  `${prefixOf(id)}_${crypto.getRandomValues(new Uint8Array(secretBytes)).toHex()}`;

/** Whether a text can be a key of the database at all. */
export const isKeyText = (text: string): boolean => form.test(text);

/** SHA-256 (FIPS 180-4) of a key's text. */
export const digestOf = (text: string): Buffer =>
  new Bun.CryptoHasher("sha256").update(text).digest() as Buffer;

/** What the storage knows of a key's text. */
export const hashOf = (text: string): string => digestOf(text).toString("hex");
