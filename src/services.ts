/** Wires the service together: the only place where adapters are chosen. */

import type { AppServices } from "./app.ts";
import { type Credentials, createAuthenticate, isOpen } from "./auth/authenticate.ts";
import { KnownKeys } from "./auth/known-keys.ts";
import { OpenViews } from "./auth/open-views.ts";
import { UserTokens } from "./auth/user-tokens.ts";
import { logTurn } from "./chat/ended-turn.ts";
import { endOrphans } from "./chat/orphans.ts";
import { SystemPrompt } from "./chat/prompt.ts";
import { RunningTurns } from "./chat/running-turns.ts";
import { Tickets } from "./chat/ticket.ts";
import { Claims, type Recurring } from "./claims.ts";
import { type Config, ConfigError, isLoopback } from "./config.ts";
import { Extractor } from "./documents/extractor.ts";
import { DocumentLibrary } from "./documents/library.ts";
import { Requests } from "./http/requests.ts";
import { BackupProcess } from "./keeping/backup-process.ts";
import { startRetention } from "./keeping/retention.ts";
import { Admission } from "./limits/admission.ts";
import { Gcra } from "./limits/gcra.ts";
import type { Log } from "./log.ts";
import { BackgroundMemory } from "./memory/background.ts";
import { drawByModel, drawByPatterns } from "./memory/drawing.ts";
import { summariseByModel } from "./memory/summary.ts";
import { embedded } from "./models/embedded.ts";
import type { Model } from "./models/model.ts";
import { type ModelObserver, observedEmbeddings } from "./models/observer.ts";
import { openAiCompatible } from "./models/openai-compatible.ts";
import { openAiEmbeddings } from "./models/openai-embeddings.ts";
import { withRetries } from "./models/retry.ts";
import { Metrics } from "./ops/metrics.ts";
import { ModelHealth } from "./ops/model-health.ts";
import { watchProcess } from "./ops/process-metrics.ts";
import { watchQueues } from "./ops/queue-metrics.ts";
import { diskBytesAvailable, Readiness } from "./ops/readiness.ts";
import { timedStore } from "./ops/timed-store.ts";
import type { Keeping } from "./storage/archive-store.ts";
import type { OpenKeys } from "./storage/key-store.ts";
import type { Moved, MoveOptions } from "./storage/moving.ts";
import { postgresKeeping } from "./storage/postgres/archive/keeping.ts";
import { inspectServer } from "./storage/postgres/inspect.ts";
import { openPostgresKeys } from "./storage/postgres/keys.ts";
import { moveToPostgres } from "./storage/postgres/moving/move.ts";
import { openPostgresRateLimits, type RateLimits } from "./storage/postgres/rate-limits.ts";
import { openPostgresRelay } from "./storage/postgres/relay.ts";
import { openPostgresStore } from "./storage/postgres/store.ts";
import type { Relay } from "./storage/relay.ts";
import { sharedStore } from "./storage/sharing.ts";
import { inspectDatabase } from "./storage/sqlite/inspect.ts";
import { sqliteKeeping } from "./storage/sqlite/keeping.ts";
import { openSqliteKeys } from "./storage/sqlite/keys.ts";
import { openMoveSource } from "./storage/sqlite/move-source.ts";
import { openSqliteStore } from "./storage/sqlite/store.ts";
import type { Store } from "./storage/store.ts";
import { enterAs } from "./usage/background-ledger.ts";
import { Questions } from "./vectors/questions.ts";
import { VectorUpkeep } from "./vectors/upkeep.ts";

/** Idempotency keys are kept at least this long. */
const idempotencyHours = 48;
/** How often an instance looks for what one that died had begun to erase. */
const erasuresEveryMs = 60 * 1000;

export interface Services extends AppServices {
  /** Ends what runs, within the configured grace, and tells the watchers. Storage stays open for them. */
  stop(): Promise<void>;
  /** Closes the storage. */
  close(): Promise<void>;
}

/**
 * Opens the storage and ends what dead processes left running there.
 * @throws StorageUnusableError, ConfigError where others could reach it and there is no key
 */
