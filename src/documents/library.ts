/**
 * Takes documents, has them read outside of this process, stores them piece by piece, and puts each in the place of what
 * stood under its name. One instance does that for each; what one that died has left, or has no time for, another takes up.
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Claims } from "../claims.ts";
import { AppError } from "../errors.ts";
import { newId } from "../ids.ts";
import type { Log } from "../log.ts";
import { Slots } from "../slots.ts";
import type {
  DocumentRecord,
  DocumentScope,
  DocumentStore,
  NewPassage,
  RevisionAttempt,
  RevisionToProcess,
  TextPart,
} from "../storage/document-store.ts";
import type { Metadata } from "../storage/store.ts";
import type { Extractor, ReadDocument } from "./extractor.ts";

/** What one commit takes: large enough to be fast, small enough not to hold up a turn's. */
const passagesPerCall = 96;
const partChars = 32 * 1024;
const partsPerCall = 8;
/** Commits that are on their way for one document: the next is ready when one is done. */
const stepsUnderWay = 3;
/** Documents that nobody waits for and that are processed at once; the others' uploads wait on the disk. */
const backgroundMax = 2;
/** Between tries while the storage can't be written. */
const retryMs = 2_000;
/** How often an instance looks for documents that wait in the store alone. */
const lookMs = 10_000;

export interface NewDocument {
  name: string;
  bytes: Uint8Array;
  media_type: string | null;
  collection: string;
  /** Whose it is alone; null for the whole workspace. */
  owner: string | null;
  metadata: Metadata;
}

export interface AddedDocument {
  document: DocumentRecord;
  /** Whether it stands under a new name. */
  created: boolean;
  /** False while it is processed in the background. */
  settled: boolean;
}

export interface LibraryServices {
  readonly store: DocumentStore;
  readonly claims: Claims;
  readonly extractor: Extractor;
  readonly log: Log;
  /** A document that takes longer is processed in the background, which is told by 202. */
  readonly waitSeconds: number;
  readonly lookMs?: number;
}

/** How processing a revision went, as whoever waits for it is told; `elsewhere`: another instance does it, or did. */
type Outcome = "ready" | "superseded" | "elsewhere" | AppError;

/** Whoever waits for a revision hears of its failure; where nobody waits any more, it is kept to be read. */
interface Waiter {
  waits: boolean;
  /** It will hear of a failure, that is not kept. */
  hears: boolean;
}

export class DocumentLibrary {
  readonly #closing = new AbortController();
  readonly #running = new Map<string, Promise<Outcome>>();
  readonly #background = new Slots(backgroundMax);
  #clearing: Promise<void> | null = null;
  #looking: Timer | null = null;

  constructor(readonly services: LibraryServices) {}

  /** Documents that are processed or wait for that. */
  get waiting(): number {
    return this.#running.size;
  }

