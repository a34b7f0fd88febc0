/**
 * The environment becomes one validated, frozen `Config`; every fault is reported at once.
 * Nothing else in the program reads the environment.
 */
import { resolve } from "node:path";
import {
  type ApiKey,
  defaultJwtName,
  type JwtConfig,
  list,
  parseApiKeys,
  parseOrigins,
  readJwt,
} from "./auth/settings.ts";
import { describeBudgets, hasLimits, readBudgets } from "./limits/settings.ts";
import type { DefaultBudgets } from "./storage/budget-store.ts";
import { type Prices, readPrices } from "./usage/prices.ts";

/** A model and where it is served; `baseUrl` null is OpenAI's own service. */
export interface ModelTarget {
  model: string;
  baseUrl: string | null;
  apiKey: string | null;
}

const limitDefaults = {
  turnSecondsMax: 600,
  modelConnectSeconds: 10,
  modelFirstByteSeconds: 60,
  modelIdleSeconds: 60,
  shutdownSeconds: 20,
  turnsRunningMax: 10_000,
  requestsOpenMax: 20_000,
  writesWaitingMax: 10_000,
  databaseConnectionsMax: 10,
  databaseSecondsMax: 30,
  connectionIdleSeconds: 120,
  bodyBytesMax: 1024 * 1024,
  bodySecondsMax: 30,
  documentBytesMax: 32 * 1024 * 1024,
  documentWaitSeconds: 5,
  messageCharsMax: 32_000,
  replyCharsMax: 1_000_000,
  windowTokens: 4_000,
  summaryTokens: 500,
  memoryTokens: 500,
  recallTokens: 800,
  passageTokens: 2_000,
  memoriesMax: 500,
  documentSecondsMax: 60,
  documentMemoryMibMax: 512,
  documentCharsMax: 50_000_000,
  budgetReplyTokens: 4_096,
  addressRequestsPerMinute: 0,
  unauthorizedRequestsPerMinute: 3_000,
  keyRequestsPerMinute: 0,
  userRequestsPerMinute: 0,
  addressTurnsRunningMax: 0,
  keyTurnsRunningMax: 0,
  userTurnsRunningMax: 0,
  trustedProxies: 0,
};

/** Limits, each with its unit in its name. */
export type Limits = Readonly<typeof limitDefaults>;

/** Where it isn't from 1 to a billion. */
const limitRanges: Partial<Record<keyof Limits, [minimum: number, maximum: number]>> = {
  shutdownSeconds: [0, 1e9],
  documentWaitSeconds: [0, 1e9],
  // A search may run while a turn starts.
  databaseConnectionsMax: [2, 1_000],
  // Where 0 is no limit.
  addressRequestsPerMinute: [0, 1e9],
  unauthorizedRequestsPerMinute: [0, 1e9],
  keyRequestsPerMinute: [0, 1e9],
  userRequestsPerMinute: [0, 1e9],
  addressTurnsRunningMax: [0, 1e9],
  keyTurnsRunningMax: [0, 1e9],
  userTurnsRunningMax: [0, 1e9],
  trustedProxies: [0, 100],
  // What Bun takes, and keeps to: it looks every 4 s.
  connectionIdleSeconds: [8, 255],
};

