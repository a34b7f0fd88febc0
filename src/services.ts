/** Wires the service together: the only place where adapters are chosen. */

import type { AppServices } from "./app.ts";
import { createAuthenticate } from "./auth/principal.ts";
import { SystemPrompt } from "./chat/prompt.ts";
import { RunningTurns } from "./chat/running-turns.ts";
import { Tickets } from "./chat/ticket.ts";
import type { Config } from "./config.ts";
import { Extractor } from "./documents/extractor.ts";
import { DocumentLibrary } from "./documents/library.ts";
import { BackupProcess } from "./keeping/backup-process.ts";
import { Retention } from "./keeping/retention.ts";
import type { Log } from "./log.ts";
import { BackgroundMemory } from "./memory/background.ts";
import { drawByModel, drawByPatterns } from "./memory/drawing.ts";
import { summariseByModel } from "./memory/summary.ts";
import { embedded } from "./models/embedded.ts";
import type { Model } from "./models/model.ts";
import { openAiCompatible } from "./models/openai-compatible.ts";
import { openAiEmbeddings } from "./models/openai-embeddings.ts";
import { withRetries } from "./models/retry.ts";
import { Readiness } from "./ops/readiness.ts";
import type { Keeping } from "./storage/archive-store.ts";
import { sqliteKeeping } from "./storage/sqlite/keeping.ts";
import { openSqliteStore } from "./storage/sqlite/store.ts";
import type { Store } from "./storage/store.ts";
import { Questions } from "./vectors/questions.ts";
import { VectorUpkeep } from "./vectors/upkeep.ts";

/** Idempotency keys are kept at least this long. */
const idempotencyHours = 48;

export interface Services extends AppServices {
  /** Ends what runs, within the configured grace, and tells the watchers. Storage stays open for them. */
  stop(): Promise<void>;
  /** Closes the storage. */
  close(): Promise<void>;
}

/**
 * Opens the storage and ends what dead processes left running there.
 * @throws StorageUnusableError
 */
export async function createServices(config: Config, log: Log): Promise<Services> {
  const { limits, embedding } = config;
  const store = await openSqliteStore(config.dataDir, {
    writesWaitingMax: limits.writesWaitingMax,
    vectors: embedding !== null,
    onUpgrade(upgrade) {
      if (upgrade.from > 0) log.info({ event: "upgraded", ...upgrade }, "the database was upgraded");
    },
  });
  const model = createModel(config, log);
  const memory = createMemory(config, model, store, log);
  const questions = embedding && new Questions(openAiEmbeddings(embedding, limits), log);
  const turns = new RunningTurns({
    store,
    model,
    memory,
    log,
    instanceId: `inst_${Bun.randomUUIDv7()}`,
    systemPrompt: new SystemPrompt(config.systemPrompt),
    limits,
    questions,
  });
  const orphans = await turns.endOrphans();
  if (orphans > 0) log.warn({ turns: orphans }, "turns of a dead process ended as interrupted");
  memory.start();
  const forgetting = forgetIdempotencyKeys(store, log);
  const library = new DocumentLibrary({
    store,
    extractor: new Extractor(limits),
    log,
    waitSeconds: limits.documentWaitSeconds,
  });
  await library.start();
  store.resumeErasures().catch((err) => log.error({ err }, "unfinished erasures not resumed"));
  const retention = config.retentionDays === null ? null : new Retention(store, log, config.retentionDays);
  const upkeep = questions && new VectorUpkeep({ store, questions, log });

  return {
    store,
    turns,
    questions,
    memory,
    library,
    backups: new BackupProcess(config.dataDir, log),
    tickets: new Tickets(await store.ticketSecret()),
    authenticate: createAuthenticate(config.apiKeys),
    limits,
    readiness: new Readiness(store),
    log,
    localOnly: config.apiKeys.length === 0,
    async stop() {
      await turns.close(limits.shutdownSeconds);
      await memory.close();
    },
    async close() {
      clearInterval(forgetting);
      await retention?.close();
      await library.close();
      await upkeep?.stop();
      await store.close();
    },
  };
}

/** What keeps and moves the data as a whole, beside a service or without one. */
export const createKeeping = (config: Config): Keeping => sqliteKeeping(config.dataDir);

function createModel({ models, limits, throughProxy }: Config, log: Log): Model {
  if (models.length === 0) return embedded();
  return withRetries(
    models.map((target) => openAiCompatible(target, limits, { throughProxy })),
    { log },
  );
}

function createMemory(config: Config, model: Model, store: Store, log: Log): BackgroundMemory {
  const { limits, memory, memoryModel } = config;
  const ways =
    memoryModel === "embedded"
      ? { drawing: drawByPatterns, summarising: null }
      : {
          drawing: drawByModel(model, memoryModel, limits.memoryTokens),
          summarising: summariseByModel(model, memoryModel),
        };
  return new BackgroundMemory(memory, { store, log, limits, ...ways });
}

function forgetIdempotencyKeys(store: Store, log: Log): Timer {
  const forget = async (): Promise<void> => {
    try {
      await store.deleteIdempotencyKeys(Math.floor(Date.now() / 1000) - idempotencyHours * 3600);
    } catch (error) {
      log.error({ err: error }, "old idempotency keys not deleted");
    }
  };
  void forget();
  return setInterval(() => void forget(), 3600 * 1000);
}
