/** The database is shut down, for longer than a lease, and started again while turns run and are watched from other instances. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { Turn } from "../../src/chat/schema.ts";
import { startInstances } from "../support/instances.ts";
import { followUntil } from "../support/live-views.ts";
import { startModelServer } from "../support/model-server.ts";
import { PostgresServer } from "../support/postgres.ts";
import { type Service, until } from "../support/service.ts";
import { holdTurn, turnOf, untilEnded } from "../support/turns.ts";

setDefaultTimeout(90_000);

/** Longer than a lease: nobody could renew theirs, and nobody is dead. */
const awayMs = 12_000;

test("streams go on where the turn runs, catch up elsewhere, and what ended meanwhile is told everywhere", async () => {
  await using server = await PostgresServer.start();
  const model = startModelServer();
  await using instances = await startInstances(3, await server.database(), { model });
  const [one, two, three] = instances.all as [Service, Service, Service];
  const { turn, held } = await holdTurn(one, model, "before ");
  const { turn: ending, held: heldEnding } = await holdTurn(one, model, "short");
  const here = await followUntil(one, turn.id, "before ");
  const there = await followUntil(two, turn.id, "before ");
  const end = await followUntil(three, ending.id, "short");

  await server.stop();
  for (const word of ["while ", "it ", "is 😀 ", "away "]) held.send(word);
  heldEnding.finish();
  const text = "before while it is 😀 away ";
  await until("it goes on where it runs", () => here.text === text);
  await Bun.sleep(awayMs);
  expect(there.done).toBeNull();
  await server.startAgain();

  await until("it catches up elsewhere", () => there.text === text);
  await end.whole;
  // It could not be stored in time, and its watchers were told so.
  const ended = await turnOf(two, ending.id);
  expect(ended).toMatchObject({
    status: "interrupted",
    response: "short",
    error: { code: "storage_unavailable" },
  });
  expect(end.text).toBe("short");
  expect(end.done).toMatchObject({ status: ended.status, error: ended.error, usage: ended.usage });
  held.send("and after");
  await until("it is heard again", () => there.text === `${text}and after`);
  const stopped = await three.post<Turn>(`/v1/turns/${turn.id}/stop`, {});
  expect(stopped.body).toMatchObject({ status: "stopped", response: `${text}and after` });
  for (const view of [here, there]) {
    await view.whole;
    expect([view.text, view.done?.status]).toEqual([`${text}and after`, "stopped"]);
  }
  await untilEnded(one, turn.id);
  await model.close();
});