const logLevels = ["info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

export interface Config {
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  readonly databaseUrl: string | null;
  /** The model and its fallbacks, in the order they are tried; empty means the embedded model. */
  readonly models: readonly ModelTarget[];
  /** What places texts for search by vectors; null where search is by words alone. */
  readonly embedding: ModelTarget | null;
  /** Whether requests to models go through a proxy, as `fetch` does by these variables. */
  readonly throughProxy: boolean;
  readonly systemPrompt: string;
  /** False: nothing is remembered beyond a conversation's window, as if every turn asked for no memory. */
  readonly memory: boolean;
  /** The model that draws memories and writes summaries, null for the one that answers; `embedded` needs none. */
  readonly memoryModel: string | null;
  readonly apiKeys: readonly ApiKey[];
  /** Null where users have no tokens. */
  readonly jwt: JwtConfig | null;
  /** Origins whose pages may read answers, `*` for any; empty for none but the service's own. */
  readonly corsOrigins: readonly string[];
  /** Lines below it aren't written. */
  readonly logLevel: LogLevel;
  /** Whether what is said in turns is logged too. */
  readonly logContent: boolean;
  readonly pricesFile: string | null;
  readonly prices: Prices;
  readonly budgets: DefaultBudgets;
  /** Conversations are deleted so many days after their last message; null keeps them. */
  readonly retentionDays: number | null;
  readonly limits: Limits;
}

/** Thrown by `loadConfig` with all faults of the environment, each naming its variable. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  constructor(readonly faults: readonly string[]) {
    super(faults.join("\n"));
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

const defaultSystemPrompt = "You are a helpful assistant.";
const defaultModel = "gpt-5-mini";

/** The variable that sets a limit: `turnSecondsMax` is `PARLEY_TURN_SECONDS_MAX`. */
const variableOf = (limit: string): string =>
  `PARLEY_${limit.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;

const loopbackHost = /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/i;

/** Whether a host name or address, without port, is this machine's own. */
export const isLoopback = (host: string): boolean => loopbackHost.test(host);

/** Where Parley's data is, for commands that need nothing else of the configuration. */
export const dataDirOf = (env: Environment = process.env): string =>
  resolve(env.PARLEY_DATA_DIR?.trim() || "./data");

/** Reads the process's environment. @throws ConfigError with every fault */
export function loadConfig(env: Environment = process.env): Config {
  const faults: string[] = [];
  const read = (name: string): string | null => env[name]?.trim() || null;

  const integer = (name: string, fallback: number, minimum: number, maximum: number): number => {
    const text = read(name);
    if (text === null) return fallback;
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= minimum && value <= maximum) return value;
    faults.push(`${name} must be a whole number from ${minimum} to ${maximum}`);
    return fallback;
  };

  const url = (name: string, text: string | null): string | null => {
    if (text === null) return null;
    if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
    faults.push(`${name} must hold http:// or https:// addresses`);
    return null;
  };

  const limits = { ...limitDefaults };
  for (const name of Object.keys(limitDefaults) as (keyof Limits)[]) {
    limits[name] = integer(variableOf(name), limitDefaults[name], ...(limitRanges[name] ?? [1, 1e9]));
  }

  const host = read("PARLEY_HOST") ?? "127.0.0.1";
  const apiKeys = parseApiKeys(read("PARLEY_API_KEYS"), faults);

  const databaseUrl = readDatabaseUrl(read("DATABASE_URL"), faults);

  const memory = (read("PARLEY_MEMORY") ?? "on").toLowerCase();
  if (memory !== "on" && memory !== "off") faults.push("PARLEY_MEMORY must be on or off");

  const logLevel = logLevels.find((level) => level === (read("PARLEY_LOG_LEVEL") ?? "info").toLowerCase());
  if (logLevel === undefined) faults.push(`PARLEY_LOG_LEVEL must be one of ${logLevels.join(", ")}`);
  const logContent = read("PARLEY_LOG_CONTENT") ?? "0";
  if (logContent !== "0" && logContent !== "1") faults.push("PARLEY_LOG_CONTENT must be 0 or 1");

  const models = readModels(read, url, faults);
  const memoryModel = read("PARLEY_MEMORY_MODEL") ?? (models.length === 0 ? "embedded" : null);
  if (models.length === 0 && memoryModel !== "embedded") {
    faults.push("PARLEY_MEMORY_MODEL needs OPENAI_API_KEY or OPENAI_BASE_URL");
  }

  const pricesFile = read("PARLEY_PRICES_FILE");
  const prices = readPrices(pricesFile, faults);
  const budgets = readBudgets(read("PARLEY_BUDGETS"), faults);
  if (hasLimits(budgets, "nano_usd")) {
    for (const { model } of models) {
      if (prices.has(model)) continue;
      faults.push(`PARLEY_BUDGETS limits dollars, but PARLEY_PRICES_FILE has no price of ${model}`);
    }
  }
  const config: Config = {
    host,
    port: integer("PORT", 8000, 0, 65_535),
    dataDir: dataDirOf(env),
    databaseUrl,
    models,
    embedding: readEmbedding(read, url, faults),
    throughProxy: ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"].some(
      (name) => read(name) !== null,
    ),
    systemPrompt: env.PARLEY_SYSTEM_PROMPT ?? defaultSystemPrompt,
    memory: memory === "on",
    memoryModel,
    apiKeys,
    jwt: readJwt(read, faults),
    corsOrigins: parseOrigins(read("PARLEY_CORS_ORIGINS"), faults),
    logLevel: logLevel ?? "info",
    logContent: logContent === "1",
    pricesFile,
    prices,
    budgets,
    retentionDays:
      read("PARLEY_RETENTION_DAYS") === null ? null : integer("PARLEY_RETENTION_DAYS", 0, 1, 36_500),
    limits: Object.freeze(limits),
  };
  if (faults.length > 0) throw new ConfigError(faults);
  return Object.freeze(config);
}

