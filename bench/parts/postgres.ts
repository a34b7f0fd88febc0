/** `POST /v1/chat` with the data in PostgreSQL: beside SQLite and bytes passed through, and one instance beside three. */
import { cpuSeconds } from "../support/accounting.ts";
import type { Bench, Part } from "../support/bench.ts";
import { interleave, runs } from "../support/interleave.ts";
import type { Load } from "../support/load.ts";
import type { Postgres } from "../support/postgres.ts";
import type { Server } from "../support/processes.ts";
import { burst } from "../support/reply-shape.ts";
import { median } from "../support/statistics.ts";
import { microseconds, type Row } from "../support/table.ts";

const path = "/v1/chat";
const instancesMany = 3;

interface Figures {
  perSecond: number;
  /** Seconds of CPU time for an answer. */
  service: number;
  database: number;
}

/** Measures servers that have a part in the same answers, and PostgreSQL where they use it. */
function measureOf(bench: Bench, servers: readonly Server[], answer: Load["answer"], postgres?: Postgres) {
  const seen: Figures[] = [];
  const measure = async (): Promise<number> => {
    const { result, secondsPerAnswer } = await bench.measureAll(
      {
        service: () => servers.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0),
        database: () => postgres?.cpuSeconds() ?? 0,
      },
      {
        port: servers[0]!.port,
        ports: servers.map(({ port }) => port),
        method: "POST",
        path,
        answer,
        reply: burst,
        clients: 64,
        startEveryMs: 0,
        requestsPerClient: 5000,
        seconds: 3,
        readEvery: 16,
      },
    );
    const perSecond = result.answered / result.seconds;
    seen.push({ perSecond, ...secondsPerAnswer });
    return perSecond;
  };
  /** Medians of the last runs: the first one warmed up. */
  const figures = (): Figures => {
    const of = (name: keyof Figures): number => median(seen.slice(-runs).map((each) => each[name]));
    return { perSecond: of("perSecond"), service: of("service"), database: of("database") };
  };
  return { measure, figures };
}

async function warmUp(bench: Bench, servers: readonly Server[]): Promise<void> {
  for (const server of servers) await bench.warmUp(server, path, "turn-json");
}

export const postgresTurns: Part = {
  name: "postgres-turns",
  async run(bench: Bench): Promise<Row[]> {
    const postgres = await bench.postgres();
    const service = await bench.service({ env: { DATABASE_URL: await postgres.database() } });
    const onSqlite = await bench.service();
    const passThrough = await bench.passThrough();
    await warmUp(bench, [service, onSqlite]);
    const measured = {
      postgres: measureOf(bench, [service], "turn-json", postgres),
      sqlite: measureOf(bench, [onSqlite], "turn-json"),
      passThrough: measureOf(bench, [passThrough], "model-bytes"),
    };
    await interleave({
      postgres: measured.postgres.measure,
      sqlite: measured.sqlite.measure,
      passThrough: measured.passThrough.measure,
    });
    const ours = measured.postgres.figures();
    const sqlite = measured.sqlite.figures();
    const passed = measured.passThrough.figures();
    const answers = `${ours.perSecond.toFixed(0)} a second`;
    const cpu = `${microseconds(ours.service)} a turn`;
    return [
      {
        name: "chat on PostgreSQL, 64 clients, durable: answers",
        figure: answers,
        beside: `${sqlite.perSecond.toFixed(0)} on SQLite`,
        ratio: sqlite.perSecond / ours.perSecond,
      },
      {
        name: "chat on PostgreSQL, 64 clients, durable: answers",
        figure: answers,
        beside: `${passed.perSecond.toFixed(0)} passed through`,
        ratio: passed.perSecond / ours.perSecond,
      },
      {
        name: "chat on PostgreSQL: CPU of the service",
        figure: cpu,
        beside: `${microseconds(sqlite.service)} on SQLite`,
        ratio: ours.service / sqlite.service,
      },
      {
        name: "chat on PostgreSQL: CPU of the service",
        figure: cpu,
        beside: `${microseconds(passed.service)} passed through`,
        ratio: ours.service / passed.service,
      },
      {
        name: "chat on PostgreSQL: CPU of PostgreSQL",
        figure: `${microseconds(ours.database)} a turn`,
        beside: `${microseconds(ours.service)} of the service`,
        ratio: ours.database / ours.service,
      },
    ];
  },
};

export const postgresInstances: Part = {
  name: "postgres-instances",
  async run(bench: Bench): Promise<Row[]> {
    const postgres = await bench.postgres();
    const start = (url: string): Promise<Server> => bench.service({ env: { DATABASE_URL: url } });
    const alone = await start(await postgres.database());
    const shared = await postgres.database();
    const many = await Promise.all(Array.from({ length: instancesMany }, () => start(shared)));
    await warmUp(bench, [alone, ...many]);
    const one = measureOf(bench, [alone], "turn-json", postgres);
    const three = measureOf(bench, many, "turn-json", postgres);
    await interleave({ one: one.measure, three: three.measure });
    const [ofOne, ofThree] = [one.figures(), three.figures()];
    return [
      {
        name: `${instancesMany} instances on this machine, 64 clients in turn: answers`,
        figure: `${ofThree.perSecond.toFixed(0)} a second`,
        beside: `${ofOne.perSecond.toFixed(0)} of one`,
        ratio: ofOne.perSecond / ofThree.perSecond,
      },
      {
        name: `${instancesMany} instances on this machine: CPU of all of them`,
        figure: `${microseconds(ofThree.service)} a turn`,
        beside: `${microseconds(ofOne.service)} of one`,
        ratio: ofThree.service / ofOne.service,
      },
      {
        name: `${instancesMany} instances on this machine: CPU of PostgreSQL`,
        figure: `${microseconds(ofThree.database)} a turn`,
        beside: `${microseconds(ofOne.database)} with one`,
        ratio: ofThree.database / ofOne.database,
      },
    ];
  },
};
