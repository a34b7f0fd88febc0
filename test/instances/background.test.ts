/** What instances do in the background: each piece of work is one's, and goes on elsewhere where that one dies. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { DocumentView } from "../../src/documents/schema.ts";
import { Slots } from "../../src/slots.ts";
import { startEmbeddingServer } from "../support/embedding-server.ts";
import { startInstances } from "../support/instances.ts";
import { addDocument, textOf, upload } from "../support/library.ts";
import { startModelServer } from "../support/model-server.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { type Service, testModel, until } from "../support/service.ts";
import { wholeTurn } from "../support/turns.ts";

setDefaultTimeout(240_000);

/** So long a claim holds, by the clock of the database; another instance looks for it as often as that. */
const claimSeconds = 15;
const takeOverMs = 90_000;

const newDatabase = databasesOfFile();
const sections = 400;
const text = Array.from(
  { length: sections },
  (_, index) => `# Section ${index}\n\n${`The walrus of section ${index} swims. `.repeat(20)}\n\n`,
).join("");

/** Processes start slowly where many do at once. */
const starting = new Slots(1);

/** Three instances and their database. */
async function openFleet(options: Parameters<typeof startInstances>[2] = {}) {
  const url = await newDatabase();
  const database = new Bun.SQL(url, { max: 3 });
  const instances = await starting.use(new AbortController().signal, () => startInstances(3, url, options));
  const [one, two, three] = instances.all as [Service, Service, Service];
  return {
    one,
    two,
    three,
    all: instances.all,
    database,
    async [Symbol.asyncDispose]() {
      await instances[Symbol.asyncDispose]();
      await database.close();
    },
  };
}

type Fleet = Awaited<ReturnType<typeof openFleet>>;

/** How often an event was logged, by all instances, with this in the line. */
const timesLogged = ({ all }: Pick<Fleet, "all">, ...parts: string[]): number =>
  all.flatMap(({ logs }) => logs).filter((line) => parts.every((part) => line.includes(part))).length;

async function timePasses(database: Bun.SQL, seconds: number): Promise<void> {
  const [{ at }] = await database`select clock_timestamp() + make_interval(secs => ${seconds}) as at`;
  const passed = async () => (await database`select clock_timestamp() > ${at} as passed`)[0].passed;
  await until(`${seconds} s have passed`, passed, 2_000 * seconds);
}

const documentOf = async (service: Service, id: string): Promise<DocumentView> =>
  (await service.get<DocumentView>(`/v1/documents/${id}`)).body;

/**
 * A document that the first instance has begun to store, and whose passages can't be stored before it is let go on.
 */
async function heldDocument({ one, database }: Fleet) {
  const locking = await database.reserve();
  await locking.unsafe("begin; lock table passages in share mode");
  const { body } = await upload(one, "held.md", text);
  await until("passages wait to be stored", async () => {
    const waiting = await database`
      select from pg_locks where relation = 'passages'::regclass and not granted`;
    return waiting.length > 0;
  });
  return {
    id: body.id,
    async attempts(): Promise<number> {
      const [row] =
        await database`select r.attempt from document_revisions r join documents d on d.n = r.document_n
        where d.id = ${body.id}`;
      return row.attempt;
    },
    async letGo(): Promise<void> {
      await locking.unsafe("rollback");
      locking.release();
    },
  };
}

/** Whether a document is as it would be where nothing had happened to it. */
async function expectWhole({ two, three }: Fleet, id: string): Promise<void> {
  const untouched = await addDocument(two, { name: "untouched.md", text });
  const ready = await documentOf(three, id);
  expect(ready).toMatchObject({
    status: "ready",
    version: 1,
    length: text.length,
    passage_count: untouched.passage_count,
    error: null,
  });
  expect(await textOf(three, id)).toBe(text);
}

const inBackground = { env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } };

// What these wait for is time to pass.
describe.concurrent("documents", () => {
  test("are processed once each, wherever they were uploaded", async () => {
    await using fleet = await openFleet(inBackground);
    const documents = 15;
    const added = await Promise.all(
      Array.from({ length: documents }, (_, index) =>
        upload(fleet.all[index % 3]!, `${index}.md`, `# Document ${index}\n\nA walrus.`),
      ),
    );
    expect(new Set(added.map(({ status }) => status))).toEqual(new Set([202]));
    for (const { body } of added) {
      const ready = async () => (await documentOf(fleet.two, body.id)).status === "ready";
      await until("the document is ready", ready, takeOverMs);
    }
    // Beyond the next look for what is left.
    await timePasses(fleet.database, 11);
    expect(timesLogged(fleet, "document processed", '"ready"')).toBe(documents);
    const attempts = await fleet.database`select distinct attempt from document_revisions`;
    expect([...attempts]).toEqual([{ attempt: 1 }]);
  });

  test("are their instance's while that lives, and go on elsewhere after it was killed", async () => {
    await using fleet = await openFleet(inBackground);
    const { one, two, database } = fleet;
    const held = await heldDocument(fleet);
    await timePasses(database, claimSeconds + 2);
    expect(await held.attempts()).toBe(1);
    await one.kill();
    await held.letGo();
    const ready = async () => (await documentOf(two, held.id)).status === "ready";
    await until("another instance has processed it", ready, takeOverMs);
    expect(await held.attempts()).toBe(2);
    await expectWhole(fleet, held.id);
  });

  test("that a paused instance was at are another's, which it doesn't disturb when it comes back", async () => {
    await using fleet = await openFleet(inBackground);
    const { one, two } = fleet;
    const held = await heldDocument(fleet);
    one.signal("SIGSTOP");
    await held.letGo();
    const taken = async () => (await held.attempts()) === 2;
    await until("another instance is at it", taken, takeOverMs);
    one.signal("SIGCONT");
    const ready = async () => (await documentOf(two, held.id)).status === "ready";
    await until("it is processed", ready, takeOverMs);
    await until("the first one has noticed", () => timesLogged({ all: [one] }, "claim_lost") > 0, takeOverMs);
    expect(await held.attempts()).toBe(2);
    expect(timesLogged({ all: [one] }, "document processed", '"ready"')).toBe(0);
    await expectWhole(fleet, held.id);
  });
});

