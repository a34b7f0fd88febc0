/** Whether a service runs more replies at once than the 256 requests that Bun's `fetch` runs by itself. */
import { expect } from "bun:test";
import { startGateModel } from "./gate-model.ts";
import { type ServiceOptions, startService } from "./service.ts";

const replies = 300;

/** Starts a service so, and 300 turns whose replies begin only when the model holds all 300 requests. */
export async function expectNoFetchLimit(options: ServiceOptions): Promise<void> {
  const model = startGateModel(replies);
  try {
    await using service = await startService({ ...options, model });
    const turns = await Promise.all(
      Array.from({ length: replies }, async (_, index) => {
        const { body } = await service.post<{ id: string }>("/v1/turns", {
          user_id: `user-${index}`,
          message: "hello",
        });
        return body.id;
      }),
    );
    const reached = await Promise.race([
      model.opened.then(() => "all reached the model"),
      Bun.sleep(15_000).then(() => `only ${model.arrived} of ${replies} reached the model at once`),
    ]);
    expect(reached).toBe("all reached the model");
    for (const id of turns) {
      const events = await (await service.fetch(`/v1/turns/${id}/stream`)).text();
      expect(events).toContain('"token":"through"');
      expect(events).toContain('"status":"completed"');
    }
    expect(model.arrived).toBe(replies);
    expect(await service.stop()).toBe(0);
  } finally {
    await model.close();
  }
}