export async function createServices(config: Config, log: Log): Promise<Services> {
  const { limits, embedding } = config;
  const instanceId = `inst_${Bun.randomUUIDv7()}`;
  const metrics = new Metrics(
    config.models.length === 0 ? ["embedded"] : config.models.map(({ model }) => model),
  );
  const opened = timedStore(await openStore(config, log), (...call) => metrics.storeCalled(...call));
  const relay = await openRelay(config, instanceId, log);
  const store =
    relay === null
      ? opened
      : sharedStore(opened, relay, (err) => log.warn({ err }, "other instances not told of a change"));
  const views = new OpenViews();
  const keys = await KnownKeys.open(store, log, (revoked) => views.endDue(revoked, Date.now() / 1000));
  relay?.onChanged("keys", () => void keys.look());
  const tokens = config.jwt && new UserTokens(config.jwt);
  const credentials: Credentials = { apiKeys: config.apiKeys, keys, tokens };
  if (isOpen(credentials) && !isLoopback(config.host)) {
    await keys.close();
    await relay?.close();
    await store.close();
    throw new ConfigError([needsKey(config)]);
  }
  const modelHealth = new ModelHealth(metrics.modelObserver("chat"));
  const embeddingHealth = new ModelHealth(metrics.modelObserver("embedding"));
  const model = createModel(config, log, modelHealth);
  const claims = new Claims(store, instanceId, log);
  const memory = createMemory(config, model, { store, claims, log });
  const questions =
    embedding && new Questions(observedEmbeddings(openAiEmbeddings(embedding, limits), embeddingHealth), log);
  const requests = new Requests(log, (ended) => metrics.requestEnded(ended));
  const { prices } = config;
  // Where others share the database, it takes a while to know who is dead.
  const orphans = relay === null ? await endOrphans({ store, instanceId, prices }) : 0;
  if (orphans > 0) log.warn({ turns: orphans }, "turns of a dead process ended as interrupted");
  const turns = new RunningTurns({
    store,
    relay,
    model,
    memory,
    log,
    instanceId,
    systemPrompt: new SystemPrompt(config.systemPrompt),
    limits,
    questions,
    onTurnEnd(ended) {
      logTurn(log, ended, config.logContent);
      metrics.turnEnded(ended);
    },
    prices,
    budgets: config.budgets,
    fallbacks: config.models.slice(1).map(({ model }) => model),
  });
  memory.start();
  const forgetting = forgetOld(store, claims);
  const library = new DocumentLibrary({
    store,
    claims,
    extractor: new Extractor(limits),
    log,
    waitSeconds: limits.documentWaitSeconds,
  });
  await library.start();
  const erasures = claims.every("erasures", erasuresEveryMs, (signal) =>
    // It takes as long as there is to erase: what isn't done at the end is left for the next time.
    Promise.race([
      store.resumeErasures(),
      new Promise<void>((end) => signal.addEventListener("abort", () => end())),
    ]),
  );
  const retention =
    config.retentionDays === null ? null : startRetention({ store, claims, log }, config.retentionDays);
  const upkeep = questions && new VectorUpkeep({ store, claims, questions, log });
  const unwatchProcess = watchProcess(metrics);
  const dataDir = config.databaseUrl === null ? config.dataDir : null;
  if (dataDir !== null) {
    // A disk that has gone has no room, and takes no other figure along.
    metrics.watch("parley_disk_available_bytes", "Room for the data directory.", () =>
      diskBytesAvailable(dataDir).catch(() => 0),
    );
  }
  const rateLimits = openRateLimits(config, log);
  watchQueues(metrics, { store, turns, memory, library, requests });

  return {
    store,
    turns,
    questions,
    memory,
    library,
    backups: dataDir === null ? null : new BackupProcess(dataDir, log),
    tickets: new Tickets(await store.ticketSecret()),
    authenticate: requests.noting(createAuthenticate(credentials)),
    admission: new Admission(rateLimits.limiters, limits, () => !isOpen(credentials)),
    requests,
    tokens,
    views,
    metrics,
    limits,
    budgets: config.budgets,
    readiness: new Readiness({
      store,
      dataDir,
      background: memory,
      model: config.models.length === 0 ? null : modelHealth,
      embedding: embedding && embeddingHealth,
    }),
    log,
    isLocalOnly: () => isOpen(credentials),
    corsOrigins: config.corsOrigins,
    async stop() {
      await turns.close(limits.shutdownSeconds);
      await memory.close();
    },
    async close() {
      await forgetting.close();
      unwatchProcess();
      await erasures.close();
      await retention?.close();
      await library.close();
      await upkeep?.stop();
      await keys.close();
      await relay?.close();
      await rateLimits.close();
      await store.close();
    },
  };
}

/** Null where no other instance shares the storage. */
async function openRelay(
  { databaseUrl, limits }: Config,
  instanceId: string,
  log: Log,
): Promise<Relay | null> {
  if (databaseUrl === null) return null;
  return await openPostgresRelay(databaseUrl, instanceId, {
    statementSecondsMax: limits.databaseSecondsMax,
    onFault: (err) => log.warn({ err }, "other instances not heard"),
  });
}