describe.concurrent("memories", () => {
  test("are drawn from a turn by the instance that ran it, and by one other where that was killed", async () => {
    const model = startModelServer();
    await using fleet = await openFleet({ model, env: { PARLEY_MEMORY_MODEL: testModel } });
    const { one, two, three, all, database } = fleet;
    const toRemember = async (): Promise<number> =>
      (await database`select count(*)::int as turns from turns where to_remember`)[0].turns;
    for (const [index, service] of all.entries()) {
      await wholeTurn(service, model, ["Noted."], { user_id: `user-${index}`, message: "I like marmots." });
    }
    await until("all are remembered", async () => (await toRemember()) === 0);
    expect(model.memory.requests.length).toBe(3);

    const held = model.memory.hold();
    await wholeTurn(one, model, ["Noted."], { user_id: "ada", message: "I live in Porto." });
    await held.request;
    // Beyond the next look for what is left.
    await timePasses(database, 17);
    expect(model.memory.requests.length).toBe(4);
    model.memory.reply(['{"memories": [{"text": "The user lives in Porto."}]}']);
    await one.kill();
    await until("it is remembered elsewhere", async () => (await toRemember()) === 0, takeOverMs);
    await timePasses(database, 17);
    expect(model.memory.requests.length).toBe(5);
    for (const service of [two, three]) {
      const { body } = await service.get<{ memories: { text: string }[] }>("/v1/users/ada/memories");
      expect(body.memories.map(({ text }) => text)).toEqual(["The user lives in Porto."]);
    }
    await model.close();
  });
});

describe.concurrent("vectors", () => {
  test("are asked for by one instance, and by another one where that was killed", async () => {
    const embeddings = startEmbeddingServer();
    const env = { PARLEY_EMBEDDING_MODEL: `some-model@${embeddings.url}` };
    await using fleet = await openFleet({ env });
    const { one, two, all, database } = fleet;
    // Which process has which name is told by the turns that it runs.
    const names = new Map<string, Service>();
    for (const service of all) {
      const { body } = await service.post<{ turn_id: string }>("/v1/chat", {
        user_id: "ada",
        message: "Hello",
      });
      const [turn] = await database`select instance_id from turns where id = ${body.turn_id}`;
      names.set(turn.instance_id, service);
    }
    const holder = async (): Promise<Service | null> => {
      const [claim] =
        await database`select holder from claims where task = 'vectors' and until > clock_timestamp()`;
      return claim === undefined ? null : names.get(claim.holder)!;
    };
    const embeddedOf = async (): Promise<boolean> => {
      const [row] =
        await database`select (select count(*) from passages) = (select count(*) from passage_vectors) as all`;
      return row.all;
    };
    /** How often each passage was sent to be embedded. */
    const timesSent = (word: string): number[] => {
      const sent = new Map<string, number>();
      for (const input of embeddings.requests.flatMap(({ body }) => body.input)) {
        if (input.includes(word)) sent.set(input, (sent.get(input) ?? 0) + 1);
      }
      return [...sent.values()];
    };
    await addDocument(two, { name: "walrus.md", text });
    await until("all passages have vectors", embeddedOf, takeOverMs);
    const times = timesSent("walrus");
    expect(times.length).toBeGreaterThan(sections / 4);
    expect(new Set(times)).toEqual(new Set([1]));

    const first = (await holder())!;
    expect(first).toBeDefined();
    await first.kill();
    const left = first === one ? two : one;
    await addDocument(left, { name: "marmot.md", text: text.replaceAll("walrus", "marmot") });
    await until("all passages have vectors again", embeddedOf, takeOverMs);
    expect(await holder()).not.toBe(first);
    expect(new Set(timesSent("marmot"))).toEqual(new Set([1]));
    expect(new Set(timesSent("walrus"))).toEqual(new Set([1]));
    await embeddings.close();
  });
});