  /** Takes up what instances that died have left, now and from then on. */
  async start(): Promise<void> {
    const { lookMs: everyMs = lookMs, log } = this.services;
    await this.#takeUp();
    this.#looking = setInterval(() => {
      this.#takeUp().catch((err) => log.warn({ err }, "documents to be processed not read"));
    }, everyMs);
    void this.clearWaste();
  }

  /** Ends what is read right now; it is taken up again at the next start. */
  async close(): Promise<void> {
    this.#closing.abort(new AppError("shutting_down"));
    if (this.#looking !== null) clearInterval(this.#looking);
    await this.services.extractor.close();
    await Promise.allSettled([...this.#running.values()]);
    await this.#clearing;
  }

  /**
   * Adds a document, or a new version of the one of this name. The same content again changes nothing.
   * @throws document_unreadable, unsupported_media_type, payload_too_large, overloaded, storage_unavailable
   */
  async add(workspaceId: string, added: NewDocument): Promise<AddedDocument> {
    this.#closing.signal.throwIfAborted();
    const { store, waitSeconds } = this.services;
    const { bytes, ...described } = added;
    const media_type = added.media_type ?? "application/octet-stream";
    const revision_id = newId("revision");
    const begun = await store.beginRevision(
      workspaceId,
      {
        ...described,
        media_type,
        document_id: newId("document"),
        revision_id,
        content_hash: createHash("sha256").update(media_type).update("\0").update(bytes).digest("hex"),
        bytes: bytes.byteLength,
        now_ms: Date.now(),
      },
      bytes,
    );
    const { document, created } = begun;
    if (begun.unchanged) return { document, created: false, settled: document.status === "ready" };
    const waiter: Waiter = { waits: waitSeconds > 0, hears: false };
    const revision = { revision_id, document_id: document.id, name: added.name, media_type };
    const processing = this.#process(revision, waiter.waits ? bytes : null, waiter);
    const soon = await Promise.race([processing, sleep(waitSeconds * 1000, null)]);
    const outcome = waiter.hears ? await processing : soon;
    waiter.waits = false;
    if (outcome instanceof AppError) throw outcome;
    const scope = { workspace_id: workspaceId, user_id: null };
    const now = await store.document(scope, document.id);
    if (now === null) throw new AppError("not_found", { detail: "The document was deleted meanwhile." });
    return { document: now, created, settled: outcome === "ready" };
  }

  /** Nothing finds the document any more and its text is overwritten when this resolves; false where there is none. */
  async delete(scope: DocumentScope, id: string): Promise<boolean> {
    if (!(await this.services.store.deleteDocument(scope, id))) return false;
    await this.clearWaste();
    return true;
  }

  /** Overwrites what was replaced or deleted. */
  clearWaste(): Promise<void> {
    const previous = this.#clearing ?? Promise.resolve();
    const clearing = previous.then(async () => {
      try {
        while (await this.services.store.clearWaste());
      } catch (error) {
        this.services.log.warn({ err: error }, "replaced documents not cleared away yet");
      }
    });
    this.#clearing = clearing;
    return clearing;
  }

  async #takeUp(): Promise<void> {
    for (const revision of await this.services.store.revisionsToProcess()) {
      if (this.#closing.signal.aborted) return;
      if (!this.#running.has(revision.revision_id)) {
        void this.#process(revision, null, { waits: false, hears: false });
      }
    }
  }

  #process(revision: RevisionToProcess, bytes: Uint8Array | null, waiter: Waiter): Promise<Outcome> {
    const processing = this.#processUntilStored(revision, bytes, waiter).finally(() =>
      this.#running.delete(revision.revision_id),
    );
    this.#running.set(revision.revision_id, processing);
    return processing;
  }

  /** Tries on while the storage can't be written and nobody waits. */
  async #processUntilStored(
    revision: RevisionToProcess,
    bytes: Uint8Array | null,
    waiter: Waiter,
  ): Promise<Outcome> {
    const { log } = this.services;
    const { revision_id, document_id } = revision;
    for (;;) {
      let outcome: Outcome;
      try {
        outcome = waiter.waits
          ? await this.#claim(revision, bytes, waiter)
          : await this.#background.use(this.#closing.signal, () => this.#claim(revision, null, waiter));
      } catch (cause) {
        outcome = toAppError(cause);
      }
      if (outcome === "elsewhere") return outcome;
      if (outcome instanceof AppError) {
        if (this.#closing.signal.aborted) return outcome;
        const { code, cause } = outcome;
        log.warn({ document_id, revision_id, code, err: cause }, "document not processed");
        if (isPassing(outcome) && !waiter.waits) {
          await sleep(retryMs, undefined, { signal: this.#closing.signal }).catch(() => {});
          if (this.#closing.signal.aborted) return outcome;
          continue;
        }
      } else {
        log.info({ document_id, revision_id, outcome }, "document processed");
      }
      void this.clearWaste();
      return outcome;
    }
  }

  /** Processes a revision, if no other instance does. */
  async #claim(revision: RevisionToProcess, bytes: Uint8Array | null, waiter: Waiter): Promise<Outcome> {
    const { claims } = this.services;
    const outcome = await claims.during(`document ${revision.revision_id}`, this.#closing.signal, (signal) =>
      this.#attempt(revision, bytes, waiter, signal),
    );
    return outcome ?? "elsewhere";
  }

  /** @throws AppError where it is to be tried again */
  async #attempt(
    revision: RevisionToProcess,
    bytes: Uint8Array | null,
    waiter: Waiter,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const { store, log } = this.services;
    const attempt = await store.beginAttempt(revision.revision_id);
    if (attempt === null) return "elsewhere";
    try {
      return await this.#store(revision, attempt, bytes, signal);
    } catch (cause) {
      const error = toAppError(cause);
      if (signal.aborted || (isPassing(error) && !waiter.waits)) throw error;
      const { code, detail: message } = error;
      waiter.hears = waiter.waits;
      await store
        .failRevision(attempt, { code, message }, !waiter.hears, Date.now())
        .catch((err) => log.warn({ revision_id: revision.revision_id, err }, "failed document not ended"));
      return error;
    }
  }

  /** Reads a revision and stores what it holds, one bounded step after the other. */
  async #store(
    { revision_id, name, media_type: told }: RevisionToProcess,
    attempt: RevisionAttempt,
    given: Uint8Array | null,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const { store, extractor } = this.services;
    const bytes = given ?? (await store.upload(revision_id));
    if (bytes === null) return "superseded";
    const media_type = told === "application/octet-stream" ? null : told;
    const read = await extractor.extract({ bytes, name, media_type }, signal);
    if (!(await this.#addSteps(attempt, stepsOf(read), signal))) return "superseded";
    const finished = await store.finishRevision(attempt, read.media_type, read.text.length, Date.now());
    return finished === null ? "superseded" : "ready";
  }

  /** Stores step after step, the next ones on their way while one is committed; false once another revision is newer. */
  async #addSteps(attempt: RevisionAttempt, steps: Iterable<Step>, signal: AbortSignal): Promise<boolean> {
    const underWay: Promise<boolean>[] = [];
    try {
      for (const { parts, passages, progress } of steps) {
        signal.throwIfAborted();
        underWay.push(this.services.store.addToRevision(attempt, parts, passages, progress));
        if (underWay.length === stepsUnderWay && !(await underWay.shift())) return false;
      }
      return (await Promise.all(underWay)).every(Boolean);
    } finally {
      await Promise.allSettled(underWay);
    }
  }
}

const toAppError = (cause: unknown): AppError =>
  cause instanceof AppError ? cause : new AppError("internal", { cause });

const isPassing = ({ code }: AppError): boolean => code === "storage_unavailable" || code === "overloaded";

interface Step {
  parts: TextPart[];
  passages: NewPassage[];
  progress: number;
}

/** What is stored of a document, in steps: first its text, then its passages. */
function* stepsOf({ text, passages }: ReadDocument): Generator<Step> {
  const total = text.length / partChars / partsPerCall + passages.length / passagesPerCall || 1;
  let done = 0;
  for (let start = 0; start < text.length; ) {
    const parts: TextPart[] = [];
    while (start < text.length && parts.length < partsPerCall) {
      const end = partEnd(text, start);
      parts.push({ start, text: text.slice(start, end) });
      start = end;
    }
    yield { parts, passages: [], progress: Math.min(1, done++ / total) };
  }
  for (let at = 0; at < passages.length; at += passagesPerCall) {
    const some = passages.slice(at, at + passagesPerCall).map(
      ({ start, end, heading, tokens }, index): NewPassage => ({
        seq: at + index + 1,
        start,
        end,
        heading,
        tokens,
        text: text.slice(start, end),
      }),
    );
    yield { parts: [], passages: some, progress: Math.min(1, done++ / total) };
  }
}

/** Where a part ends: never inside of a surrogate pair, which no store takes by halves. */
function partEnd(text: string, start: number): number {
  const end = Math.min(start + partChars, text.length);
  return end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800 ? end - 1 : end;
}
