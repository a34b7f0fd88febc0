/** Any instance answers any request: what one has stored, the others have. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { startInstances } from "../support/instances.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();

test("instances that start at once on an empty database all serve, and share what is stored", async () => {
  await using instances = await startInstances(3, await newDatabase());
  const [first, second, third] = instances.all;
  const { status, body } = await first!.post<{ conversation_id: string; turn_id: string; response: string }>(
    "/v1/chat",
    { user_id: "ada", message: "Hello" },
  );
  expect(status).toBe(200);
  const turn = await second!.get<{ response: string; status: string }>(`/v1/turns/${body.turn_id}`);
  expect(turn.body).toMatchObject({ response: body.response, status: "completed" });
  const conversation = await third!.get<{ messages: { content: string }[] }>(
    `/v1/conversations/${body.conversation_id}`,
  );
  expect(conversation.body.messages.map(({ content }) => content)).toEqual(["Hello", body.response]);
  const next = await third!.post<{ conversation_id: string }>("/v1/chat", {
    user_id: "ada",
    message: "And again",
    conversation_id: body.conversation_id,
  });
  expect(next.body.conversation_id).toBe(body.conversation_id);
});
