/** Names of documents: what a client calls a file, made harmless to show and to compare. */
import { AppError } from "../errors.ts";

const nameCharsMax = 255;

/** Marks that turn the direction of what is shown, and characters that show nothing. */
const invisible = /[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g;

/**
 * The name under which a document is kept. Directories are left out, as are invisible characters and those that turn
 * the reading direction (`report\u202Efdp.exe` would be shown as `reportexe.pdf`); white space becomes single
 * spaces, and the rest is in Unicode's form NFC.
 * @param path where the name stood in the request
 * @throws invalid_request where it holds control characters or half a surrogate pair, is empty, or too long
 */
export function documentName(name: string, path = "body.name"): string {
  const fault = (message: string): AppError =>
    new AppError("invalid_request", { detail: "The request has a fault.", faults: [{ path, message }] });
  if (/\p{Cc}/u.test(name) || !name.isWellFormed()) throw fault("holds characters that no name has");
  const last = name.split(/[/\\]/).at(-1)!;
  const tidy = last.replace(invisible, "").normalize("NFC").replace(/\s+/g, " ").trim();
  if (tidy === "" || tidy === "." || tidy === "..") throw fault("is not the name of a file");
  if (tidy.length > nameCharsMax) throw fault(`must have at most ${nameCharsMax} characters`);
  return tidy;
}