/** @throws StorageUnusableError */
async function openStore({ databaseUrl, dataDir, embedding, limits }: Config, log: Log): Promise<Store> {
  const { writesWaitingMax, databaseConnectionsMax, databaseSecondsMax } = limits;
  const onUpgrade = (upgrade: { from: number; to: number }): void => {
    if (upgrade.from > 0) log.info({ event: "upgraded", ...upgrade }, "the database was upgraded");
  };
  if (databaseUrl === null) {
    return await openSqliteStore(dataDir, { writesWaitingMax, vectors: embedding !== null, onUpgrade });
  }
  return await openPostgresStore(databaseUrl, {
    writesWaitingMax,
    connectionsMax: databaseConnectionsMax,
    statementSecondsMax: databaseSecondsMax,
    onUpgrade,
  });
}

/** Not told by `loadConfig`, because keys are in the storage too. */
const needsKey = ({ host, databaseUrl }: Config): string =>
  `PARLEY_HOST is ${host}, which others can reach, and there is no key. Make one first, on the same ${databaseUrl === null ? "PARLEY_DATA_DIR" : "DATABASE_URL"}: parley keys create first --role admin`;

/** The keys of a data directory or a database, while others may be serving it. @throws StorageUnusableError */
export const openKeyStore = (dataDir: string, databaseUrl: string | null): Promise<OpenKeys> =>
  databaseUrl === null ? openSqliteKeys(dataDir) : openPostgresKeys(databaseUrl);

/** What keeps and moves the data as a whole, beside a service or without one. */
export const createKeeping = ({ dataDir, databaseUrl }: Config): Keeping =>
  databaseUrl === null ? sqliteKeeping(dataDir) : postgresKeeping(databaseUrl);

/**
 * Moves the data of a directory that nobody serves to PostgreSQL, or goes on with that.
 * @param onUpgrade hears of it where its database was of an older version
 * @throws StorageUnusableError
 */
export async function moveData(
  path: string,
  url: string,
  { onUpgrade, ...options }: MoveOptions & { onUpgrade(upgrade: { from: number; to: number }): void },
): Promise<Moved> {
  const source = openMoveSource(path, onUpgrade);
  try {
    return await moveToPostgres(source, url, options);
  } finally {
    source.close();
  }
}

/** The parts of a service by themselves, for who examines them: nothing is retried, and nothing is changed. */
export function createParts({ models, embedding, limits, throughProxy, dataDir, databaseUrl }: Config) {
  return {
    models: models.map((target) => ({ target, model: openAiCompatible(target, limits, { throughProxy }) })),
    embedding: embedding && { target: embedding, model: openAiEmbeddings(embedding, limits) },
    inspectDirectory: () => inspectDatabase(dataDir),
    /** Null where the data is in the data directory. */
    inspectServer:
      databaseUrl === null ? null : (secondsMax: number) => inspectServer(databaseUrl, secondsMax),
  };
}

function createModel({ models, limits, throughProxy }: Config, log: Log, observer: ModelObserver): Model {
  if (models.length === 0) return embedded();
  return withRetries(
    models.map((target) => openAiCompatible(target, limits, { throughProxy })),
    { log, observer },
  );
}

function createMemory(
  config: Config,
  model: Model,
  services: { store: Store; claims: Claims; log: Log },
): BackgroundMemory {
  const { limits, memory, memoryModel, prices } = config;
  const ledger = { ...services, prices };
  const ways =
    memoryModel === "embedded"
      ? { drawing: drawByPatterns, summarising: null }
      : {
          drawing: drawByModel(model, memoryModel, limits.memoryTokens, enterAs("memory", ledger)),
          summarising: summariseByModel(model, memoryModel, enterAs("summary", ledger)),
        };
  return new BackgroundMemory(memory, { ...services, limits, ...ways });
}

/** In memory an instance counts for itself; where several may share a database, they count there. */
function openRateLimits({ databaseUrl }: Config, log: Log): RateLimits {
  if (databaseUrl !== null) {
    return openPostgresRateLimits(databaseUrl, (err) =>
      log.warn({ err }, "requests not counted by the database"),
    );
  }
  const limiters = { address: new Gcra(), unauthorized: new Gcra(), key: new Gcra(), user: new Gcra() };
  return { limiters, close: async () => {} };
}

const forgetOld = (store: Store, claims: Claims): Recurring =>
  claims.every("forgetting", 3600 * 1000, async () => {
    await store.deleteIdempotencyKeys(Math.floor(Date.now() / 1000) - idempotencyHours * 3600);
    await store.deleteOldBudgetCounters(Date.now());
  });
