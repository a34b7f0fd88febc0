/** A process that stood still (a paused container, a closed lid) doesn't hold that against the model. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { startModelServer } from "../support/model-server.ts";
import { startService, testMsMax, until } from "../support/service.ts";
import { holdTurn, turnOf, untilEnded, untilText } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

/** The longest silence of the model, which is set; and how long the process stands still, which is longer. */
const idleSeconds = 4;
const stoppedMs = 1_000 * idleSeconds + 1_500;

test("what the model sent while the process stood still counts; the model's own silence counts as ever", async () => {
  const model = startModelServer();
  await using service = await startService({
    model,
    env: { PARLEY_MODEL_IDLE_SECONDS: String(idleSeconds) },
  });
  const turns = await Promise.all([1, 2, 3, 4].map(() => holdTurn(service, model, "before ")));
  const silent = turns.pop()!;
  service.signal("SIGSTOP");
  for (const { held } of turns) held.send("meanwhile ");
  await Bun.sleep(stoppedMs);
  service.signal("SIGCONT");
  for (const { turn, held } of turns) {
    await until("the turn goes on", async () => (await turnOf(service, turn.id)).length > 7);
    expect(await turnOf(service, turn.id)).toMatchObject({ status: "running", error: null });
    held.send("after");
    await untilText(service, turn.id, "before meanwhile after");
    held.finish();
    await untilEnded(service, turn.id);
    expect((await turnOf(service, turn.id)).status).toBe("completed");
  }
  await untilEnded(service, silent.turn.id);
  expect(await turnOf(service, silent.turn.id)).toMatchObject({
    status: "failed",
    response: "before ",
    error: { code: "model_timeout" },
  });
  await model.close();
});
