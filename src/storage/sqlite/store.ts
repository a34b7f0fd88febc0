/** The SQLite adapter of the storage port: writes through one worker, long reads through another, the rest here. */
import type { Database } from "bun:sqlite";
import { keyOf } from "../quantize.ts";
import type { Store } from "../store.ts";
import { StorageUnusableError } from "../unusable.ts";
import { clearUnfinishedBackup } from "./backup.ts";
import { createBudgetReads } from "./budget-reads.ts";
import { databaseFile, openForReading, openForWriting } from "./database.ts";
import { createDocumentReads } from "./document-reads.ts";
import { createErasure } from "./erasure.ts";
import { createKeyReads } from "./key-reads.ts";
import { lockDataDir } from "./lock.ts";
import { createMemoryReads } from "./memory-reads.ts";
import { packedQuery, packedQuestion, packedVector } from "./packed.ts";
import type { LongReads } from "./reader.ts";
import { createReads } from "./reads.ts";
import { clearUnfinishedRestore } from "./restore.ts";
import { TurnSlots } from "./turn-slots.ts";
import type { Upgrade } from "./upgrade.ts";
import { Uploads } from "./uploads.ts";
import { vectorExtension } from "./vector-extension.ts";
import { isStorageFault, type Opening, readHere } from "./worker.ts";
import { WorkerClient } from "./worker-client.ts";
import type { WriterOperations } from "./writer.ts";

/** So few that a turn's start, which waits for the batch before it, doesn't wait long. */
const checkpointsPerCall = 128;
/** Under load a turn waits at most so long for its commit to be shared. */
const commitEveryMs = 10;
const readQueueMax = 1_000;

/** In the binary, entry points lie as they do under `src/`, where `main.ts` is; nothing of the disk is looked at. */
const workerUrl = (name: string): string =>
  Bun.isStandaloneExecutable ? `./storage/sqlite/${name}` : new URL(name, import.meta.url).href;

export interface SqliteStoreOptions {
  /** More are refused as overloaded. What ends a turn isn't: the turns that may run bound it. */
  writesWaitingMax?: number;
  /** Whether texts have vectors: where not, the methods about them are not to be called. */
  vectors?: boolean;
  /** Hears of it where an older database was brought to the newest version. */
  onUpgrade?: (upgrade: Upgrade) => void;
}

/**
 * Opens the store of a data directory and holds its lock until `close`.
 * @throws StorageUnusableError, of which DataDirInUseError where another process holds the directory
 */
