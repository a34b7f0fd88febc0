/**
 * Why a document is refused, in sentences that are the same for every document: nothing of its content, and nothing
 * that a library said about it.
 */
import { AppError } from "../errors.ts";

/** @param detail a constant sentence @param cause for the log alone */
export const unreadable = (detail: string, cause?: unknown): AppError =>
  new AppError("document_unreadable", { detail, cause });

export const textTooLong = (charsMax: number): AppError =>
  new AppError("payload_too_large", { detail: `The document has more than ${charsMax} characters of text.` });

/** Kinds that aren't taken. @param what such as "Excel workbooks" */
export const notTaken = (what: string): AppError =>
  new AppError("unsupported_media_type", {
    detail: `${what} are not taken. Taken are text, Markdown, HTML, PDF, DOCX, CSV and JSON.`,
  });
