/**
 * The environment becomes one validated, frozen `Config`; every fault is reported at once.
 * Nothing else in the program reads the environment.
 */
import { resolve } from "node:path";

/** A model and where it is served; `baseUrl` null is OpenAI's own service. */
export interface ModelTarget {
  model: string;
  baseUrl: string | null;
  apiKey: string | null;
}

export interface ApiKey {
  role: "admin" | "service";
  secret: string;
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
};

/** Limits, each with its unit in its name. */
export type Limits = Readonly<typeof limitDefaults>;

/** Where it isn't from 1 to a billion. */
const limitRanges: Partial<Record<keyof Limits, [minimum: number, maximum: number]>> = {
  shutdownSeconds: [0, 1e9],
  documentWaitSeconds: [0, 1e9],
  // What Bun takes, and keeps to: it looks every 4 s.
  connectionIdleSeconds: [8, 255],
};

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
  if (apiKeys.length === 0 && !isLoopback(host)) {
    faults.push(
      `PARLEY_HOST is ${host}, which others can reach, and PARLEY_API_KEYS is empty. ` +
        'Make a key first: export PARLEY_API_KEYS="$(openssl rand -hex 32)"',
    );
  }

  const databaseUrl = read("DATABASE_URL");
  if (databaseUrl !== null) {
    faults.push(
      "DATABASE_URL is set, but this version stores in SQLite only: unset it and use PARLEY_DATA_DIR",
    );
  }

  const memory = (read("PARLEY_MEMORY") ?? "on").toLowerCase();
  if (memory !== "on" && memory !== "off") faults.push("PARLEY_MEMORY must be on or off");

  const models = readModels(read, url, faults);
  const memoryModel = read("PARLEY_MEMORY_MODEL") ?? (models.length === 0 ? "embedded" : null);
  if (models.length === 0 && memoryModel !== "embedded") {
    faults.push("PARLEY_MEMORY_MODEL needs OPENAI_API_KEY or OPENAI_BASE_URL");
  }

  const config: Config = {
    host,
    port: integer("PORT", 8000, 0, 65_535),
    dataDir: resolve(read("PARLEY_DATA_DIR") ?? "./data"),
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

const list = (text: string | null): string[] =>
  (text ?? "")
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");

function parseApiKeys(text: string | null, faults: string[]): readonly ApiKey[] {
  const keys = list(text).map((entry): ApiKey => {
    const [, role, secret] = /^(?:(admin|service):)?(.*)$/.exec(entry)!;
    return { role: role === "admin" ? "admin" : "service", secret: secret! };
  });
  if (keys.some((key) => !/^[\x21-\x7e]{16,}$/.test(key.secret))) {
    faults.push("PARLEY_API_KEYS: each key needs at least 16 visible ASCII characters");
  }
  return Object.freeze(keys);
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
    ["PARLEY_SYSTEM_PROMPT", config.systemPrompt],
    ["PARLEY_MEMORY", config.memory ? "on" : "off"],
    ["PARLEY_MEMORY_MODEL", config.memoryModel ?? "(unset)"],
    ["PARLEY_RETENTION_DAYS", config.retentionDays === null ? "(unset)" : String(config.retentionDays)],
  ];
  for (const [name, value] of Object.entries(config.limits)) lines.push([variableOf(name), String(value)]);
  return lines;
}

const describeTarget = ({ model, baseUrl }: ModelTarget): string =>
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

/**
 * Bun's `fetch` runs 256 requests at once and queues the rest, and reads its limit only when the process starts:
 * restarts this process in place, once, with the limit raised. Pid, arguments and open files stay the same.
 */
export function liftFetchLimit(): void {
  const variable = "BUN_CONFIG_MAX_HTTP_REQUESTS";
  if (process.env[variable] !== undefined || process.execve === undefined) return;
  const script = Bun.isStandaloneExecutable ? [] : [...process.execArgv, process.argv[1]!];
  process.execve(process.execPath, [process.execPath, ...script, ...process.argv.slice(2)], {
    ...process.env,
    [variable]: "65535",
  });
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