export async function openSqliteStore(
  dataDir: string,
  { writesWaitingMax = 10_000, vectors = false, onUpgrade }: SqliteStoreOptions = {},
): Promise<Store> {
  const unlock = await opening(dataDir, () => lockDataDir(dataDir));
  let worker: Opening;
  try {
    // Here first: what is wrong with the database is told in its own words, which no worker can throw.
    await opening(dataDir, () => openForWriting(dataDir, onUpgrade).close());
    clearUnfinishedBackup(dataDir);
    clearUnfinishedRestore(dataDir);
    worker = { dataDir, vectorExtension: vectors ? await vectorExtension(dataDir) : null };
  } catch (error) {
    unlock();
    throw error;
  }
  const writer = new WorkerClient<WriterOperations>(
    workerUrl("writer.ts"),
    worker,
    writesWaitingMax,
    commitEveryMs,
  );
  let reader: WorkerClient<LongReads>;
  let recaller: WorkerClient<LongReads>;
  let db: Database;
  try {
    await writer.ready;
    reader = new WorkerClient<LongReads>(workerUrl("reader.ts"), worker, readQueueMax, 0);
    // Of its own, because a turn waits for it: searches and exports of others take longer.
    recaller = new WorkerClient<LongReads>(workerUrl("reader.ts"), worker, readQueueMax, 0);
    await Promise.all([reader.ready, recaller.ready]);
    db = openForReading(dataDir);
  } catch (error) {
    await writer.close();
    unlock();
    throw error;
  }
  const reads = createReads(db);
  const memory = createMemoryReads(db);
  const documents = createDocumentReads(db);
  const keys = createKeyReads(db);
  const budgets = createBudgetReads(db);
  const uploads = new Uploads(dataDir);
  await uploads.keepOnly(documents.revisionsToProcess().map(({ revision_id }) => revision_id));
  async function clearWaste(): Promise<boolean> {
    const { gone, more } = await writer.callLater("clearWaste");
    if (gone !== null) await uploads.drop(gone);
    return more;
  }

  // Every turn asks for these, and all that changes them goes through here: another process writes only while this one
  // doesn't hold the lock.
  const hasPassages = remembered((workspaceId) => documents.hasPassages(workspaceId));
  const hasBudgets = remembered((workspaceId) => budgets.hasBudgets(workspaceId));

  const slots = new TurnSlots();
  const erasure = createErasure(db, writer, { path: databaseFile(dataDir), clearWaste });

  return {
    async startTurn(scope, start) {
      const held = slots.hold(start);
      try {
        const started = await writer.call("startTurn", scope, start);
        if (started.replayed) slots.release(start.turn_id);
        return { ...started, slots: started.replayed ? [] : held };
      } catch (error) {
        slots.release(start.turn_id);
        throw error;
      }
    },
    async checkpointReplies(checkpoints) {
      const calls: Promise<void>[] = [];
      for (let start = 0; start < checkpoints.length; start += checkpointsPerCall) {
        calls.push(
          writer.callLater("checkpointReplies", checkpoints.slice(start, start + checkpointsPerCall)),
        );
      }
      await Promise.all(calls);
    },
    // The lock on the directory stands for leases: who holds it is alone, and those before it are dead.
    async renewLeases(instanceId, seconds) {
      await writer.call("renewLeases", instanceId, Math.floor(Date.now() / 1000) + seconds);
      return { lapsed: false, to_stop: [] };
    },
    dropLeases: async () => {},
    async endTurn(turnId, instanceId, end, nowMs) {
      const ended = await writer.callAnyway("endTurn", turnId, instanceId, end, nowMs);
      // One that isn't there any more has ended too.
      slots.release(turnId);
      return ended;
    },
    orphans: (instanceId) => readHere(() => reads.orphans(instanceId)),
    endOrphan: (turnId, instanceId, end, nowMs) =>
      writer.callAnyway("endTurn", turnId, instanceId, end, nowMs),
    turn: (scope, id) => readHere(() => reads.turn(scope, id)),
    receipt: (scope, turnId) => readHere(() => reads.receipt(scope, turnId)),

    createConversation: (scope, conversation) => writer.call("createConversation", scope, conversation),
    conversation: (scope, id) => readHere(() => reads.conversation(scope, id)),
    conversations: (scope, query) =>
      query.q === null
        ? readHere(() => reads.conversations(scope, query))
        : reader.call("search", scope, query),
    updateConversation: (scope, id, patch, nowMs) =>
      writer.call("updateConversation", scope, id, patch, nowMs),
    deleteConversation: erasure.deleteConversation,
    deleteInactiveConversations: erasure.deleteInactiveConversations,
    messages: (scope, conversationId, limit, beforeSeq) =>
      readHere(() => reads.messages(scope, conversationId, limit, beforeSeq)),
    messagesAfter: (scope, conversationId, afterSeq, limit) =>
      reader.call("messagesAfter", scope, conversationId, afterSeq, limit),

    profile: (user) => readHere(() => memory.profile(user)),
    updateProfile: (user, patch, nowMs) => writer.call("updateProfile", user, patch, nowMs),
    heldMemories: (user) => readHere(() => memory.heldMemories(user)),
    memories: (user, query) => readHere(() => memory.memories(user, query)),
    memory: (user, id) => readHere(() => memory.memory(user, id)),
    saveMemories: (user, memories, turnId, memoriesMax, nowMs) =>
      writer.call("saveMemories", user, memories, turnId, memoriesMax, nowMs),
    updateMemory: (user, id, patch, nowMs) => writer.call("updateMemory", user, id, patch, nowMs),
    deleteMemory: (user, id) => writer.call("deleteMemory", user, id),
    // All others are dead: this one holds the lock.
    turnsToRemember: (_instanceId, limit) => readHere(() => memory.turnsToRemember(limit)),
    recall: (query) => recaller.call("recall", packedQuery(query)),
    promptSources: (query) =>
      readHere(() => ({
        ...memory.promptSources(query),
        has_passages: hasPassages.of(query.workspace_id),
      })),
    conversationContext: (user, conversationId, beforeSeq, tokensMax) =>
      readHere(() => memory.conversationContext(user, conversationId, beforeSeq, tokensMax)),
    replaceSummary: (user, conversationId, from, summary) =>
      writer.call("replaceSummary", user, conversationId, from, summary),
    keptConversations: (user, limit, after) => readHere(() => memory.keptConversations(user, limit, after)),
    cutOffUser: (user) => writer.call("cutOffUser", user).finally(hasBudgets.forget),
    eraseUser: (user) => erasure.eraseUser(user).finally(hasPassages.forget),
    resumeErasures: erasure.resumeErasures,

    async beginRevision(workspaceId, revision, upload) {
      await uploads.keep(revision.revision_id, upload);
      const begun = await writer
        .call("beginRevision", workspaceId, revision)
        .catch((error) => uploads.drop(revision.revision_id).then(() => Promise.reject(error)));
      if (begun.unchanged) await uploads.drop(revision.revision_id);
      return begun;
    },
    revisionsToProcess: () => readHere(() => documents.revisionsToProcess()),
    upload: (revisionId) => uploads.read(revisionId),
    async beginAttempt(revisionId) {
      const attempt = await writer.callLater("beginAttempt", revisionId);
      while (attempt !== null && (await writer.callLater("resetRevision", attempt)));
      return attempt;
    },
    addToRevision: (attempt, parts, passages, progress) =>
      writer.callLater("addToRevision", attempt, parts, passages, progress),
    async finishRevision(attempt, mediaType, length, nowMs) {
      const document = await writer
        .call("finishRevision", attempt, mediaType, length, nowMs)
        .finally(hasPassages.forget);
      // Where it was gone, or another attempt is under way, so is the upload, or still to be read.
      if (document !== null) await uploads.drop(attempt.revision_id);
      return document;
    },
    async failRevision(attempt, error, keep, nowMs) {
      if (await writer.call("failRevision", attempt, error, keep, nowMs))
        await uploads.drop(attempt.revision_id);
    },
    clearWaste,
    document: (scope, id) => readHere(() => documents.document(scope, id)),
    documents: (scope, query) => readHere(() => documents.documents(scope, query)),
    documentText: (scope, id, from) => readHere(() => documents.documentText(scope, id, from)),
    deleteDocument: (scope, id) => writer.call("deleteDocument", scope, id).finally(hasPassages.forget),
    searchPassages: (query) => recaller.call("searchPassages", packedQuery(query)),

    newTexts: (limit) => writer.callLater("newTexts", limit),
    textsWithoutVector: (space, from, limit) => reader.call("textsWithoutVector", keyOf(space), from, limit),
    saveVectors: (space, vectors) =>
      writer.callLater("saveVectors", keyOf(space), vectors.map(packedVector(space))),
    nearMemories: (user, question) => recaller.call("nearMemories", user, packedQuestion(question)),

    createKey: (key) => writer.call("createKey", key),
    keyOfHash: (secretHash) => readHere(() => keys.keyOfHash(secretHash)),
    keys: (workspaceId, query) => readHere(() => keys.keys(workspaceId, query)),
    revokeKey: (workspaceId, id, nowMs) => writer.call("revokeKey", workspaceId, id, nowMs),
    keysRevokedSince: (at) => readHere(() => keys.keysRevokedSince(at)),
    noteKeyUses: (uses) => writer.callLater("noteKeyUses", uses),
    hasKeys: () => readHere(() => keys.hasKeys()),
    hasWorkspace: (id) => readHere(() => keys.hasWorkspace(id)),
    usage: (scope, query) => reader.call("usage", scope, query),
    recordBackgroundUsage: (usage) =>
      writer.callLater("recordBackgroundUsage", usage, Math.floor(Date.now() / 1000)),

    hasBudgets: (workspaceId) => readHere(() => hasBudgets.of(workspaceId)),
    budgets: (workspaceId, limit, after) => readHere(() => budgets.budgets(workspaceId, limit, after)),
    budget: (subject) => readHere(() => budgets.budget(subject)),
    setBudget: (subject, limits, nowMs) =>
      writer.call("setBudget", subject, limits, nowMs).finally(hasBudgets.forget),
    deleteBudget: (subject) => writer.call("deleteBudget", subject).finally(hasBudgets.forget),
    budgetState: (subject, defaults, nowMs) => readHere(() => budgets.budgetState(subject, defaults, nowMs)),
    async deleteOldBudgetCounters(nowMs) {
      let after: string | null = "";
      while (after !== null) after = await writer.callLater("deleteOldBudgetCounters", nowMs, after);
    },

    resourceOf: (idempotency) => readHere(() => reads.resourceOf(idempotency)),
    deleteIdempotencyKeys: (before) => writer.call("deleteIdempotencyKeys", before),
    ticketSecret: () => readHere(() => reads.setting("ticket_secret")),
    claim: async () => true,
    release: async () => {},
    waiting: () => ({ writer: writer.waiting, reader: reader.waiting, recaller: recaller.waiting }),
    check: () => writer.call("check", Date.now()),
    async close() {
      await writer.close();
      await Promise.all([reader.close(), recaller.close()]);
      db.close();
      unlock();
    },
  };
}

/** Answers that hold until what they are about is written to. There are as many as workspaces. */
function remembered(read: (workspaceId: string) => boolean) {
  const known = new Map<string, boolean>();
  return {
    of(workspaceId: string): boolean {
      let answer = known.get(workspaceId);
      if (answer === undefined) {
        answer = read(workspaceId);
        known.set(workspaceId, answer);
      }
      return answer;
    },
    forget: (): void => known.clear(),
  };
}

/** A step of opening, with the disk's faults in words for whoever runs the service. */
async function opening<T>(dataDir: string, step: () => T): Promise<T> {
  try {
    return step();
  } catch (cause) {
    if (!isStorageFault(cause)) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StorageUnusableError(`the database in ${dataDir} can't be opened: ${why}`, { cause });
  }
}