function readModels(
  read: (name: string) => string | null,
  url: (name: string, text: string | null) => string | null,
  faults: string[],
): readonly ModelTarget[] {
  const apiKey = read("OPENAI_API_KEY");
  const baseUrl = url("OPENAI_BASE_URL", read("OPENAI_BASE_URL"));
  const model = read("PARLEY_MODEL");
  const fallbacks = list(read("PARLEY_FALLBACK_MODELS"));
  const fallbackKeys = read("PARLEY_FALLBACK_API_KEYS")?.split(",") ?? [];
  if (fallbackKeys.length > fallbacks.length) {
    faults.push("PARLEY_FALLBACK_API_KEYS has more entries than PARLEY_FALLBACK_MODELS");
  }
  if (model === "embedded" || (apiKey === null && read("OPENAI_BASE_URL") === null)) {
    if (model !== null && model !== "embedded") {
      faults.push("PARLEY_MODEL names a model, but neither OPENAI_API_KEY nor OPENAI_BASE_URL is set");
    }
    if (fallbacks.length > 0) faults.push("PARLEY_FALLBACK_MODELS needs OPENAI_API_KEY or OPENAI_BASE_URL");
    return Object.freeze([]);
  }
  const targets: ModelTarget[] = [{ model: model ?? defaultModel, baseUrl, apiKey }];
  fallbacks.forEach((entry, index) => {
    const { model, address } = splitTarget(entry);
    targets.push({
      model,
      baseUrl: address === null ? baseUrl : url("PARLEY_FALLBACK_MODELS", address),
      apiKey: fallbackKeys[index]?.trim() || (address === null ? apiKey : null),
    });
  });
  return Object.freeze(targets);
}

function readEmbedding(
  read: (name: string) => string | null,
  url: (name: string, text: string | null) => string | null,
  faults: string[],
): ModelTarget | null {
  const entry = read("PARLEY_EMBEDDING_MODEL");
  const ownKey = read("PARLEY_EMBEDDING_API_KEY");
  if (entry === null) {
    if (ownKey !== null) faults.push("PARLEY_EMBEDDING_API_KEY is set, but PARLEY_EMBEDDING_MODEL isn't");
    return null;
  }
  const { model, address } = splitTarget(entry);
  if (model === "") faults.push("PARLEY_EMBEDDING_MODEL names no model before its @address");
  if (address !== null) return { model, baseUrl: url("PARLEY_EMBEDDING_MODEL", address), apiKey: ownKey };
  const baseUrl = read("OPENAI_BASE_URL");
  const apiKey = ownKey ?? read("OPENAI_API_KEY");
  if (apiKey === null && baseUrl === null) {
    faults.push(
      "PARLEY_EMBEDDING_MODEL names a model, but neither OPENAI_API_KEY nor OPENAI_BASE_URL is set, and it has no @address",
    );
  }
  return { model, baseUrl, apiKey };
}

/** The parts of `model@base_url`. */
function splitTarget(entry: string): { model: string; address: string | null } {
  const at = entry.indexOf("@http");
  return at < 0
    ? { model: entry, address: null }
    : { model: entry.slice(0, at), address: entry.slice(at + 1) };
}

/** Null where the data is in SQLite, in the data directory. */
function readDatabaseUrl(text: string | null, faults: string[]): string | null {
  if (text === null) return null;
  if (URL.canParse(text) && /^postgres(ql)?:$/.test(new URL(text).protocol)) return text;
  faults.push("DATABASE_URL must be postgres://user:password@host:port/database, or unset for SQLite");
  return null;
}

const mask = (secret: string | null): string => (secret === null ? "(unset)" : "********");

