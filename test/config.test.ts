/** The environment becomes one configuration, or the list of all its faults. */
import { describe, expect, test } from "bun:test";
import { ConfigError, describeConfig, type Environment, isLoopback, loadConfig } from "../src/config.ts";

const faultsOf = (env: Environment): readonly string[] => {
  try {
    loadConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
};

describe("the defaults", () => {
  test("are those of the documentation", () => {
    expect(loadConfig({})).toMatchObject({
      host: "127.0.0.1",
      port: 8000,
      dataDir: `${process.cwd()}/data`,
      databaseUrl: null,
      models: [],
      embedding: null,
      systemPrompt: "You are a helpful assistant.",
      memory: true,
      memoryModel: "embedded",
      apiKeys: [],
      limits: {
        turnSecondsMax: 600,
        modelConnectSeconds: 10,
        modelFirstByteSeconds: 60,
        modelIdleSeconds: 60,
        shutdownSeconds: 20,
        turnsRunningMax: 10_000,
        requestsOpenMax: 20_000,
        writesWaitingMax: 10_000,
        connectionIdleSeconds: 120,
        bodyBytesMax: 1_048_576,
        bodySecondsMax: 30,
        messageCharsMax: 32_000,
        replyCharsMax: 1_000_000,
        windowTokens: 4_000,
        summaryTokens: 500,
        memoryTokens: 500,
        recallTokens: 800,
        passageTokens: 2_000,
        memoriesMax: 500,
      },
    });
  });

  test("hold where a variable is empty or blank", () => {
    expect(loadConfig({ PORT: "", PARLEY_HOST: " ", OPENAI_API_KEY: "" })).toEqual(loadConfig({}));
  });

  test("nothing of it can be changed", () => {
    const config = loadConfig({ PARLEY_API_KEYS: "0123456789abcdef" });
    for (const part of [
      config,
      config.limits,
      config.models,
      config.apiKeys,
      config.budgets,
      config.budgets.user,
    ]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
  });
});

describe("limits", () => {
  const variables: [variable: string, limit: keyof ReturnType<typeof loadConfig>["limits"]][] = [
    ["PARLEY_TURN_SECONDS_MAX", "turnSecondsMax"],
    ["PARLEY_MODEL_CONNECT_SECONDS", "modelConnectSeconds"],
    ["PARLEY_MODEL_FIRST_BYTE_SECONDS", "modelFirstByteSeconds"],
    ["PARLEY_MODEL_IDLE_SECONDS", "modelIdleSeconds"],
    ["PARLEY_SHUTDOWN_SECONDS", "shutdownSeconds"],
    ["PARLEY_TURNS_RUNNING_MAX", "turnsRunningMax"],
    ["PARLEY_REQUESTS_OPEN_MAX", "requestsOpenMax"],
    ["PARLEY_WRITES_WAITING_MAX", "writesWaitingMax"],
    ["PARLEY_DATABASE_CONNECTIONS_MAX", "databaseConnectionsMax"],
    ["PARLEY_DATABASE_SECONDS_MAX", "databaseSecondsMax"],
    ["PARLEY_CONNECTION_IDLE_SECONDS", "connectionIdleSeconds"],
    ["PARLEY_BODY_BYTES_MAX", "bodyBytesMax"],
    ["PARLEY_BODY_SECONDS_MAX", "bodySecondsMax"],
    ["PARLEY_MESSAGE_CHARS_MAX", "messageCharsMax"],
    ["PARLEY_REPLY_CHARS_MAX", "replyCharsMax"],
    ["PARLEY_WINDOW_TOKENS", "windowTokens"],
    ["PARLEY_SUMMARY_TOKENS", "summaryTokens"],
    ["PARLEY_MEMORY_TOKENS", "memoryTokens"],
    ["PARLEY_RECALL_TOKENS", "recallTokens"],
    ["PARLEY_PASSAGE_TOKENS", "passageTokens"],
    ["PARLEY_MEMORIES_MAX", "memoriesMax"],
    ["PARLEY_DOCUMENT_BYTES_MAX", "documentBytesMax"],
    ["PARLEY_DOCUMENT_WAIT_SECONDS", "documentWaitSeconds"],
    ["PARLEY_DOCUMENT_SECONDS_MAX", "documentSecondsMax"],
    ["PARLEY_DOCUMENT_MEMORY_MIB_MAX", "documentMemoryMibMax"],
    ["PARLEY_DOCUMENT_CHARS_MAX", "documentCharsMax"],
    ["PARLEY_BUDGET_REPLY_TOKENS", "budgetReplyTokens"],
    ["PARLEY_ADDRESS_REQUESTS_PER_MINUTE", "addressRequestsPerMinute"],
    ["PARLEY_UNAUTHORIZED_REQUESTS_PER_MINUTE", "unauthorizedRequestsPerMinute"],
    ["PARLEY_KEY_REQUESTS_PER_MINUTE", "keyRequestsPerMinute"],
    ["PARLEY_USER_REQUESTS_PER_MINUTE", "userRequestsPerMinute"],
    ["PARLEY_ADDRESS_TURNS_RUNNING_MAX", "addressTurnsRunningMax"],
    ["PARLEY_KEY_TURNS_RUNNING_MAX", "keyTurnsRunningMax"],
    ["PARLEY_USER_TURNS_RUNNING_MAX", "userTurnsRunningMax"],
    ["PARLEY_TRUSTED_PROXIES", "trustedProxies"],
  ];
  test.each(variables)("%s sets %s", (variable, limit) => {
    const { limits } = loadConfig({ [variable]: " 77 " });
    expect(limits).toEqual({ ...loadConfig({}).limits, [limit]: 77 });
  });

  test("are all of them settable", () => {
    expect(variables.map(([, limit]) => limit).toSorted()).toEqual(
      (Object.keys(loadConfig({}).limits) as (typeof variables)[number][1][]).toSorted(),
    );
  });

  test.each(["-1", "1.5", "1e3", "0x10", "ten", "1 2", "٣", "9".repeat(20), "1000000001", "0"])(
    "%p is refused",
    (text) => {
      expect(faultsOf({ PARLEY_TURN_SECONDS_MAX: text })).toEqual([
        "PARLEY_TURN_SECONDS_MAX must be a whole number from 1 to 1000000000",
      ]);
    },
  );

  test.each(["7", "256", "0"])("a connection can't idle for %s s: the runtime doesn't keep to it", (text) => {
    expect(faultsOf({ PARLEY_CONNECTION_IDLE_SECONDS: text })).toEqual([
      "PARLEY_CONNECTION_IDLE_SECONDS must be a whole number from 8 to 255",
    ]);
  });

  test("no grace at shutdown is a choice", () => {
    expect(loadConfig({ PARLEY_SHUTDOWN_SECONDS: "0" }).limits.shutdownSeconds).toBe(0);
  });
});

describe("faults", () => {
  test("are reported all at once, each naming its variable and none showing a secret", () => {
    const faults = faultsOf({
      PORT: "70000",
      PARLEY_JWT_SECRET: "SECRET-that-is-too-short",
      PARLEY_CORS_ORIGINS: "https://SECRET.example/path",
      DATABASE_URL: "mysql://me:SECRET@db/parley",
      OPENAI_BASE_URL: "ftp://SECRET.example",
      PARLEY_FALLBACK_API_KEYS: "SECRET,SECRET",
      PARLEY_FALLBACK_MODELS: "m@http://:bad",
      PARLEY_WINDOW_TOKENS: "SECRET",
      PARLEY_BODY_BYTES_MAX: "-1",
    });
    for (const variable of [
      "PORT",
      "PARLEY_JWT_SECRET",
      "PARLEY_CORS_ORIGINS",
      "DATABASE_URL",
      "OPENAI_BASE_URL",
      "PARLEY_FALLBACK_API_KEYS",
      "PARLEY_FALLBACK_MODELS",
      "PARLEY_WINDOW_TOKENS",
      "PARLEY_BODY_BYTES_MAX",
    ]) {
      expect(faults.filter((fault) => fault.startsWith(variable))).toHaveLength(1);
    }
    expect(faults.length).toBe(9);
    expect(faults.join("\n")).not.toMatch(/(?<!JWT_)SECRET/);
  });

  test.each([
    "short",
    "fifteen-letters",
    "with a space in it",
    "with-ümlaut-in-the-key",
    "0123456789abcdef,short",
  ])("the API key %p is refused and not repeated", (keys) => {
    const faults = faultsOf({ PARLEY_API_KEYS: keys });
    expect(faults).toEqual(["PARLEY_API_KEYS: each key needs at least 16 visible ASCII characters"]);
  });

  test("a model without a place to ask is one", () => {
    expect(faultsOf({ PARLEY_MODEL: "gpt-5" })).toHaveLength(1);
    expect(faultsOf({ PARLEY_FALLBACK_MODELS: "gpt-5" })).toHaveLength(1);
    expect(faultsOf({ PARLEY_MODEL: "embedded" })).toEqual([]);
  });
});

describe("the host", () => {
  test.each(["127.0.0.1", "localhost", "::1", "127.8.9.10"])("%s is this machine's own", (host) => {
    expect(isLoopback(host)).toBe(true);
  });

  test.each(["0.0.0.0", "::", "10.1.2.3", "parley.example", "127.0.0.1.example", "localhost.example"])(
    "%s is not: whether there is a key is asked when the storage is open",
    (host) => {
      expect(isLoopback(host)).toBe(false);
      expect(faultsOf({ PARLEY_HOST: host })).toEqual([]);
    },
  );
});

describe("API keys", () => {
  test("have the role that stands before them, service if none", () => {
    const { apiKeys } = loadConfig({
      PARLEY_API_KEYS: "0123456789abcdef, admin:0123456789abcdefg ,service:0123456789abcdefgh,,",
    });
    expect(apiKeys).toEqual([
      { role: "service", secret: "0123456789abcdef" },
      { role: "admin", secret: "0123456789abcdefg" },
      { role: "service", secret: "0123456789abcdefgh" },
    ]);
  });
});

describe("users' tokens", () => {
  const secret = "0123456789abcdef0123456789abcdef";

  test("are none without a secret", () => {
    expect(loadConfig({ PARLEY_JWT_ISSUER: "me" }).jwt).toBeNull();
  });

  test("have a secret of at least 32 bytes, and an issuer and an audience", () => {
    expect(loadConfig({ PARLEY_JWT_SECRET: secret }).jwt).toEqual({
      secret,
      issuer: "parley",
      audience: "parley",
    });
    const named = { PARLEY_JWT_ISSUER: "https://shop.example", PARLEY_JWT_AUDIENCE: "chat" };
    expect(loadConfig({ PARLEY_JWT_SECRET: secret, ...named }).jwt).toMatchObject({
      issuer: "https://shop.example",
      audience: "chat",
    });
    expect(faultsOf({ PARLEY_JWT_SECRET: secret.slice(1) })).toHaveLength(1);
    expect(faultsOf({ PARLEY_JWT_SECRET: "ü".repeat(16) })).toEqual([]);
  });
});

describe("origins", () => {
  test("are exact, or any", () => {
    const { corsOrigins } = loadConfig({
      PARLEY_CORS_ORIGINS: "https://app.example, http://localhost:5173",
    });
    expect(corsOrigins).toEqual(["https://app.example", "http://localhost:5173"]);
    expect(loadConfig({ PARLEY_CORS_ORIGINS: "*" }).corsOrigins).toEqual(["*"]);
  });

  test.each([
    "app.example",
    "https://app.example/",
    "https://*.example",
    "https://App.example",
    "https://app.example:443",
    "null",
    "file:///",
    "https://app.example,x",
  ])("%p is refused", (text) => {
    expect(faultsOf({ PARLEY_CORS_ORIGINS: text })).toHaveLength(1);
  });
});

describe("models", () => {
  test("a key alone means OpenAI", () => {
    expect(loadConfig({ OPENAI_API_KEY: "sk-x" }).models).toEqual([
      { model: "gpt-5-mini", baseUrl: null, apiKey: "sk-x" },
    ]);
  });

  test("a base URL alone is a server that needs no key", () => {
    expect(
      loadConfig({ OPENAI_BASE_URL: "http://localhost:11434/v1", PARLEY_MODEL: "llama" }).models,
    ).toEqual([{ model: "llama", baseUrl: "http://localhost:11434/v1", apiKey: null }]);
  });

  test("embedded wins over both", () => {
    expect(loadConfig({ OPENAI_API_KEY: "sk-x", PARLEY_MODEL: "embedded" }).models).toEqual([]);
  });

  test("fallbacks follow in order; at another place the first one's key is not sent", () => {
    const { models } = loadConfig({
      OPENAI_API_KEY: "sk-first",
      PARLEY_FALLBACK_MODELS: "small, other@https://two.example/v1,third@http://three.example/v1",
      PARLEY_FALLBACK_API_KEYS: ",,sk-third",
    });
    expect(models.slice(1)).toEqual([
      { model: "small", baseUrl: null, apiKey: "sk-first" },
      { model: "other", baseUrl: "https://two.example/v1", apiKey: null },
      { model: "third", baseUrl: "http://three.example/v1", apiKey: "sk-third" },
    ]);
  });
});

describe("memory", () => {
  test("is on, and worked on by the model that answers, unless another is named", () => {
    expect(loadConfig({ OPENAI_API_KEY: "sk-x" })).toMatchObject({ memory: true, memoryModel: null });
    const named = loadConfig({ OPENAI_API_KEY: "sk-x", PARLEY_MEMORY_MODEL: "small", PARLEY_MEMORY: "ON" });
    expect(named).toMatchObject({ memory: true, memoryModel: "small" });
  });

  test("without a language model is worked on by patterns, and by no model that can't be asked", () => {
    expect(loadConfig({ PARLEY_MODEL: "embedded", OPENAI_API_KEY: "sk-x" }).memoryModel).toBe("embedded");
    expect(faultsOf({ PARLEY_MEMORY_MODEL: "small" })).toHaveLength(1);
    expect(faultsOf({ PARLEY_MEMORY_MODEL: "embedded" })).toEqual([]);
  });

  test("can be switched off, and not in other words", () => {
    expect(loadConfig({ PARLEY_MEMORY: "off" }).memory).toBe(false);
    for (const text of ["false", "0", "no", "offf"]) {
      expect(faultsOf({ PARLEY_MEMORY: text })).toEqual(["PARLEY_MEMORY must be on or off"]);
    }
  });
});

describe("the log", () => {
  test("tells what happens, and nothing of what is said", () => {
    expect(loadConfig({})).toMatchObject({ logLevel: "info", logContent: false });
    const told = loadConfig({ PARLEY_LOG_LEVEL: "WARN", PARLEY_LOG_CONTENT: "1" });
    expect(told).toMatchObject({ logLevel: "warn", logContent: true });
  });

  test("has no other levels, and no other words for yes", () => {
    expect(faultsOf({ PARLEY_LOG_LEVEL: "loud" })).toEqual([
      "PARLEY_LOG_LEVEL must be one of info, warn, error",
    ]);
    expect(faultsOf({ PARLEY_LOG_CONTENT: "true" })).toEqual(["PARLEY_LOG_CONTENT must be 0 or 1"]);
  });
});

describe("the embedding model", () => {
  test("is none unless it is named", () => {
    expect(loadConfig({ OPENAI_API_KEY: "sk-x" }).embedding).toBeNull();
    expect(loadConfig({ PARLEY_EMBEDDING_MODEL: " " }).embedding).toBeNull();
  });

  test("is asked where the model is, with its key, also where no model answers", () => {
    const env = { PARLEY_EMBEDDING_MODEL: "small", OPENAI_API_KEY: "sk-x" };
    const expected = { model: "small", baseUrl: null, apiKey: "sk-x" };
    expect(loadConfig(env).embedding).toEqual(expected);
    expect(loadConfig({ ...env, PARLEY_MODEL: "embedded" }).embedding).toEqual(expected);
    const baseUrl = "http://localhost:11434/v1";
    expect(loadConfig({ PARLEY_EMBEDDING_MODEL: "small", OPENAI_BASE_URL: baseUrl }).embedding).toEqual({
      model: "small",
      baseUrl,
      apiKey: null,
    });
  });

  test("at a place of its own gets its own key, and never the model's", () => {
    const env = { PARLEY_EMBEDDING_MODEL: "small@https://two.example/v1", OPENAI_API_KEY: "sk-x" };
    const expected = { model: "small", baseUrl: "https://two.example/v1", apiKey: null };
    expect(loadConfig(env).embedding).toEqual(expected);
    expect(loadConfig({ ...env, PARLEY_EMBEDDING_API_KEY: "sk-own" }).embedding).toEqual({
      ...expected,
      apiKey: "sk-own",
    });
  });

  test.each([
    { PARLEY_EMBEDDING_MODEL: "small" },
    { PARLEY_EMBEDDING_MODEL: "small@http://:bad" },
    { PARLEY_EMBEDDING_MODEL: "@https://two.example/v1" },
    { PARLEY_EMBEDDING_API_KEY: "sk-own" },
  ])("%j is a fault", (env) => {
    const faults = faultsOf(env);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toStartWith("PARLEY_EMBEDDING_");
    expect(faults[0]).not.toContain("sk-own");
  });
});

describe("what is printed", () => {
  test("names every variable and masks every secret", () => {
    const config = loadConfig({
      OPENAI_API_KEY: "SECRET-of-openai",
      OPENAI_BASE_URL: "https://user:SECRET@gateway.example/v1?key=SECRET",
      PARLEY_FALLBACK_MODELS: "other@https://x:SECRET@two.example/v1?k=SECRET",
      PARLEY_FALLBACK_API_KEYS: "SECRET-of-two",
      PARLEY_EMBEDDING_MODEL: "small@https://x:SECRET@three.example/v1?k=SECRET",
      PARLEY_EMBEDDING_API_KEY: "SECRET-of-three",
      PARLEY_API_KEYS: "SECRET-0123456789,admin:SECRET-9876543210",
      PARLEY_JWT_SECRET: "SECRET-0123456789abcdef0123456789abcdef",
      PARLEY_TURN_SECONDS_MAX: "33",
    });
    const lines = describeConfig(config);
    const printed = lines.map(([name, value]) => `${name}=${value}`).join("\n");
    expect(printed).not.toMatch(/(?<!JWT_)SECRET/);
    expect(printed).toContain("OPENAI_BASE_URL=https://gateway.example/v1");
    expect(printed).toContain("OPENAI_API_KEY=********");
    expect(printed).toContain("PARLEY_TURN_SECONDS_MAX=33");
    expect(printed).toContain("PARLEY_EMBEDDING_MODEL=small@https://three.example/v1");
    const names = lines.map(([name]) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const name of [
      "PARLEY_HOST",
      "PORT",
      "PARLEY_DATA_DIR",
      "PARLEY_MODEL",
      "PARLEY_API_KEYS",
      "PARLEY_SYSTEM_PROMPT",
      "PARLEY_MEMORY",
      "PARLEY_MEMORY_MODEL",
      "PARLEY_LOG_LEVEL",
      "PARLEY_LOG_CONTENT",
      "PARLEY_PRICES_FILE",
      "PARLEY_BUDGETS",
      "PARLEY_RETENTION_DAYS",
    ]) {
      expect(names).toContain(name);
    }
    expect(names.filter((name) => name.startsWith("PARLEY_"))).toHaveLength(
      20 + Object.keys(config.limits).length,
    );
  });
});
