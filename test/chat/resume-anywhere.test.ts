/** Resuming at random offsets and times, of replies that hold anything: what was read adds up to what is stored. */
import { expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { anyClients, anyReply, kept } from "../support/any-reply.ts";
import { startModelServer } from "../support/model-server.ts";
import { propertyOptions } from "../support/properties.ts";
import { neverCut, ResumingClient } from "../support/resuming-client.ts";
import { startService } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { holdTurn, resume, turnOf, untilEnded } from "../support/turns.ts";

setDefaultTimeout(60_000);

/** Offsets as parts of a million of one and a half replies: some lie beyond the end. */
const anyOffsets = fc.array(fc.nat(1_500_000), { minLength: 1, maxLength: 4 });
const offsetIn = (text: string, part: number): number => Math.round((part / 1_000_000) * text.length);

test("whatever is in a reply, whoever resumes it anywhere and at any time gets the rest once", async () => {
  const model = startModelServer();
  await using service = await startService({ model });
  const ended: { id: string; text: string; offsets: number[] }[] = [];

  await fc.assert(
    fc.asyncProperty(anyReply, anyClients, anyOffsets, async (reply, clients, offsets) => {
      const text = kept(reply.map((piece) => piece.text).join(""));
      const { turn, held } = await holdTurn(service, model, "", { user_id: crypto.randomUUID() });
      const path = `/v1/turns/${turn.id}/stream`;

      const follow = async ({ visits }: (typeof clients)[number]): Promise<ResumingClient> => {
        const client = new ResumingClient();
        for (const { forgets, ...cut } of visits) {
          if (client.ends > 0) break;
          await client.read(service.port, path, cut);
          client.forget(forgets);
        }
        if (client.ends === 0) await client.read(service.port, path, neverCut);
        return client;
      };
      const following: Promise<ResumingClient>[] = [];
      // Beyond what there is they wait, and what comes then starts at their offset.
      const jumping = offsets.map(async (part) =>
        readTranscript(await resume(service, turn.id, offsetIn(text, part))),
      );
      for (const [index, piece] of reply.entries()) {
        following.push(...clients.filter(({ comesAt }) => comesAt === index).map(follow));
        held.send(piece.text);
        if (piece.waitMs > 0) await Bun.sleep(piece.waitMs);
      }
      held.finish();
      await untilEnded(service, turn.id);
      following.push(...clients.filter(({ comesAt }) => comesAt >= reply.length).map(follow));

      for (const client of await Promise.all(following))
        expect([client.text, client.ends]).toEqual([text, 1]);
      for (const [index, view] of (await Promise.all(jumping)).entries()) {
        expect(view.text).toBe(text.slice(offsetIn(text, offsets[index]!)));
        expect(view.done).toMatchObject({ status: "completed", length: text.length });
      }
      expect(await turnOf(service, turn.id)).toMatchObject({ response: text, length: text.length });
      ended.push({ id: turn.id, text, offsets });
    }),
    propertyOptions(40),
  );

  await service.kill();
  await service.restart();
  for (const { id, text, offsets } of ended) {
    expect((await turnOf(service, id)).response).toBe(text);
    for (const offset of [...offsets.map((part) => offsetIn(text, part)), text.length]) {
      const view = await readTranscript(await resume(service, id, offset));
      expect([view.startId, view.text]).toEqual([`${id}:${offset}`, text.slice(offset)]);
    }
  }
  await model.close();
});
