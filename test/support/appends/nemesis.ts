/** Whoever does to instances and their database what machines, networks and operators do. */
import type { PostgresServer } from "../postgres.ts";
import { between, fork, oneOf, type Random } from "../random.ts";
import type { Service } from "../service.ts";

export type FaultKind =
  | "instance killed"
  | "instance paused"
  | "instance paused beyond its lease"
  | "database restarted"
  | "database killed"
  | "connections cut";

export interface NemesisOptions {
  readonly instances: readonly Service[];
  readonly server: PostgresServer;
  /** The database that is used. */
  readonly url: string;
  readonly random: Random;
  /** An instance that is paused for longer has lost its turns. */
  readonly leaseMs: number;
  /** Whether there is still something to disturb. */
  readonly goesOn: () => boolean;
}

/** When something was done, by the clock of the history. */
export interface Fault {
  kind: FaultKind;
  fromMs: number;
  toMs: number;
}

/**
 * Disturbs until it needn't go on any more and every kind of fault has been there; then all instances and the database
 * are well again. Pauses are long: while an instance is paused, the others have their faults. Gives
 * them all.
 */
export async function disturb(options: NemesisOptions): Promise<Fault[]> {
  const { random, goesOn } = options;
  const faults: Fault[] = [];
  const acts = faultsOf(options);
  const lane = async (kinds: readonly FaultKind[], restMsMax: number): Promise<void> => {
    const own = fork(random);
    let deck: FaultKind[] = [];
    while (goesOn() || kinds.some((kind) => faults.every((fault) => fault.kind !== kind))) {
      await Bun.sleep(between(own, 1_500, restMsMax));
      if (deck.length === 0) deck = shuffled(own, kinds);
      const kind = deck.pop()!;
      const fromMs = performance.now();
      await acts[kind](own);
      faults.push({ kind, fromMs, toMs: performance.now() });
    }
  };
  await Promise.all([
    lane(["instance paused", "instance paused beyond its lease"], 8_000),
    lane(
      ["instance killed", "instance killed", "database restarted", "database killed", "connections cut"],
      3_500,
    ),
  ]);
  return faults;
}

function faultsOf({
  instances,
  server,
  url,
  leaseMs,
}: NemesisOptions): Record<FaultKind, (random: Random) => Promise<void>> {
  /** Those that something is being done to. */
  const troubled = new Set<Service>();
  const withOne = async (random: Random, act: (instance: Service) => Promise<void>): Promise<void> => {
    const instance = oneOf(
      random,
      instances.filter((each) => !troubled.has(each)),
    );
    troubled.add(instance);
    try {
      await act(instance);
    } finally {
      troubled.delete(instance);
    }
  };
  const pause = (random: Random, ms: number): Promise<void> =>
    withOne(random, async (instance) => {
      instance.signal("SIGSTOP");
      await Bun.sleep(ms);
      instance.signal("SIGCONT");
    });
  return {
    "instance killed": (random) =>
      withOne(random, async (instance) => {
        await instance.kill();
        await Bun.sleep(between(random, 0, 1_500));
        await instance.restart();
      }),
    "instance paused": (random) => pause(random, between(random, 500, 4_000)),
    "instance paused beyond its lease": (random) => pause(random, leaseMs + between(random, 1_000, 4_000)),
    "database restarted": async (random) => {
      await server.stop();
      await Bun.sleep(between(random, 0, 1_500));
      await server.startAgain();
    },
    "database killed": async (random) => {
      await server.kill();
      await Bun.sleep(between(random, 0, 500));
      await server.startAgain();
    },
    "connections cut": () => cutConnections(url),
  };
}

/** Ends all connections of a database, as a failover does. */
export async function cutConnections(url: string): Promise<void> {
  const to = new URL(url);
  const name = to.pathname.slice(1);
  to.pathname = "/postgres";
  await using sql = new Bun.SQL(to.href, { max: 1 });
  await sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
}

function shuffled<T>(random: Random, all: readonly T[]): T[] {
  return all
    .map((each) => ({ each, place: random() }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ each }) => each);
}
