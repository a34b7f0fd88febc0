/** The background work of memory on a real store, beside no service: with a scripted model, or without any. */
import { rmSync } from "node:fs";
import { Claims } from "../../src/claims.ts";
import type { Limits } from "../../src/config.ts";
import { newId } from "../../src/ids.ts";
import type { Log } from "../../src/log.ts";
import type { Model } from "../../src/models/model.ts";
import { openAiCompatible } from "../../src/models/openai-compatible.ts";
import { withRetries } from "../../src/models/retry.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { openSqliteStore } from "../../src/storage/sqlite/store.ts";
import type { Store } from "../../src/storage/store.ts";
import { noSpending } from "../contracts/records.ts";
import type { ModelServer } from "./model-server.ts";
import { limitsWith } from "./models.ts";
import { temporaryDirectory, testModel } from "./service.ts";

const workspace_id = "default";

export interface WorkbenchOptions {
  /** Of PostgreSQL, which several instances share; without it they have SQLite, alone. */
  databaseUrl?: string;
  instanceId?: string;
}

export interface Said {
  message: string;
  tokens: number;
}

export interface StoredTurn {
  conversation_id: string;
  turn_id: string;
  user_message_id: string;
  created_at: number;
}

export interface Workbench extends AsyncDisposable {
  readonly store: Store;
  /** Which ran the turns. */
  readonly instanceId: string;
  readonly claims: Claims;
  readonly limits: Limits;
  readonly log: Log;
  /** The lines that were logged, as they were given. */
  readonly logged: Record<string, unknown>[];
  readonly dataDir: string;
  /** The model of a server, with the retries of the service. */
  modelOf(server: ModelServer): Model;
  /** A whole turn: the message, then the reply. */
  turn(
    user_id: string,
    said: Said,
    replied: Said,
    more?: { conversation_id?: string | null; to_remember?: boolean; now_ms?: number },
  ): Promise<StoredTurn>;
  /** Closes the store and opens it again, as a new process does. */
  reopen(): Promise<void>;
}

/** Opens a store, in a directory of its own or in a database. */
export async function openWorkbench(
  limits: Partial<Limits> = {},
  { databaseUrl, instanceId: instance_id = "inst_test" }: WorkbenchOptions = {},
): Promise<Workbench> {
  const dataDir = temporaryDirectory();
  const open = (): Promise<Store> =>
    databaseUrl === undefined ? openSqliteStore(dataDir) : openPostgresStore(databaseUrl);
  let store = await open();
  const logged: Record<string, unknown>[] = [];
  const note = (line: object): void => void logged.push({ ...line });
  const log = { info: note, warn: note, error: note } as unknown as Log;
  const all = limitsWith(limits);
  return {
    get store() {
      return store;
    },
    instanceId: instance_id,
    get claims() {
      return new Claims(store, instance_id, log);
    },
    limits: all,
    log,
    logged,
    dataDir,
    modelOf: ({ url }) =>
      withRetries([openAiCompatible({ model: testModel, baseUrl: url, apiKey: "test" }, all)], {
        log,
        backoffMs: 1,
      }),
    async turn(
      user_id,
      said,
      replied,
      { conversation_id = null, to_remember = false, now_ms = Date.now() } = {},
    ) {
      const scope = { workspace_id, user_id };
      const { turn } = await store.startTurn(scope, {
        turn_id: newId("turn"),
        user_message_id: newId("message"),
        message_id: newId("message"),
        conversation_id,
        new_conversation_id: newId("conversation"),
        user_id,
        message: said.message,
        message_tokens: said.tokens,
        model: testModel,
        title: "Test",
        metadata: null,
        instance_id,
        lease_seconds: 60,
        use_memory: true,
        idempotency: null,
        key_id: "key_test",
        reservation: null,
        slots: [],
        now_ms,
      });
      await store.endTurn(
        turn.id,
        instance_id,
        {
          message: said.message,
          status: "completed",
          response: replied.message,
          response_tokens: replied.tokens,
          finish_reason: "stop",
          model: testModel,
          sources: [],
          citations: [],
          memories_used: [],
          usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, estimated: true },
          spent: noSpending,
          error: null,
          receipt: null,
          to_remember,
          reply_recallable: true,
        },
        now_ms,
      );
      const { conversation_id: id, user_message_id, created_at } = turn;
      return { conversation_id: id, turn_id: turn.id, user_message_id, created_at };
    },
    async reopen() {
      await store.close();
      store = await open();
    },
    async [Symbol.asyncDispose]() {
      await store.close();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