/** The configuration as `[variable, value]` lines, with secrets masked. */
export function describeConfig(config: Config): [variable: string, value: string][] {
  const [first, ...fallbacks] = config.models;
  const lines: [string, string][] = [
    ["PARLEY_HOST", config.host],
    ["PORT", String(config.port)],
    ["PARLEY_DATA_DIR", config.dataDir],
    ["DATABASE_URL", config.databaseUrl === null ? "(unset)" : mask(config.databaseUrl)],
    ["PARLEY_MODEL", first?.model ?? "embedded"],
    ["OPENAI_BASE_URL", withoutSecrets(first?.baseUrl ?? null)],
    ["OPENAI_API_KEY", mask(first?.apiKey ?? null)],
    ["PARLEY_FALLBACK_MODELS", fallbacks.map(describeTarget).join(",") || "(unset)"],
    ["PARLEY_FALLBACK_API_KEYS", fallbacks.map(({ apiKey }) => mask(apiKey)).join(",") || "(unset)"],
    ["PARLEY_EMBEDDING_MODEL", config.embedding === null ? "(unset)" : describeTarget(config.embedding)],
    ["PARLEY_EMBEDDING_API_KEY", mask(config.embedding?.apiKey ?? null)],
    ["PARLEY_API_KEYS", config.apiKeys.map(({ role }) => `${role}:********`).join(",") || "(unset)"],
    ["PARLEY_JWT_SECRET", mask(config.jwt?.secret ?? null)],
    ["PARLEY_JWT_ISSUER", config.jwt?.issuer ?? defaultJwtName],
    ["PARLEY_JWT_AUDIENCE", config.jwt?.audience ?? defaultJwtName],
    ["PARLEY_CORS_ORIGINS", config.corsOrigins.join(",") || "(unset)"],
    ["PARLEY_SYSTEM_PROMPT", config.systemPrompt],
    ["PARLEY_MEMORY", config.memory ? "on" : "off"],
    ["PARLEY_MEMORY_MODEL", config.memoryModel ?? "(unset)"],
    ["PARLEY_LOG_LEVEL", config.logLevel],
    ["PARLEY_LOG_CONTENT", config.logContent ? "1" : "0"],
    ["PARLEY_PRICES_FILE", config.pricesFile ?? "(unset)"],
    ["PARLEY_BUDGETS", describeBudgets(config.budgets) ?? "(unset)"],
    ["PARLEY_RETENTION_DAYS", config.retentionDays === null ? "(unset)" : String(config.retentionDays)],
  ];
  for (const [name, value] of Object.entries(config.limits)) lines.push([variableOf(name), String(value)]);
  return lines;
}

/** A model and where it is served, without secrets. */
export const describeTarget = ({ model, baseUrl }: ModelTarget): string =>
  baseUrl === null ? model : `${model}@${withoutSecrets(baseUrl)}`;

/** An address without its user info and query, where some gateways keep keys. */
function withoutSecrets(address: string | null): string {
  if (address === null) return "(unset)";
  const { origin, pathname } = new URL(address);
  return origin + pathname;
}

/**
 * Lets Elysia run as in production, whatever the environment says: else it works out details of each failed validation
 * that nobody gets to see, which costs time and throws where a value has a `toString` of its own. It looks when it is
 * loaded.
 */
export function runAsInProduction(): void {
  process.env.NODE_ENV = "production";
}

const fetchLimitVariable = "BUN_CONFIG_MAX_HTTP_REQUESTS";
const fetchesByDefault = 256;
const fetchesLifted = 65_535;

/**
 * Bun's `fetch` runs 256 requests at once and queues the rest, and reads its limit only when the process starts:
 * restarts this process in place, once, with the limit raised. Pid, arguments and open files stay the same.
 */
export function liftFetchLimit(): void {
  if (process.env[fetchLimitVariable] !== undefined || process.execve === undefined) return;
  const script = Bun.isStandaloneExecutable ? [] : [...process.execArgv, process.argv[1]!];
  process.execve(process.execPath, [process.execPath, ...script, ...process.argv.slice(2)], {
    ...process.env,
    [fetchLimitVariable]: String(fetchesLifted),
  });
}

/** How many `fetch`es a service of this environment runs at once, and whether that is set by hand. */
export function fetchLimit(env: Environment = process.env): { max: number; isSet: boolean } {
  const set = env[fetchLimitVariable];
  if (set !== undefined) return { max: Number(set) || fetchesByDefault, isSet: true };
  return { max: process.execve === undefined ? fetchesByDefault : fetchesLifted, isSet: false };
}

/**
 * The key with which a program of this environment reaches its service: the first of PARLEY_API_KEYS, or null.
 * @throws ConfigError
 */
export function serviceKey(env: Environment = process.env): string | null {
  const faults: string[] = [];
  const [first] = parseApiKeys(env.PARLEY_API_KEYS ?? null, faults);
  if (faults.length > 0) throw new ConfigError(faults);
  return first?.secret ?? null;
}

/** Where a service of this environment is reached from this machine. */
export function serviceUrl(env: Environment = process.env): string {
  const host = env.PARLEY_HOST?.trim() || "127.0.0.1";
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${reachable.includes(":") ? `[${reachable}]` : reachable}:${env.PORT?.trim() || "8000"}`;
}
