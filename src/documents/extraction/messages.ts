/**
 * What a service and the process that reads its documents say to each other: on the child's stdin a line of JSON and
 * then the document's bytes; on its stdout lines of JSON, none of them large, so that the service's thread never
 * stalls over one.
 */

import type { Limits } from "../../config.ts";
import type { ErrorCode } from "../../errors.ts";
import type { Passage } from "../passages.ts";

/** What reading one document may take: time, resident memory of the process, UTF-16 code units of text. */
export type ExtractionLimits = Pick<
  Limits,
  "documentSecondsMax" | "documentMemoryMibMax" | "documentCharsMax"
>;

export interface ExtractionRequest {
  readonly name: string;
  readonly media_type: string | null;
  /** How many bytes follow the line. */
  readonly bytes: number;
  readonly limits: ExtractionLimits;
}

/**
 * For each document: its text and its passages in pieces, in order, then that it is done; or at any time an error.
 * Then that the child is ready for another document, unless it ends itself.
 */
export type ExtractionAnswer =
  | { readonly text: string }
  | { readonly passages: readonly Passage[] }
  | { readonly done: { readonly media_type: string } }
  | { readonly error: ExtractionFailure }
  | { readonly ready: true };

export interface ExtractionFailure {
  readonly code: ErrorCode;
  readonly detail: string;
  /** For the log alone: never anything of the document. */
  readonly cause?: string;
}

/** What the child's worker gets; the bytes are transferred. */
export interface WorkerRequest extends ExtractionRequest {
  readonly content: Uint8Array;
}

/** What it hands to the child's main thread: an answer's line, and whether it is the document's last. */
export interface WorkerAnswer {
  readonly line: string;
  readonly isLast: boolean;
}
